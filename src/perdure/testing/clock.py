"""A clock that moves only when a test says so."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from itertools import count

_TURNS = 60


class FakeAlarm:
    """An alarm of a FakeClock."""

    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        """Do not ring."""
        self.callback = None


class FakeClock:
    """Time for tests: `advance` moves it, ringing each alarm at its own moment and in order."""

    def __init__(self, start_us: int = 1_767_225_600_000_000) -> None:
        self._now_us = start_us
        self._start_us = start_us
        self._alarms: list[tuple[int, int, FakeAlarm]] = []
        self._upkeep: list[tuple[int, FakeAlarm]] = []
        self._ties = count()

    def now_us(self) -> int:
        """The fake wall time."""
        return self._now_us

    def monotonic(self) -> float:
        """Fake seconds since the clock was made; `jump` does not move it."""
        return (self._now_us - self._start_us) / 1e6

    def call_later(self, seconds: float, callback: Callable[[], object], *, upkeep: bool = False) -> FakeAlarm:
        """Ring after `seconds` of fake time; `upkeep` rings once per `advance`, however often it was due."""
        alarm = FakeAlarm(callback)
        if upkeep:
            self._upkeep.append((self._now_us + round(seconds * 1e6), alarm))
            return alarm
        heapq.heappush(self._alarms, (self._now_us + round(seconds * 1e6), next(self._ties), alarm))
        return alarm

    async def advance(self, seconds: float) -> None:
        """Let `seconds` pass; whatever is due happens on the way, with the loop settled in between."""
        target = self._now_us + round(seconds * 1e6)
        await settle()
        while self._alarms and self._alarms[0][0] <= target:
            due, _, alarm = heapq.heappop(self._alarms)
            self._now_us = max(self._now_us, due)
            if alarm.callback is not None:
                alarm.callback()
                await settle()
        self._now_us = target
        await self._do_upkeep()

    async def _do_upkeep(self) -> None:
        due = [alarm for at, alarm in self._upkeep if at <= self._now_us]
        self._upkeep = [(at, alarm) for at, alarm in self._upkeep if at > self._now_us and alarm.callback is not None]
        for alarm in due:
            if alarm.callback is not None:
                alarm.callback()
        await settle()


async def settle() -> None:
    """Let everything that is ready on the loop run, and what that makes ready, some turns deep."""
    for _ in range(_TURNS):
        await asyncio.sleep(0)
