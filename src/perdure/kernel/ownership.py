"""Which runs of our shards must move? What a dead owner left behind, what is queued, what is due.

The store is asked for what this node can run: however many runs wait for a version that it does not have, they hide
none of the others. A long queue stays in the store; more of it is offered as what was offered gets its places.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from perdure.store.contract import Fence

if TYPE_CHECKING:
    from perdure.kernel.kernel import Kernel

_PAGE = 500
#: When so many of an agent wait for a place here, no more are read.
_ENOUGH = _PAGE // 2
#: How soon to look again for runs that stay due: until the next commit, or while there is no place or no room on disk.
_DUE_AGAIN_US = 20_000
_DUE_BLOCKED_US = 250_000


class Ownership:
    """Offers places to the runs of the shards that this node owns, and drops them with the shards."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._programs = [(name, version) for name in kernel.agents.names() for version in kernel.agents.versions(name)]
        #: agents of which more runs are queued in the store, and the last one that was offered
        self._more: dict[str, str] = {}

    async def recover(self, shards: list[str]) -> None:
        """These are ours now: bring back what was left behind, is queued or is due."""
        if not shards:
            return
        for run in await self._kernel.reads.active(shards):
            self._kernel.live.offer(run)
        await self._kernel.mailroom.read(shards)
        # Of all shards of their agents: where the queue was read to before says nothing about these.
        agents = {_agent_of(shard) for shard in shards}
        await self.offer_ready([shard for shard in self._kernel.leases.shards if _agent_of(shard) in agents])
        await self.wake_due(self._kernel.clock.now_us())
        await self.offer_stranded(shards)

    async def offer_stranded(self, shards: Sequence[str]) -> None:
        """Find out which of `shards` have runs that others could run and we cannot: they are to go there (needs.py)."""
        reads, programs = self._kernel.reads, self._kernel.membership.parts.needs.elsewhere
        if programs and shards:
            queued = await reads.ready(shards, _PAGE, programs=programs)
            due = await reads.due(shards, self._kernel.clock.now_us(), _PAGE, programs=programs)
            for run in [*queued, *due]:
                if (run.agent, run.version) in programs:
                    self._kernel.membership.parts.needs.lacks(run.shard, run.version)

    def refused(self, fence: Fence) -> None:
        """A write with `fence` was refused: the shard has another owner, or had one."""
        if self._kernel.leases.drop_if(fence):
            self._kernel.live.forget_shards({fence.shard})

    def drop(self, shards: Collection[str]) -> None:
        """These are not ours any more: everything of them stops, and is left to whoever owns them next."""
        for shard in shards:
            self._kernel.leases.drop(shard)
        if shards:
            self._kernel.live.forget_shards(set(shards))

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
        run = await self._kernel.reads.session_next(agent, session)
        if run is not None and self._kernel.fence(run.shard) is not None:
            self._kernel.live.offer(run)

    async def offer_again(self, id: str) -> None:
        """A run is to be loaded afresh."""
        run = await self._kernel.reads.run(id)
        if run is not None:
            self._kernel.live.offer(run)

    async def wake_due(self, now: int) -> None:
        """Offer places to the runs that the store says are due at `now`."""
        kernel, shards = self._kernel, self._kernel.leases.shards
        # Runs that are due and wait for a place stay due in the store: look past them.
        most = _PAGE + kernel.dispatcher.queued
        for run in await kernel.reads.due(shards, now, most, programs=self._programs):
            kernel.live.offer(run)
        due = await kernel.reads.next_due(shards, programs=self._programs)
        if due is not None:
            # What was just woken is due in the store until its next commit: do not spin on it.
            blocked = kernel.dispatcher.queued or kernel.commits.stalled
            again = _DUE_BLOCKED_US if blocked else _DUE_AGAIN_US
            kernel.alarms.due_at(due if due > now else kernel.clock.now_us() + again)

    async def _offer_queued(self, agent: str, owned: Sequence[str], *, after: str | None = None) -> None:
        while not self._kernel.halted:
            ready = await self._kernel.reads.ready(owned, _PAGE, programs=self._programs, after=after)
            for run in ready:
                self._kernel.live.offer(run)
            if len(ready) < _PAGE:
                self._more.pop(agent, None)
                return
            after = ready[-1].id
            if self._kernel.dispatcher.queued_of(agent) >= _ENOUGH:
                self._more[agent] = after
                return


def _agent_of(shard: str) -> str:
    return shard.rpartition(":")[0]
