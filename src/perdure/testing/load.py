"""A client that never lets a store rest: it starts runs, sends, answers, pauses, cancels, and writes down what it heard."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import Any

from perdure.agents.agent import AnyAgent
from perdure.errors import PerdureError, StoreBusy
from perdure.runtime import RunHandle, Runtime
from perdure.store.contract import RunFilter
from perdure.testing import workflows as flows
from perdure.testing.history import History
from perdure.testing.world import FileWorld
from perdure.values.runs import Run, RunStatus

#: What is started, with how many kinds of input; the draw decides about the details.
_STARTS: list[tuple[AnyAgent, Callable[[random.Random], tuple[Any, ...]]]] = [
    (flows.errand, lambda dice: ([f"item {n}" for n in range(dice.randint(1, 4))],)),
    (flows.fan, lambda dice: (dice.randint(1, 4),)),
    (flows.asker, lambda dice: (f"question {dice.randint(1, 3)}",)),
    (flows.sleeper, lambda dice: (dice.randint(0, 1),)),
    (flows.parent, lambda dice: (dice.randint(0, 2),)),
    (flows.saga, lambda dice: (f"trip {dice.randint(1, 3)}",)),
    (flows.relay, lambda dice: (dice.randint(0, 3), [])),
    (flows.spender, lambda dice: (dice.randint(1, 9),)),
    (flows.booker, lambda dice: ([f"seat {n}" for n in range(dice.randint(1, 3))],)),
    (flows.pausable, lambda dice: ()),
    (flows.waiter, lambda dice: (f"door {dice.randint(1, 3)}",)),
]


class Load:
    """The client. Keeps about `width` runs in flight until told to `finish`; follows a part of them, 1.0 for all."""

    def __init__(
        self, runtime: Runtime, world: FileWorld, history: History, dice: random.Random, width: int,
        followed: float = 1.0,
    ) -> None:  # fmt: skip
        self.started = 0
        self._runtime = runtime
        self._world = world
        self._history = history
        self._dice = dice
        self._width = width
        self._followed = followed
        self._letters = 0
        self._watched: set[asyncio.Task[None]] = set()
        self._finishing = False

    async def keep_up(self) -> None:
        """Start, disturb and help runs, until `finish`."""
        while not self._finishing:
            open_runs = await self._open_runs()
            for _ in range(self._width - len(open_runs)):
                await self._try(self._start_something)
            if open_runs:
                await self._try(lambda runs=open_runs: self._disturb(self._dice.choice(runs)))  # type: ignore[misc]
            await self._help(open_runs)
            await asyncio.sleep(0.02)

    async def finish(self, seconds: float) -> list[str]:
        """Start nothing more and help everything to its end; what has not ended after `seconds`, in words."""
        self._finishing = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while open_runs := await self._open_runs():
                    await self._help(open_runs)
                    for run in open_runs:
                        if _is_paused(run):
                            await self._try(lambda run=run: self._request("resume", run, self._runtime.resume(run.id)))  # type: ignore[misc]
                        elif run.agent == "waiter":
                            await self._try(lambda run=run: self._request("cancel", run, self._runtime.cancel(run.id)))  # type: ignore[misc]
                    await asyncio.sleep(0.05)
                await asyncio.gather(*self._watched)
        return [f"{run.id} ({run.agent}) is {run.status}: {run.reason}" for run in await self._open_runs()]

    async def _open_runs(self) -> list[Run]:
        statuses = tuple(status for status in RunStatus if not status.terminal)
        while True:
            with contextlib.suppress(StoreBusy):  # the store waits before it says so
                return await self._runtime.runs(RunFilter(statuses=statuses, limit=1_000))

    async def _try(self, request: Callable[[], Awaitable[None]]) -> None:
        with contextlib.suppress(PerdureError):
            await request()

    async def _start_something(self) -> None:
        kind = self._dice.random()
        if kind < 0.1:
            await self._start_talk()
        elif kind < 0.25:
            await self._start(flows.counter, self._dice.randint(1, 9), session=f"s{self._dice.randint(1, 3)}")
        else:
            agent, arguments = self._dice.choice(_STARTS)
            await self._start(agent, *arguments(self._dice))

    async def _start_talk(self) -> None:
        room = f"room {self.started}"
        await self._start(flows.responder, session=room)
        await self._start(flows.caller, room, self._dice.randint(1, 3), session=f"{room} caller")

    async def _start(self, agent: AnyAgent, *arguments: Any, session: str | None = None) -> None:
        self.started += 1
        key = f"start {self.started}"
        self._history.note("start", key=key, agent=agent.name, arguments=arguments)
        handle = await self._runtime.start(agent, *arguments, session=session, idempotency_key=key)
        self._history.note("start!", key=key, run=handle.id)
        if self._dice.random() >= self._followed:
            return
        watching = asyncio.create_task(self._watch(handle))
        self._watched.add(watching)
        watching.add_done_callback(self._watched.discard)

    async def _watch(self, handle: RunHandle[Any]) -> None:
        """Whatever is shown to a follower counts as acknowledged."""
        seen, ended = 0, False
        while not ended:
            with contextlib.suppress(StoreBusy):
                async for event in handle.events(seen):
                    self._history.note("saw!", run=event.run, seq=event.seq, type=event.type, raw=event.raw)
                    seen = event.seq
                ended = True

    async def _disturb(self, run: Run) -> None:
        match self._dice.randint(1, 12):
            case 1 | 2:
                await self._request("pause", run, self._runtime.pause(run.id))
            case 3 if run.agent == "waiter":
                await self._request("cancel", run, self._runtime.cancel(run.id))
            case 4 | 5:
                self._letters += 1
                request = self._runtime.send(run.id, "unasked", self._letters)
                await self._request("send", run, request, letter=self._letters)

    async def _request(self, what: str, run: Run, request: Awaitable[None], **fields: Any) -> None:
        self._history.note(what, run=run.id, **fields)
        await request
        self._history.note(f"{what}!", run=run.id, **fields)

    async def _help(self, open_runs: list[Run]) -> None:
        for run in open_runs:
            kind = (run.wait or {}).get("kind")
            if _is_paused(run) and self._dice.random() < 0.3:
                await self._try(lambda run=run: self._request("resume", run, self._runtime.resume(run.id)))  # type: ignore[misc]
            elif run.status is RunStatus.QUARANTINED:
                await self._try(lambda run=run: self._release(run))  # type: ignore[misc]
            elif kind == "unknown":
                self._world.read()
                await flows.settle_unknown(self._runtime, self._world, run.id, (run.wait or {})["step"])
        with contextlib.suppress(StoreBusy):
            await flows.decide_asks(self._runtime, lambda what, id: self._history.note(what, ask=id))

    async def _release(self, run: Run) -> None:
        self._history.note("release", run=run.id)
        await self._runtime.retry(run.id)


def _is_paused(run: Run) -> bool:
    return (run.wait or {}).get("kind") == "pause"  # its status is queued while it waits for its turn in its session
