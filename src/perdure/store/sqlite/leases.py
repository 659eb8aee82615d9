"""Who owns which shard? Leases in the database; whether an owner still lives, in a lock that dies with its process.

A lease that runs out frees its shard after seconds. A process that was killed frees its shards at once: it held
an exclusive lock on a file of its own, and whoever gets that lock knows that it is gone. A paused process keeps
its lock, so only time and the epoch stop it.
"""

from __future__ import annotations

from collections.abc import Iterable

import apsw

from perdure.store.contract import Lease, Shard
from perdure.store.member import MOVING
from perdure.store.queries import load_queries
from perdure.store.sqlite.node_locks import NodeLocks
from perdure.store.sqlite.writing import Writing
from perdure.values.clock import Clock

_SQL = load_queries("sqlite", "shards")


class Leases:
    """Claims, renews and releases through one connection. Not for two threads at a time."""

    def __init__(self, db: apsw.Connection, clock: Clock, locks: NodeLocks) -> None:
        self._db = db
        self._clock = clock
        self._locks = locks

    def claim(self, node: str, shards: Iterable[str], lease_seconds: float) -> list[Lease]:
        """Take those of `shards` that are free, expired or whose owner is dead."""
        candidates = [shard for shard in shards if self._free(shard)]
        if not candidates:
            return []
        self._locks.hold(node)
        expires = self._expiry(lease_seconds)
        with Writing(self._db):
            # Again, now that nobody else can claim in between.
            return [
                Lease(shard, self._db.execute(_SQL["claim"], {"shard": shard, "owner": node, "expires": expires}).get)
                for shard in candidates
                if self._free(shard)
            ]

    def renew(self, node: str, leases: Iterable[Lease], lease_seconds: float) -> list[Lease]:
        """Extend leases; returns those still held."""
        expires = self._expiry(lease_seconds)
        with Writing(self._db):
            return [lease for lease in leases if self._change("renew", node, lease, expires=expires)]

    def release(self, node: str, leases: Iterable[Lease]) -> None:
        """Give leases up; ones that were lost are ignored."""
        with Writing(self._db):
            for lease in leases:
                self._change("release", node, lease)

    def shards(self) -> list[Shard]:
        """All shards ever claimed."""
        return [
            Shard(name, owner, epoch, expires, owner is not None and not self._over(owner, expires))
            for name, owner, epoch, expires in self._db.execute(_SQL["shards"])
        ]

    def _free(self, shard: str) -> bool:
        found = self._db.execute(_SQL["shard"], (shard,)).get
        return found is None or found[0] is None or self._over(found[0], found[2])

    def _over(self, owner: str, expires: int) -> bool:
        if owner.startswith(MOVING):
            return False
        return expires <= self._clock.now_us() or self._locks.dead(owner)

    def _change(self, query: str, node: str, lease: Lease, **values: int) -> bool:
        self._db.execute(_SQL[query], {"shard": lease.shard, "owner": node, "epoch": lease.epoch, **values})
        return self._db.changes() > 0

    def _expiry(self, lease_seconds: float) -> int:
        return self._clock.now_us() + round(lease_seconds * 1e6)
