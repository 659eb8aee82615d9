"""The workers of a campaign, as the one who strikes them sees them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from perdure.values.json import decode, encode


class Worker:
    """One process. It ends when it is killed, and not before."""

    def __init__(self, name: str, url: str, namespace: str) -> None:
        self.name = name
        self.url = url
        self.namespace = namespace
        #: the node that it is in the store
        self.node = ""
        self.ended = False
        self._pid = 0
        self._heard: dict[str, asyncio.Event] = {}

    async def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        self.ended = True
        self._send(signal.SIGKILL)
        await self.hears("ended")

    async def freeze(self) -> None:
        """Stop it; nothing of it moves when this returns."""
        self._heard.pop("frozen", None)
        self._send(signal.SIGUSR1)
        await self.hears("frozen")

    def thaw(self) -> None:
        """Let it go on."""
        self._send(signal.SIGCONT)

    def jump(self) -> None:
        """Let its wall clock jump."""
        self._send(signal.SIGUSR2)

    def age(self) -> None:
        """Let a year pass for it, and a day."""
        self._send(signal.SIGHUP)

    async def hears(self, word: str) -> None:
        """Return when it has said `word`."""
        await self._heard.setdefault(word, asyncio.Event()).wait()

    def _send(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):  # it has ended by itself, and there is a complaint about that
            os.kill(self._pid, number)

    def hear(self, said: dict[str, Any]) -> None:
        """It said something."""
        self._pid = said.get("born", self._pid)
        self.node = said.get("ready", self.node)
        for word in said:
            self._heard.setdefault(word, asyncio.Event()).set()


class Crew:
    """All workers, and the process that gives birth to them; they end with it."""

    def __init__(self, effects: str, lease_seconds: float) -> None:
        self.workers: list[Worker] = []
        #: what no worker should have had to say
        self.complaints: list[str] = []
        self._arguments = [sys.executable, "-m", "perdure.testing.chaos.worker", effects, f"{lease_seconds}"]
        self._named: dict[str, Worker] = {}
        self._mother: asyncio.subprocess.Process
        self._listening: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        self._mother = await asyncio.create_subprocess_exec(
            *self._arguments, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        self._listening = asyncio.create_task(self._listen())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.workers:
            worker.ended = True
        assert self._mother.stdin is not None
        self._mother.stdin.close()
        await self._mother.wait()
        await self._listening

    async def hire(self, url: str, namespace: str = "") -> Worker:
        """One more worker, ready to work; in that network namespace, if one is named."""
        worker = Worker(f"worker-{len(self._named)}", url, namespace)
        self._named[worker.name] = worker
        assert self._mother.stdin is not None
        self._mother.stdin.write(encode({"name": worker.name, "url": url, "namespace": namespace}).encode() + b"\n")
        await worker.hears("ready")
        self.workers.append(worker)
        return worker

    async def replace(self, worker: Worker) -> None:
        """Kill a worker and have another one in its place."""
        self.workers.remove(worker)
        await worker.kill()
        await self.hire(worker.url, worker.namespace)

    async def _listen(self) -> None:
        assert self._mother.stdout is not None
        while line := await self._mother.stdout.readline():
            said = decode(line.decode())
            worker = self._named[said["name"]]
            if "complaint" in said:
                self.complaints.append(f"{worker.name}: {said['complaint']}")
            if "ended" in said and not worker.ended:
                self.complaints.append(f"{worker.name}: ended by itself, with wait status {said['ended']}")
                worker.hear({"ready": worker.node, "frozen": True})  # whoever waits for that waits in vain
            worker.hear(said)
