"""Which runs of our shards must move? What a dead owner left behind, what is queued (queues.py), what is due.

The store is asked for what this node can run: however many runs wait for a version that it does not have, they hide
none of the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from perdure.kernel.queues import Queues, agents_of
from perdure.store.contract import Cursor, Fence, Programs, Queue
from perdure.values.runs import Run

if TYPE_CHECKING:
    from perdure.kernel.kernel import Kernel

_PAGE = 500
#: How soon to look again for runs that stay due: until the next commit, or while there is no place or no room on disk.
_DUE_AGAIN_US = 20_000
_DUE_BLOCKED_US = 250_000


class Ownership:
    """Offers places to the runs of the shards that this node owns, and drops them with the shards."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._programs = [(name, version) for name in kernel.agents.names() for version in kernel.agents.versions(name)]
        self.queues = Queues(kernel, self._programs)

    async def recover(self, shards: list[str]) -> None:
        """These are ours now: bring back what was left behind, is queued or is due."""
        if not shards:
            return
        for run in await self._kernel.reads.active(shards):
            self._kernel.live.offer(run)
        await self._kernel.mailroom.read(shards)
        await self.offer_ready(shards)
        await self.wake_due(self._kernel.clock.now_us())
        await self.offer_stranded(shards)

    async def offer_stranded(self, shards: Sequence[str]) -> None:
        """Find out which of `shards` have runs that others could run and we cannot: they are to go there (needs.py)."""
        programs = self._kernel.membership.parts.needs.elsewhere
        if programs and shards:
            self._lacks(await self._kernel.reads.due(shards, self._kernel.clock.now_us(), _PAGE, programs=programs))
            for agent in agents_of(shards):
                await self._look_through(agent, shards, programs)

    async def _look_through(self, agent: str, shards: Sequence[str], programs: Programs) -> None:
        # To the end of each queue: what nobody here can run never begins, and has more in front of it than behind.
        reads, after = self._kernel.reads, None
        while queues := await reads.queues(agent, _PAGE, after=after):
            after = queues[-1]
            rests: dict[Queue, Cursor] = dict.fromkeys(queues)
            while rests and not self._kernel.halted:
                pages = await reads.ready(shards, rests, max(1, _PAGE // len(rests)), programs=programs)
                self._lacks(run for page in pages for run in page.runs)
                rests = {page.queue: page.after for page in pages if page.after is not None}
                await asyncio.sleep(0)  # not every store suspends

    def _lacks(self, runs: Iterable[Run]) -> None:
        needs = self._kernel.membership.parts.needs
        for run in runs:
            if (run.agent, run.version) in needs.elsewhere:
                needs.lacks(run.shard, run.version)

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
        """Offer places to the queued runs of the agents that have `shards`, as far as they are ours."""
        for agent in agents_of(shards):
            await self.queues.read(agent)

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
