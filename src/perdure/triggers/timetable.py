"""Which slots are due, here and now? Sleeps until the next one and starts its run.

Every server of a store does: the slot's idempotency key sees to it that one run comes of it. A server knows what came due
while it was up, and deals with that however late its own loop is (within a minute); what is older was missed, and only the
newest is made up for, where the schedule says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from perdure.errors import PerdureError, StoreError
from perdure.triggers.schedules import Schedule, Schedules
from perdure.values.clock import Clock

log = logging.getLogger("perdure.triggers")

#: What others change is seen within this.
LOOK_SECONDS = 3.0
#: How late a slot is that this server could have started, and did not: its machine slept.
_LATE_SECONDS = 60.0


class Timetable:
    """Starts what is due."""

    def __init__(self, schedules: Schedules, clock: Clock) -> None:
        self._schedules = schedules
        self._clock = clock
        self._up_since = 0
        #: schedule -> up to when its slots were looked at here
        self._done: dict[str, int] = {}
        #: schedules that this host cannot read
        self._unreadable: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self._wake: asyncio.Future[None] | None = None

    def start(self) -> None:
        """Begin; slots from now on are this server's business."""
        self._up_since = self._clock.now_us()
        self._task = asyncio.create_task(self._run(), name="perdure: schedules")

    async def stop(self) -> None:
        """Start nothing more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def look_now(self) -> None:
        """Something was changed here: look without waiting."""
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def _run(self) -> None:
        while True:
            coming: int | None = None
            try:
                coming = await self._look()
            except PerdureError as error:
                log.warning("schedules wait: %s", error)
            except Exception:
                log.exception("schedules wait")
            await self._sleep_until(coming)

    async def _look(self) -> int | None:
        """Start what is due; gives the next slot of all."""
        schedules = await self._schedules.list()
        now = self._clock.now_us()
        # This clock may have jumped ahead and come back.
        self._up_since = min(self._up_since, now)
        self._done = {schedule.name: min(self._done.get(schedule.name, 0), now) for schedule in schedules}
        self._complain(schedules)
        coming: list[int] = []
        for schedule in schedules:
            if schedule.paused or not self._schedules.can_start(schedule):
                continue
            try:
                await self._start_due(schedule, now)
                following = schedule.next(now)
            except StoreError:
                raise  # nor could the others start
            except Exception:
                log.exception("schedule %s waits", schedule.name)
            else:
                coming += [] if following is None else [following]
        return min(coming, default=None)

    def _complain(self, schedules: Sequence[Schedule]) -> None:
        before, self._unreadable = self._unreadable, set()
        for schedule in schedules:
            if schedule.problem is not None:
                self._unreadable.add(schedule.name)
                if schedule.name not in before:
                    log.error("schedule %s starts nothing here: %s", schedule.name, schedule.problem)

    async def _start_due(self, schedule: Schedule, now: int) -> None:
        slot = self._due(schedule, now)
        if slot is not None:
            await self._schedules.fire(schedule, slot)
        self._done[schedule.name] = now

    def _due(self, schedule: Schedule, now: int) -> int | None:
        """The newest slot that is to be dealt with."""
        if schedule.cron is None:
            return None
        dealt = 0 if schedule.last is None else schedule.last["slot"]
        patience_us = round(max(schedule.catch_up_seconds, _LATE_SECONDS) * 1e6)
        # What a clock noted that had jumped ahead says nothing about now; clocks of servers differ a little.
        noted = [moment for moment in (schedule.since, dealt) if moment <= now + _LATE_SECONDS * 1e6]
        slot = schedule.cron.latest(max(*noted, self._done[schedule.name], now - patience_us), now)
        if slot is None or slot > self._up_since or now - slot <= schedule.catch_up_seconds * 1e6:
            return slot
        return None

    async def _sleep_until(self, coming: int | None) -> None:
        """Until then, or until somebody may have changed something."""
        self._wake = wake = asyncio.get_running_loop().create_future()

        def ring() -> None:
            if not wake.done():
                wake.set_result(None)

        alarms = [self._clock.call_later(LOOK_SECONDS, ring, upkeep=True)]
        if coming is not None:
            alarms.append(self._clock.call_later(max(0.0, (coming - self._clock.now_us()) / 1e6), ring))
        try:
            await wake
        finally:
            for alarm in alarms:
                alarm.cancel()
