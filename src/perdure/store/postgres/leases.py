"""Who owns which shard? Leases in the database, which run out by the database's clock."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from perdure.store.contract import Lease, Shard
from perdure.store.postgres.connections import Connection, Connections
from perdure.store.queries import load_queries
from perdure.values.clock import Clock

_SQL = load_queries("postgres", "shards")


class Leases:
    """Claims, renews and releases. A clock that is given (for tests) counts instead of the database's."""

    def __init__(self, connections: Connections, clock: Clock | None) -> None:
        self._connections = connections
        self._clock = clock

    async def claim(self, node: str, shards: Iterable[str], lease_seconds: float) -> list[Lease]:
        """Take those of `shards` that are free or expired."""
        values = {**self._times(lease_seconds), "shards": list(shards), "owner": node}

        async def take(connection: Connection) -> list[Lease]:
            await connection.execute(_SQL["name_shards"], values)
            cursor = await connection.execute(_SQL["claim"], values)
            return sorted(Lease(*row) for row in await cursor.fetchall())

        return await self._connections.transact(take) if values["shards"] else []

    async def renew(self, node: str, leases: Iterable[Lease], lease_seconds: float) -> list[Lease]:
        """Extend leases; returns those still held."""
        leases = list(leases)
        values = {**self._times(lease_seconds), **_named(leases), "owner": node}
        held = {Lease(*row) for row in await self._connections.fetch(_SQL["renew"], values)}
        return [lease for lease in leases if lease in held]

    async def release(self, node: str, leases: Iterable[Lease]) -> None:
        """Give leases up; ones that were lost are ignored."""
        await self._connections.fetch(_SQL["release"], {**_named(leases), "owner": node})

    async def shards(self) -> list[Shard]:
        """All shards ever claimed."""
        return [Shard(*row) for row in await self._connections.fetch(_SQL["shards"], self._times(0))]

    def _times(self, lease_seconds: float) -> dict[str, Any]:
        now = None if self._clock is None else self._clock.now_us()
        return {"now": now, "lease": round(lease_seconds * 1e6)}


def _named(leases: Iterable[Lease]) -> dict[str, Any]:
    leases = list(leases)
    return {"shards": [lease.shard for lease in leases], "epochs": [lease.epoch for lease in leases]}
