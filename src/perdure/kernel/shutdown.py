"""How does a node end in good order? Steps may finish for a while, all is written, the shards are given up.

Whatever is cut off was not acknowledged, so nothing is lost either way. The end takes as long as the steps may have and
no longer: callers who go on calling do not hold it up, and a disk that is full when the time is up is as bad as a
broken one.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from perdure.errors import PerdureError, StoreError
from perdure.kernel.step import Stop
from perdure.store.contract import RunUpdate, Transaction
from perdure.values.clock import Alarm
from perdure.values.runs import RunStatus

if TYPE_CHECKING:
    from perdure.kernel.kernel import Kernel

#: how long a step that is cut off may clean up
_LAST_WORDS_SECONDS = 0.5
#: A run writes one draft at a time, so what has gathered takes a few rounds; a tool that never stops talking gets these.
_ROUNDS_MOST = 100
#: The row's reason when a worker shut down in an orderly way with the run still moving: not a crash.
_HANDED_OVER = "left by a worker that shut down"


class Shutdown:
    """The orderly end of one node. It goes on although whoever asked for it gives up waiting."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._time_is_up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._alarms: list[Alarm] = []
        self._task = asyncio.create_task(self._run(), name="perdure shutdown")

    def finish_within(self, seconds: float) -> None:
        """Steps may take so long from now on, unless somebody was less patient before."""
        if seconds <= 0:
            self._hurry()
        elif not self._task.done():
            self._alarms.append(self._kernel.clock.call_later(seconds, self._hurry))

    async def over(self) -> None:
        """Return when the node has ended."""
        await asyncio.shield(self._task)

    def _hurry(self) -> None:
        if not self._time_is_up.done():
            self._time_is_up.set_result(None)
        self._kernel.commits.lose_patience()

    async def _run(self) -> None:
        kernel = self._kernel
        try:
            with contextlib.suppress(PerdureError):  # a store that fails now has failed the node: `failure` says so
                await self._finish_steps()
                await self._write_all()
            await kernel.rest()
            if kernel.failure is None:
                self._hand_over()
                await kernel.commits.close()
            if kernel.failure is None:
                with contextlib.suppress(StoreError):  # they run out by themselves
                    await kernel.leases.release()
                kernel.followers.fail(PerdureError("this node has stopped; its runs go on when a worker runs again"))
        finally:
            for alarm in self._alarms:
                alarm.cancel()
            await kernel.store.close()

    async def _finish_steps(self) -> None:
        await self._write_all()  # what is admitted is launched
        while not self._time_is_up.done() and (tasks := self._step_tasks()):
            await asyncio.wait([self._time_is_up, *tasks], return_when=asyncio.FIRST_COMPLETED)
            await self._write_all()
        for live in self._kernel.live.all():
            live.steps.stop_all(Stop.SHUTDOWN)
        if tasks := self._step_tasks():
            await asyncio.wait(tasks, timeout=_LAST_WORDS_SECONDS)

    def _step_tasks(self) -> list[asyncio.Task[None]]:
        attempts = [attempt for live in self._kernel.live.all() for attempt in live.steps.attempts.values()]
        return [attempt.task for attempt in attempts if attempt.task is not None and not attempt.task.done()]

    async def _write_all(self) -> None:
        await self._kernel.commits.drain()
        for _ in range(_ROUNDS_MOST):
            unwritten = [live.writer for live in self._kernel.live.all() if not live.writer.quiet]
            if not unwritten:
                return
            for writer in unwritten:
                writer.write_now()
            await self._kernel.commits.drain()

    def _hand_over(self) -> None:
        now = self._kernel.clock.now_us()
        for live in self._kernel.live.all():
            if live.status is RunStatus.RUNNING:
                update = RunUpdate(RunStatus.RUNNING, now, reason=_HANDED_OVER, strikes=live.strikes)
                transaction = Transaction(fence=live.writer.fence, updates={live.run.id: update})
                self._kernel.commits.submit(lambda transaction=transaction: transaction, lambda _: None)  # type: ignore[misc]
