"""How often may somebody ask? One bucket of tokens each: full at first, filled at a steady rate.

In this process only: it protects the server from one caller, and keys from being guessed. Limits of agents are the
kernel's and count for the whole cluster.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from perdure.values.clock import Clock

#: Callers that are remembered; the one that asked longest ago is forgotten first, and its bucket was full again by then.
_CALLERS_MOST = 10_000


class Room(NamedTuple):
    """What is left in a bucket."""

    granted: bool
    remaining: int
    #: seconds until another one is granted (0 when there is one left)
    wait_seconds: float


class Rates:
    """Buckets by name."""

    def __init__(self, clock: Clock, per_second: float, at_once: int) -> None:
        self.per_second = per_second
        self.at_once = at_once
        self._clock = clock
        #: name -> (tokens, as of)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str, count: int = 1) -> Room:
        """Take `count` tokens if there are as many."""
        now = self._clock.monotonic()
        tokens, since = self._buckets.get(name, (float(self.at_once), now))
        tokens = min(float(self.at_once), tokens + (now - since) * self.per_second)
        granted = tokens >= max(count, 1)
        tokens -= count if granted else 0
        self._buckets[name] = (tokens, now)
        self._buckets.move_to_end(name)
        if len(self._buckets) > _CALLERS_MOST:
            self._buckets.popitem(last=False)
        return Room(granted, int(tokens), 0.0 if tokens >= 1 else (1 - tokens) / self.per_second)
