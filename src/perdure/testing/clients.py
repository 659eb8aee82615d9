"""What do people and programs ask of a simulated store? Whatever the dice say, through any node, and often at a bad time.

Requests are noted before they are made and again when they are acknowledged; refusals are fine. How runs are helped to
their end when all has healed stands here too.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Coroutine
from typing import Any

from perdure.errors import PerdureError
from perdure.runtime import Runtime
from perdure.store.contract import Ask, RunFilter
from perdure.testing.history import History
from perdure.testing.plans import Planner, tally, wanderer
from perdure.testing.workflows import settle_unknown
from perdure.testing.world import World
from perdure.values.json import decode
from perdure.values.runs import Run, RunStatus

Request = Coroutine[Any, Any, None]


class Clients:
    """All clients of a simulation."""

    def __init__(self, dice: random.Random, planner: Planner, world: World, history: History) -> None:
        #: idempotency key -> what the run was started with
        self.arguments: dict[str, Any] = {}
        self._dice = dice
        self._planner = planner
        self._world = world
        self._history = history
        self._letters = 0

    def draw_request(self, runtime: Runtime) -> Request:
        """Something to ask of `runtime`; what it refuses is no error."""
        requests: list[Callable[[Runtime], Request]] = [
            self._start, self._start, self._start, self._start_tally, self._send, self._decide, self._decide,
            self._control, self._resolve, self._fork,
        ]  # fmt: skip
        return _politely(self._dice.choice(requests)(runtime))

    async def help_on(self, runtime: Runtime) -> list[Run]:
        """Do for every run that has not ended what its end waits for; gives those runs."""
        unfinished = await _open_runs(runtime)
        for run in unfinished:
            with contextlib.suppress(PerdureError):
                if (run.wait or {}).get("kind") == "pause":
                    await runtime.resume(run.id)
                elif run.status is RunStatus.QUARANTINED:
                    await (runtime.cancel if await _is_poisoned(runtime, run) else runtime.retry)(run.id)
        await self._settle(runtime, unfinished)
        for ask in await runtime.inbox():
            await self._decide_ask(runtime, ask)
        return unfinished

    async def _start(self, runtime: Runtime) -> None:
        session = self._dice.choice([None, None, "a", "b", "c"])
        await self._start_run(runtime, wanderer, self._planner.draw(), session)

    async def _start_tally(self, runtime: Runtime) -> None:
        await self._start_run(runtime, tally, self._dice.randint(1, 9), self._dice.choice("xy"))

    async def _start_run(self, runtime: Runtime, agent: Any, argument: Any, session: str | None) -> None:
        key = f"key {len(self.arguments)}"
        self.arguments[key] = argument
        self._history.note("start", key=key)
        for _ in range(self._dice.choice([1, 1, 2])):
            handle = await runtime.start(agent, argument, session=session, idempotency_key=key)
            self._history.note("start!", key=key, run=handle.id)

    async def _send(self, runtime: Runtime) -> None:
        run = await self._some_run(runtime) if self._dice.random() < 0.5 else None
        self._letters += 1
        about = {"letter": self._letters, "run": run and run.id}
        self._history.note("send", **about)
        if run is not None:
            await runtime.send(run.id, "unasked", about["letter"])
        else:
            await runtime.send(self._dice.choice("abc"), "unasked", about["letter"], agent="wanderer")
        self._history.note("send!", **about)

    async def _decide(self, runtime: Runtime) -> None:
        asks = await runtime.inbox()
        for ask in self._dice.sample(asks, min(len(asks), 3)):
            await self._decide_ask(runtime, ask)

    async def _decide_ask(self, runtime: Runtime, ask: Ask) -> None:
        with contextlib.suppress(PerdureError):
            if ask.kind == "ask":
                await runtime.answer(ask.id, f"answer {ask.title}")
            elif self._dice.random() < 0.3:
                await runtime.reject(ask.id)
            elif self._dice.random() < 0.2:
                await runtime.approve(ask.id, edit={"tag": f"{decode(ask.detail)['args']['tag']} edited"})
            else:
                await runtime.approve(ask.id)
            self._history.note("answer!", ask=ask.id)

    async def _control(self, runtime: Runtime) -> None:
        run = await self._some_run(runtime)
        if run is not None:
            verb = self._dice.choice(["pause", "pause", "resume", "resume", "cancel", "retry"])
            await getattr(runtime, verb)(run.id)

    async def _resolve(self, runtime: Runtime) -> None:
        await self._settle(runtime, await _open_runs(runtime))

    async def _settle(self, runtime: Runtime, runs: list[Run]) -> None:
        for run in runs:
            if (run.wait or {}).get("kind") == "unknown":
                await settle_unknown(runtime, self._world, run.id, (run.wait or {})["step"])

    async def _fork(self, runtime: Runtime) -> None:
        run = await self._some_run(runtime)
        if run is not None and run.steps and run.parent is None and not await _is_poisoned(runtime, run):
            await runtime.fork(run.id, at=self._dice.randint(1, run.steps))

    async def _some_run(self, runtime: Runtime) -> Run | None:
        runs = await runtime.runs(RunFilter(limit=30))
        return self._dice.choice(runs) if runs else None


async def _is_poisoned(runtime: Runtime, run: Run) -> bool:
    [queued, *_] = await runtime.journal(run.id)  # a fork has no idempotency key, but the same input
    return '"poison"' in queued.raw


async def _politely(request: Request) -> None:
    with contextlib.suppress(PerdureError):
        await request


async def _open_runs(runtime: Runtime) -> list[Run]:
    statuses = tuple(status for status in RunStatus if not status.terminal)
    return await runtime.runs(RunFilter(statuses=statuses, limit=1_000))
