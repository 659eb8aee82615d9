"""Which shards are ours? Claims what is free, renews what is held, and says when something was lost.

A lease only says who may try. If renewing is late (a paused process, a slow disk), others may claim; the epoch
in every write then refuses ours. A node that finds a lease gone drops the runs of that shard at once.
"""

from __future__ import annotations

from collections.abc import Iterable

from perdure.store.contract import Fence, Lease, Store


class Leases:
    """The leases of one node."""

    def __init__(self, store: Store, node: str, lease_seconds: float) -> None:
        self._store = store
        self._node = node
        self._lease_seconds = lease_seconds
        self._wanted: set[str] = set()
        self._held: dict[str, Fence] = {}

    @property
    def shards(self) -> list[str]:
        """Names of the shards that are ours."""
        return list(self._held)

    @property
    def complete(self) -> bool:
        """True when every wanted shard is ours."""
        return len(self._held) == len(self._wanted)

    def fence(self, shard: str) -> Fence | None:
        """The right to write runs of `shard`, or None when it is not ours."""
        return self._held.get(shard)

    def want(self, shards: Iterable[str]) -> None:
        """Also try to own these."""
        self._wanted.update(shards)

    async def claim(self) -> list[str]:
        """Try to own every wanted shard; returns the new ones."""
        missing = [shard for shard in self._wanted if shard not in self._held]
        if not missing:
            return []
        leases = await self._store.claim(self._node, missing, self._lease_seconds)
        for lease in leases:
            self._held[lease.shard] = Fence(lease.shard, lease.epoch)
        return [lease.shard for lease in leases]

    async def renew(self) -> list[str]:
        """Extend every lease; returns the shards that were lost."""
        leases = [Lease(shard, fence.epoch) for shard, fence in self._held.items()]
        if not leases:
            return []
        kept = {lease.shard for lease in await self._store.renew(self._node, leases, self._lease_seconds)}
        lost = [lease.shard for lease in leases if lease.shard not in kept]
        for shard in lost:
            self._held.pop(shard, None)  # a refused write may have told us meanwhile
        return lost

    def drop(self, shard: str) -> None:
        """A write was refused: the shard is not ours any more."""
        self._held.pop(shard, None)

    async def release(self) -> None:
        """Give everything up."""
        leases = [Lease(shard, fence.epoch) for shard, fence in self._held.items()]
        self._held.clear()
        self._wanted.clear()
        if leases:
            await self._store.release(self._node, leases)
