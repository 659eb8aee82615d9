"""The worker as the show sees it: a process that is started, watched, killed, and always reaped."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from enum import Enum, auto
from types import TracebackType
from typing import Self

from perdure.demo.stage import Cue
from perdure.demo.worker import REACHED
from perdure.errors import PerdureError

#: how long a worker may take to stop in an orderly way
STOP_SECONDS = 5.0


class Fate(Enum):
    """What may become of a worker."""

    #: it stands still at its cue
    AT_CUE = auto()
    #: its run ended
    ENDED = auto()
    #: somebody else killed it
    KILLED = auto()


class WorkerProcess:
    """One worker. Inside `async with` it is alive; when that ends it is gone, on every path."""

    def __init__(self, store: str, run: str, cue: Cue | None = None) -> None:
        self._command = ["-m", "perdure.demo.worker", "--run", run]
        self._command += ["--cue", str(cue)] if cue else []
        # Not among the arguments, which everybody on the machine may read: the URL may hold a password.
        self._environment = {**os.environ, "PERDURE_STORE": store}
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the process is gone
        self._process: Process

    async def __aenter__(self) -> Self:
        # -P: a file of the user's that is called like a module of ours stays out of it. A session of its own: Ctrl-C
        # in the terminal reaches the show alone, which then stops its worker.
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            *self._command,
            stdin=PIPE,
            stdout=PIPE,
            stderr=self._log,
            start_new_session=True,
            env=self._environment,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._stop()
        finally:
            self._log.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def fate(self) -> Fate:
        """What became of it, once that is known. Raises PerdureError when it gave up."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if line.decode().strip() == REACHED:
            return Fate.AT_CUE
        code = await self._process.wait()
        if code > 0:
            self._log.seek(0)
            said = self._log.read().decode(errors="replace").strip() or f"exit code {code}"
            raise PerdureError(f"worker {self.pid} gave up: {said[-2000:]}")
        return Fate.ENDED if code == 0 else Fate.KILLED

    async def kill(self) -> int:
        """SIGKILL, which no process can see coming; when the process is gone, the signal that ended it."""
        os.kill(self.pid, signal.SIGKILL)
        return -await self._process.wait()

    async def _stop(self) -> None:
        if self._process.returncode is not None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
