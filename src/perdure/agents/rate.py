"""How often is that? Rates as people write them: `10/s`, `100/minute`."""

from __future__ import annotations

import re
from typing import NamedTuple

from perdure.errors import InvalidSetting

_SECONDS = {
    "s": 1, "second": 1, "m": 60, "minute": 60, "h": 3_600, "hour": 3_600, "d": 86_400, "day": 86_400,
}  # fmt: skip
_UNITS = "s, second, minute, hour or day"
_FORM = re.compile(r"([0-9]{1,9})\s*/\s*([a-z]+)")
#: Stores count in millionths of a token, in 64 bits.
_LIMIT_MOST = 100_000_000


class Rate(NamedTuple):
    """So many in so many seconds."""

    limit: int
    seconds: float

    def __str__(self) -> str:
        units = {1: "s", 60: "minute", 3_600: "hour", 86_400: "day"}
        return f"{self.limit}/{units.get(int(self.seconds), f'{self.seconds:g} s')}"


def parse_rate(label: str, text: str) -> Rate:
    """`text` as a rate; `label` says in errors what it is for. Raises InvalidSetting."""
    form = _FORM.fullmatch(str(text).strip())
    seconds = _SECONDS.get(form[2]) if form is not None else None
    if form is None or seconds is None:
        raise InvalidSetting(f"{label} is written as a number per {_UNITS}, like '100/minute', not {text!r}")
    limit = int(form[1])
    if not 1 <= limit <= _LIMIT_MOST:
        raise InvalidSetting(f"{label} must be from 1 to {_LIMIT_MOST} in its time, not {limit}")
    return Rate(limit, seconds)
