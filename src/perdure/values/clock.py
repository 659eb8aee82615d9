"""What time is it? Asked through one small Protocol, so that tests and the simulator can answer.

Wall time stamps events and timers (microseconds since the epoch, so that arithmetic is exact);
monotonic time measures leases and deadlines, because wall clocks jump.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol


class Alarm(Protocol):
    """Something that will ring, unless cancelled."""

    def cancel(self) -> None:
        """Do not ring."""


class Clock(Protocol):
    """A source of time, and of being woken."""

    def now_us(self) -> int:
        """Wall time in microseconds since 1970-01-01 UTC."""

    def monotonic(self) -> float:
        """Seconds that never go backwards."""

    def call_later(self, seconds: float, callback: Callable[[], object], *, upkeep: bool = False) -> Alarm:
        """Call back on the running loop after `seconds`.

        `upkeep` marks recurring chores (renewing a lease): a clock that skips ahead may ring them once for all.
        """


class SystemClock:
    """The machine's own clocks."""

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        return time.monotonic()

    def call_later(self, seconds: float, callback: Callable[[], object], *, upkeep: bool = False) -> Alarm:
        return asyncio.get_running_loop().call_later(seconds, callback)


def iso(time_us: int) -> str:
    """Microseconds since the epoch as RFC 3339 text in UTC."""
    return datetime.fromtimestamp(time_us / 1e6, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def from_iso(text: str) -> int:
    """RFC 3339 text as microseconds since the epoch."""
    return round(datetime.fromisoformat(text).timestamp() * 1e6)


def moment(time_us: int) -> datetime:
    """Microseconds since the epoch as an aware datetime in UTC."""
    return datetime.fromtimestamp(time_us / 1e6, UTC)
