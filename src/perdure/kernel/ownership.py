"""Which shards are ours, and which of their runs must move? What a dead owner left behind, what is queued, what is due.

The store is asked for what this node can run: however many runs wait for a version that it does not have, they hide
none of the others. A long queue stays in the store; more of it is offered as what was offered gets its places.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from perdure.errors import StoreBusy, StoreFull
from perdure.values.clock import Alarm

if TYPE_CHECKING:
    from perdure.kernel.kernel import Kernel

log = logging.getLogger("perdure.kernel")

_PAGE = 500
#: When so many of an agent wait for a place here, no more are read.
_ENOUGH = _PAGE // 2
#: How soon to look again for runs that stay due: until the next commit, or while there is no place or no room on disk.
_DUE_AGAIN_US = 20_000
_DUE_BLOCKED_US = 250_000
#: how often to try again for shards that others hold
_CLAIM_SECONDS = 0.25


class Ownership:
    """Keeps the leases of one node, and offers places to the runs that come with them."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._programs: list[tuple[str, str]] = []
        #: agents of which more runs are queued in the store, and the last one that was offered
        self._more: dict[str, str] = {}
        self._keeper: Alarm | None = None

    async def begin(self) -> None:
        """Own the shards of our agents from now on, and recover their runs."""
        kernel = self._kernel
        names = list(kernel.agents.names())
        self._programs = [(name, version) for name in names for version in kernel.agents.versions(name)]
        kernel.leases.want(f"{name}:{slot}" for name in names for slot in range(kernel.slots))
        await self._claim()
        self._keep_soon()

    def rest(self) -> None:
        """Renew and claim no more."""
        if self._keeper is not None:
            self._keeper.cancel()

    def lost(self, shard: str) -> None:
        """A write was refused: the shard has another owner."""
        self._kernel.leases.drop(shard)
        self._forget(shard)

    async def offer_ready(self, shards: Sequence[str]) -> None:
        """Offer places to the queued runs of `shards`."""
        # Agent by agent, so that the queue of one does not hide that of another.
        by_agent = defaultdict(list)
        for shard in shards:
            by_agent[_agent_of(shard)].append(shard)
        for agent, owned in by_agent.items():
            await self._offer_queued(agent, owned)

    def queue_shorter(self, agent: str) -> None:
        """One run less of `agent` waits for a place here."""
        if agent in self._more and self._kernel.dispatcher.queued_of(agent) < _ENOUGH and not self._kernel.halted:
            owned = [shard for shard in self._kernel.leases.shards if _agent_of(shard) == agent]
            self._kernel.spawn_task(self._offer_queued(agent, owned, after=self._more.pop(agent)))

    async def offer_next(self, agent: str, session: str) -> None:
        """A session is free: offer a place to its next run."""
        run = await self._kernel.store.session_next(agent, session)
        if run is not None and self._kernel.fence(run.shard) is not None:
            self._kernel.live.offer(run)

    async def offer_again(self, id: str) -> None:
        """A run is to be loaded afresh."""
        run = await self._kernel.store.run(id)
        if run is not None:
            self._kernel.live.offer(run)

    async def wake_due(self, now: int) -> None:
        """Offer places to the runs that the store says are due at `now`."""
        kernel, shards = self._kernel, self._kernel.leases.shards
        # Runs that are due and wait for a place stay due in the store: look past them.
        most = _PAGE + kernel.dispatcher.queued
        for run in await kernel.store.due(shards, now, most, programs=self._programs):
            kernel.live.offer(run)
        due = await kernel.store.next_due(shards, programs=self._programs)
        if due is not None:
            # What was just woken is due in the store until its next commit: do not spin on it.
            blocked = kernel.dispatcher.queued or kernel.commits.stalled
            again = _DUE_BLOCKED_US if blocked else _DUE_AGAIN_US
            kernel.alarms.due_at(due if due > now else kernel.clock.now_us() + again)

    async def _claim(self) -> None:
        shards = await self._kernel.leases.claim()
        if shards:
            await self._recover(shards)

    async def _recover(self, shards: list[str]) -> None:
        for run in await self._kernel.store.active(shards):
            self._kernel.live.offer(run)
        await self._kernel.mailroom.read(shards, after=0)
        await self.offer_ready(shards)
        await self.wake_due(self._kernel.clock.now_us())

    async def _offer_queued(self, agent: str, owned: Sequence[str], *, after: str | None = None) -> None:
        while not self._kernel.halted:
            ready = await self._kernel.store.ready(owned, _PAGE, programs=self._programs, after=after)
            for run in ready:
                self._kernel.live.offer(run)
            if len(ready) < _PAGE:
                self._more.pop(agent, None)
                return
            after = ready[-1].id
            if self._kernel.dispatcher.queued_of(agent) >= _ENOUGH:
                self._more[agent] = after
                return

    def _keep_soon(self) -> None:
        if not self._kernel.halted:
            seconds = self._kernel.settings.lease_seconds / 3 if self._kernel.leases.complete else _CLAIM_SECONDS
            self._keeper = self._kernel.clock.call_later(
                seconds, lambda: self._kernel.spawn_task(self._keep()), upkeep=True
            )

    async def _keep(self) -> None:
        try:
            for shard in await self._kernel.leases.renew():
                self._forget(shard)
            await self._claim()
        except (StoreFull, StoreBusy) as error:
            log.warning("leases are not renewed: %s", error)
        self._kernel.live.sweep()
        # The machine may have slept, or its wall clock was set: alarms count seconds awake, due times are wall time.
        self._kernel.alarms.ring()
        self._keep_soon()

    def _forget(self, shard: str) -> None:
        for activation in self._kernel.live.all():
            if activation.run.shard == shard:
                self._kernel.live.forget(activation)


def _agent_of(shard: str) -> str:
    return shard.rpartition(":")[0]
