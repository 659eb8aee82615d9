"""How does a peer's script run parts of itself as processes that can be killed, and hear from them?

A child prints marks on stdout: JSON lines with a name and the monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from asyncio.subprocess import Process
from typing import Any

Mark = dict[str, Any]

MARK_SECONDS_MAX = 60.0


def mark(name: str, **fields: object) -> None:
    """Tell the parent process that something happened just now."""
    line = json.dumps({"mark": name, "at": time.monotonic(), **fields}) + "\n"
    os.write(1, line.encode())


class Child:
    """A process of ours that reports marks. `started` is the moment just before its exec."""

    def __init__(self, process: Process, started: float) -> None:
        self.started = started
        self.pid = process.pid
        self._process = process
        self._marks: asyncio.Queue[Mark | None] = asyncio.Queue()
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def spawn(cls, *command: str, env: dict[str, str] | None = None) -> Child:
        """Start a command; its stderr goes where ours goes."""
        started = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=None if env is None else os.environ | env
        )
        return cls(process, started)

    async def next(self, name: str) -> Mark:
        """The next mark of that name; others are dropped. Raises RuntimeError if the child ends or stays silent."""
        async with asyncio.timeout(MARK_SECONDS_MAX):
            while (found := await self._marks.get()) is not None:
                if found["mark"] == name:
                    return found
        raise RuntimeError(f"child {self.pid} ended without reporting {name!r}; its stderr says why")

    async def kill(self) -> None:
        """End it with SIGKILL and wait until it is gone."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._reader

    async def end(self) -> None:
        """Wait until it has ended by itself."""
        async with asyncio.timeout(MARK_SECONDS_MAX):
            await self._process.wait()

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            if line.startswith(b'{"mark"'):
                self._marks.put_nowait(json.loads(line))
        self._marks.put_nowait(None)
