"""How many runs of an agent, or of one of its keys, may move here? So many as the node's share of the limit allows.

The shares of all nodes never add up to more than the limit (see `Store.share`), so nobody asks before each run. A node
asks when its share is used up, for all of the limit at first: alone, it has that from then on. While it has a share it
asks again every tenth of a lease, whether others want a part. What was not used since then it gives back.

- While a question is under way nothing goes beyond what it said is in use: the answer may leave no more than that.
- A store that hears "all is in use" takes nothing away, so a share that is always full would never shrink. That is put
  to the question: the next place that is left is not given to the next run but asked for.
- A share ends with the node's lease: whoever finds that this has run out says `lost`. Runs that still move then go on if
  the node gets their places back; if others have them by now, they are stopped (`overdrawn`).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

from perdure.errors import StoreBusy, StoreFull
from perdure.kernel.dispatch import Dispatcher
from perdure.kernel.doors import Places
from perdure.store.contract import QuotaWish, Store
from perdure.values.clock import Alarm, Clock

log = logging.getLogger("perdure.kernel")


class Quota(Places):
    """The door of one limit: `held` is this node's share of it."""

    def __init__(self, name: str, weights: Mapping[str, float], limit: int, ask: Callable[[Quota], None]) -> None:
        super().__init__(name, weights, held=0)
        self.limit = limit
        #: the next place that is left is asked for before it is used again
        self.doubtful = False
        self._ask = ask
        #: what was asked for last, and what was told; whether that was less
        self._wanted = self._told = 0
        self._refused = False
        #: the most that was in use since `look` was called, and between its last two calls
        self._used_most = self._used_before = 0

    def enter(self) -> None:
        super().enter()
        self._used_most = max(self._used_most, self.used)

    def leave(self) -> None:
        super().leave()
        if self.doubtful:
            self.held = min(self.held, self.used)
            self._ask(self)

    def knock(self) -> None:
        # What was refused is asked for again when all is; asking at once would be polling.
        if self.held < self.limit and not self._refused and self._demand() > self._wanted:
            self._ask(self)

    @property
    def idle(self) -> bool:
        """True when nobody wants it, or did not long ago."""
        return not (self.used or self.lanes or self._used_most or self._used_before)

    @property
    def forgettable(self) -> bool:
        """True when it is as good as new."""
        return self.idle and not self._told

    def look(self) -> None:
        """A tenth of a lease has passed: is it needed, and is it needed in full?"""
        self._used_before, self._used_most = self._used_most, self.used
        self.doubtful = self.room <= 0

    def wish(self) -> QuotaWish:
        """What to ask for. Until the answer is there, nothing goes beyond what it says is in use."""
        # Alone one has it all: so whoever has all of it, or nothing yet, asks for all.
        greedy = self._told in {0, self.limit}
        in_use = max(self._used_before, self._used_most)
        self._wanted = 0 if self.idle else self.limit if greedy else max(in_use, self._demand())
        self.held = min(self.held, self.used)
        # Runs may still be moving for which nothing is held: the share was lost under them.
        return QuotaWish(self.name, self.limit, self.held, self._wanted)

    def answered(self, share: int) -> None:
        """So much is this node's."""
        self.held = self._told = share
        self._refused = share < self._wanted
        self.doubtful = self.doubtful and self.room <= 0

    def not_answered(self) -> None:
        """The store is busy."""
        self._refused = True

    def lost(self) -> None:
        """Nothing is this node's."""
        self.held = self._told = self._wanted = 0
        self._refused = False

    def _demand(self) -> int:
        demand = self.used
        for lane in self.standing():
            demand += len(lane)
            if demand >= self.limit:
                return self.limit
        return demand


class Quotas:
    """The shares of one node."""

    def __init__(
        self, store: Store, node: str, clock: Clock, *, lease_seconds: float, weights: Mapping[str, float],
        spawn: Callable[[Coroutine[Any, Any, None]], object], dispatcher: Callable[[], Dispatcher],
        assured: Callable[[], Awaitable[None]], overdrawn: Callable[[str], None],
    ) -> None:  # fmt: skip
        """`assured` returns when the node is alive for the others. `overdrawn` hears the names of limits."""
        self._store = store
        self._node = node
        self._clock = clock
        self._again_seconds = lease_seconds / 10
        self._weights = weights
        self._spawn = spawn
        self._dispatcher = dispatcher
        self._assured = assured
        self._overdrawn = overdrawn
        self._quotas: dict[str, Quota] = {}
        #: to be asked for with the next call
        self._due: dict[Quota, None] = {}
        self._asking = False
        self._alarm: Alarm | None = None
        #: grows with every loss: an answer to what was asked before that counts no more
        self._losses = 0
        self._over = False

    def door(self, name: str, limit: int) -> Quota:
        """The door of the limit `name`."""
        quota = self._quotas.get(name)
        if quota is None:
            quota = self._quotas[name] = Quota(name, self._weights, limit, self._ask)
            self._keep_soon()
        return quota

    def shut(self) -> list[Quota]:
        """Those that somebody waits for."""
        return [quota for quota in self._quotas.values() if quota.room <= 0 and quota.awaited]

    def lost(self) -> None:
        """The node's lease may have run out: its shares are others' now. It asks again as long as it is wanted."""
        self._losses += 1
        for quota in self._quotas.values():
            quota.lost()
            self._ask(quota)

    def rest(self) -> None:
        """Ask for nothing any more; what is held goes with the node."""
        self._over = True
        if self._alarm is not None:
            self._alarm.cancel()

    def _ask(self, quota: Quota) -> None:
        # Asked when the turn of the loop is over: one call for all that came up in it.
        self._due[quota] = None
        if not self._asking and not self._over:
            self._asking = True
            self._spawn(self._ask_for_due())

    async def _ask_for_due(self) -> None:
        try:
            while self._due and not self._over:
                await self._assured()
                due, self._due = list(self._due), {}
                await self._share(due)
        finally:
            self._asking = False

    async def _share(self, quotas: list[Quota]) -> None:
        losses = self._losses
        try:
            shares = await self._store.share(self._node, [quota.wish() for quota in quotas])
        except (StoreBusy, StoreFull) as error:
            log.warning("shares of limits cannot be asked for: %s", error)
            for quota in quotas:
                quota.not_answered()
            return
        if losses == self._losses:
            for quota, share in zip(quotas, shares, strict=True):
                self._answered(quota, share)

    def _answered(self, quota: Quota, share: int) -> None:
        quota.answered(share)
        if quota.room < 0:
            self._overdrawn(quota.name)
        self._dispatcher().opened(quota)

    def _keep_soon(self) -> None:
        if self._alarm is None and self._quotas and not self._over:
            self._alarm = self._clock.call_later(self._again_seconds, self._keep, upkeep=True)

    def _keep(self) -> None:
        self._alarm = None
        for name, quota in list(self._quotas.items()):
            quota.look()
            if quota.forgettable:
                del self._quotas[name]
            else:
                self._ask(quota)
        self._keep_soon()
