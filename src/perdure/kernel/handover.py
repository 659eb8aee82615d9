"""How does a node give shards up in good order? Steps may finish for a while, all is written, then others may have them.

From the first moment no code of these runs moves here and none of their steps begins. A shard is let go as soon as
nothing is under way in it; what is still under way when the time is up is cut off. Whatever is cut off was not
acknowledged, so nothing is lost, and whoever owns the run next finds it in flight.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from perdure.errors import StoreError
from perdure.kernel.step import Stop
from perdure.store.contract import RunUpdate, Transaction
from perdure.values.clock import Alarm
from perdure.values.runs import RunStatus

if TYPE_CHECKING:
    from perdure.kernel.activation import Activation
    from perdure.kernel.kernel import Kernel

log = logging.getLogger("perdure.kernel")

#: how long a step that is cut off may clean up
_LAST_WORDS_SECONDS = 0.5
#: A run writes one draft at a time, so what has gathered takes a few rounds; a tool that never stops talking gets these.
_ROUNDS_MOST = 100
#: The row's reason when a worker gave the run up while it was moving: not a crash.
_HANDED_OVER = "handed over by its worker"


class Handover:
    """The giving up of some shards, begun at once. A store that cannot write it down fails the node."""

    def __init__(self, kernel: Kernel, shards: Iterable[str]) -> None:
        self._kernel = kernel
        self._shards = set(kernel.leases.give_up(shards))
        self._time_is_up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._alarms: list[Alarm] = []
        self._task = kernel.spawn_task(self._run())

    @property
    def done(self) -> bool:
        """True when others may have them."""
        return self._task.done()

    def finish_within(self, seconds: float) -> None:
        """Steps may take so long from now on, unless somebody was less patient before."""
        if seconds <= 0:
            self.hurry()
        elif not self.done:
            self._alarms.append(self._kernel.clock.call_later(seconds, self.hurry))

    def hurry(self) -> None:
        """The time is up."""
        if not self._time_is_up.done():
            self._time_is_up.set_result(None)

    async def over(self) -> None:
        """Return when others may have them, or the node has failed."""
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            await self._write_all(self._shards)  # what is admitted is launched
            while not self._time_is_up.done() and (tasks := self._step_tasks(self._remaining())):
                await self._let_go(self._remaining() - self._busy())
                await asyncio.wait([self._time_is_up, *tasks], return_when=asyncio.FIRST_COMPLETED)
                await self._write_all(self._remaining())
            await self._cut_off(self._remaining())
            await self._let_go(self._remaining())
        finally:
            for alarm in self._alarms:
                alarm.cancel()

    def _remaining(self) -> set[str]:
        # One that was lost meanwhile is nobody's concern here.
        return {shard for shard in self._shards if self._kernel.leases.leaves(shard)}

    def _busy(self) -> set[str]:
        return {live.run.shard for live in self._kernel.live.all() if live.steps.attempts}

    async def _cut_off(self, shards: AbstractSet[str]) -> None:
        for live in self._runs(shards):
            live.steps.stop_all(Stop.SHUTDOWN)
        if tasks := self._step_tasks(shards):
            await asyncio.wait(tasks, timeout=_LAST_WORDS_SECONDS)
            await self._write_all(shards)

    async def _let_go(self, shards: AbstractSet[str]) -> None:
        if not shards:
            return
        await self._write_all(shards)
        now, commits = self._kernel.clock.now_us(), self._kernel.commits
        for live in self._runs(shards):
            self._kernel.live.forget(live)
            if live.status is RunStatus.RUNNING:
                update = RunUpdate(RunStatus.RUNNING, now, reason=_HANDED_OVER, strikes=live.strikes)
                transaction = Transaction(fence=live.writer.fence, updates={live.run.id: update})
                commits.submit(lambda transaction=transaction: transaction, lambda _: None)  # type: ignore[misc]
        await commits.drain()
        try:
            await self._kernel.leases.release(shards)
        except StoreError as error:
            log.warning("shards are not released, and will run out by themselves: %s", error)

    async def _write_all(self, shards: AbstractSet[str]) -> None:
        await self._kernel.commits.drain()
        for _ in range(_ROUNDS_MOST):
            unwritten = [live.writer for live in self._runs(shards) if not live.writer.quiet]
            if not unwritten:
                return
            for writer in unwritten:
                writer.write_now()
            await self._kernel.commits.drain()

    def _runs(self, shards: AbstractSet[str]) -> list[Activation]:
        return [live for live in self._kernel.live.all() if live.run.shard in shards]

    def _step_tasks(self, shards: AbstractSet[str]) -> list[asyncio.Task[None]]:
        attempts = [attempt for live in self._runs(shards) for attempt in live.steps.attempts.values()]
        return [attempt.task for attempt in attempts if attempt.task is not None and not attempt.task.done()]
