"""A clock that moves only when a test says so."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

_TURNS = 60
_OUTSIDE_SECONDS = 0.0005
_LOOKS_MOST = 4_000


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
        """Ring after `seconds` of fake time; `upkeep` rings late: before other alarms, and when `advance` ends."""
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
            if any(at <= self._now_us for at, _ in self._upkeep):
                await self._do_upkeep()  # as if it had never been late
            if alarm.callback is not None:
                alarm.callback()
                await settle()
        self._now_us = target
        await self._do_upkeep()

    async def _do_upkeep(self) -> None:
        due = sorted((at, number) for number, (at, _) in enumerate(self._upkeep) if at <= self._now_us)
        alarms = [self._upkeep[number][1] for _, number in due]
        self._upkeep = [(at, alarm) for at, alarm in self._upkeep if at > self._now_us and alarm.callback is not None]
        for alarm in alarms:
            if alarm.callback is not None:
                alarm.callback()
                await settle()
        await settle()


async def settle() -> None:
    """Let everything that is ready on the loop run, and what that makes ready, some turns deep.

    What is under way `outside` of the loop (a database's answer) is waited for, and what it makes ready too; but not for
    ever, since somebody may call without end.
    """
    turns = looks = 0
    while turns < _TURNS and looks < _LOOKS_MOST:
        await asyncio.sleep(_OUTSIDE_SECONDS if _Outside.calls else 0)
        turns = 0 if _Outside.calls else turns + 1
        looks += bool(_Outside.calls)


@contextmanager
def outside() -> Iterator[None]:
    """A call that something outside of the loop will answer."""
    _Outside.calls += 1
    try:
        yield
    finally:
        _Outside.calls -= 1


class _Outside:
    calls = 0
