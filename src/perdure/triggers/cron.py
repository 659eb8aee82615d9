"""When is it time? A cron expression in a time zone gives slots: moments, in microseconds since the epoch.

Five fields, as Debian's cron reads them, daylight saving included: what runs at a certain time of day runs once on every
day, at the next existing moment where clocks skip it, and the first time where they show it twice; what runs every hour or
more often goes by elapsed time, so it runs in both of the doubled hours and in none that is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from zoneinfo import ZoneInfo

from perdure.errors import InvalidInput

_LONGEST = 200
_HOUR_US = 3_600_000_000


@dataclass(frozen=True)
class Cron:
    """A cron expression in an IANA time zone. Raises InvalidInput for what is neither."""

    expression: str
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        from cronsim import CronSimError  # noqa: PLC0415 - takes 30 ms, and every worker loads this module

        if len(self.expression) > _LONGEST or len(self.expression.split()) != 5:
            raise InvalidInput(
                f"a cron expression has five fields (minute hour day month weekday), unlike {self.expression[:_LONGEST]!r}"
            )
        _ = self._zone
        try:
            next(self._from(0), None)
        except CronSimError as error:
            raise InvalidInput(f"{self.expression!r} is no cron expression: {error}") from None

    def after(self, time_us: int) -> int | None:
        """The first slot after `time_us`; None when there is none within 50 years."""
        return next(self._from(time_us), None)

    def between(self, since_us: int, until_us: int) -> Iterator[int]:
        """The slots after `since_us`, up to and with `until_us`."""
        for slot in self._from(since_us):
            if slot > until_us:
                return
            yield slot

    def latest(self, since_us: int, until_us: int) -> int | None:
        """The newest of these slots, or None. Looks back further and further: it is seldom long ago."""
        span_us = _HOUR_US
        while True:
            start = max(since_us, until_us - span_us)
            slot = max(self.between(start, until_us), default=None)
            if slot is not None or start == since_us:
                return slot
            span_us *= 8

    def _from(self, time_us: int) -> Iterator[int]:
        from cronsim import CronSim  # noqa: PLC0415 - as above

        last = time_us
        try:
            start = datetime.fromtimestamp(time_us // 1_000_000, self._zone)
            for moment in CronSim(self.expression, start):
                slot = round(moment.timestamp()) * 1_000_000
                # Within an hour that clocks show twice, the search may begin with its first showing again.
                if slot > last:
                    last = slot
                    yield slot
        except (OverflowError, ValueError):  # the end of the calendar
            return

    @cached_property
    def _zone(self) -> ZoneInfo:
        try:
            return ZoneInfo(self.timezone)
        except (LookupError, ValueError, OSError):
            raise InvalidInput(
                f"there is no time zone {self.timezone[:100]!r} here; zones have names such as Europe/Berlin or UTC, and "
                f"where the system knows none: pip install tzdata"
            ) from None
