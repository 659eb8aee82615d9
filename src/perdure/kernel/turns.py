"""Whose turn is it? Tenants that wait before one door go in turns by their weights, however long their queues are.

Start-time fair queueing (Goyal, Vin, Cheng, 1996): each turn of a tenant starts where its last one ended, or where the
door is now, whichever is later, and ends 1/weight later; who starts first goes first. So nobody saves turns up while it
has nothing to do, and whoever comes new waits for one round at most. Each priority has turns of its own.
"""

from __future__ import annotations

from collections.abc import Mapping

#: Below so many nothing is forgotten.
_KEPT_LEAST = 64


class Turns:
    """The turns before one door. The tenant without a name is that of runs without a key."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._weights = weights
        #: where the turn that was taken last started, by priority
        self._now: dict[int, float] = {}
        #: where a tenant's last turn ended, by priority and tenant
        self._ended: dict[tuple[int, str], float] = {}
        self._kept_most = _KEPT_LEAST

    def start(self, priority: int, tenant: str) -> float:
        """When the tenant's next turn starts; lower goes first."""
        return max(self._now.get(priority, 0.0), self._ended.get((priority, tenant), 0.0))

    def take(self, priority: int, tenant: str) -> None:
        """The tenant has its turn."""
        now = self._now[priority] = self.start(priority, tenant)
        self._ended[priority, tenant] = now + 1 / self._weights.get(tenant, 1.0)
        if len(self._ended) > self._kept_most:
            self._forget()

    def forget_all(self) -> None:
        """Nobody waits: all begin anew."""
        self._now.clear()
        self._ended.clear()

    def _forget(self) -> None:
        # Who is behind the door's time starts at that, known or not.
        self._ended = {who: end for who, end in self._ended.items() if end > self._now[who[0]]}
        self._kept_most = max(_KEPT_LEAST, 2 * len(self._ended))
