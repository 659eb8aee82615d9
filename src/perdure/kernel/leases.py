"""Which shards are ours? Claims what is free, renews what is held, gives up, and says when something was lost.

A lease only says who may try. If renewing is late (a paused process, a slow disk), others may claim; the epoch
in every write then refuses ours. A node that finds a lease gone drops the runs of that shard at once.

A shard that is being given up is still held, so that what is under way can be written, but nothing begins in it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from perdure.store.contract import Fence, Lease, Store


class Leases:
    """The leases of one node."""

    def __init__(self, store: Store, node: str, lease_seconds: float) -> None:
        self._store = store
        self._node = node
        self._lease_seconds = lease_seconds
        self._wanted: set[str] = set()
        self._held: dict[str, Fence] = {}
        self._leaving: dict[str, Fence] = {}
        #: how many claims brought something: what was read before the last one may be older than our ownership
        self.claims = 0

    @property
    def shards(self) -> list[str]:
        """Names of the shards that are ours to work on."""
        return list(self._held)

    @property
    def wanted(self) -> Collection[str]:
        """Names of all shards that we could own."""
        return self._wanted

    @property
    def complete(self) -> bool:
        """True when every wanted shard is ours."""
        return len(self._held) == len(self._wanted)

    @property
    def all(self) -> list[str]:
        """Names of the shards that are ours, or still are because they are being given up."""
        return [*self._held, *self._leaving]

    def fence(self, shard: str) -> Fence | None:
        """The right to begin something in `shard`, or None when it is not ours (any more)."""
        return self._held.get(shard)

    def holds(self, shard: str) -> bool:
        """True while code of the runs of `shard` may move here."""
        return shard in self._held

    def want(self, shards: Iterable[str]) -> None:
        """These are what `claim` is for."""
        self._wanted.update(shards)

    async def claim(self, shards: Iterable[str]) -> list[str]:
        """Try to own these; returns the new ones."""
        missing = [shard for shard in shards if shard not in self._held and shard not in self._leaving]
        if not missing:
            return []
        leases = await self._store.claim(self._node, missing, self._lease_seconds)
        self.claims += bool(leases)
        for lease in leases:
            self._held[lease.shard] = Fence(lease.shard, lease.epoch)
        return [lease.shard for lease in leases]

    async def renew(self) -> list[str]:
        """Extend every lease; returns the shards that were lost."""
        fences = {**self._held, **self._leaving}
        if not fences:
            return []
        leases = [Lease(shard, fence.epoch) for shard, fence in fences.items()]
        kept = {lease.shard for lease in await self._store.renew(self._node, leases, self._lease_seconds)}
        # Given up, lost by a refused write, or lost and claimed anew meanwhile: then there is nothing to lose here.
        lost = [shard for shard, fence in fences.items() if shard not in kept and self._fence(shard) == fence]
        for shard in lost:
            self.drop(shard)
        return lost

    def drop(self, shard: str) -> None:
        """The shard is not ours any more."""
        self._held.pop(shard, None)
        self._leaving.pop(shard, None)

    def drop_if(self, fence: Fence) -> bool:
        """A write with `fence` was refused: drop its shard, unless it is ours anew; True when it was dropped."""
        current = self._fence(fence.shard) == fence
        if current:
            self.drop(fence.shard)
        return current

    def give_up(self, shards: Iterable[str]) -> list[str]:
        """Nothing begins in these from now on, until `release`; returns those that were held."""
        leaving = [shard for shard in shards if shard in self._held]
        for shard in leaving:
            self._leaving[shard] = self._held.pop(shard)
        return leaving

    def leaves(self, shard: str) -> bool:
        """True while `shard` is being given up."""
        return shard in self._leaving

    async def release(self, shards: Iterable[str]) -> None:
        """Let others have these, which were given up. Raises StoreError; they then run out by themselves."""
        leases = [Lease(shard, self._leaving.pop(shard).epoch) for shard in shards if shard in self._leaving]
        if leases:
            await self._store.release(self._node, leases)

    def _fence(self, shard: str) -> Fence | None:
        return self._held.get(shard) or self._leaving.get(shard)
