"""How much of what all nodes share may one have? Its rows, changed under a lock; the arithmetic is in ../quotas.py."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from perdure.store.contract import QuotaWish, RateWish, Tokens
from perdure.store.postgres.connections import Connection, Connections
from perdure.store.queries import load_queries
from perdure.store.quotas import Bucket, Share, draw, new_share, period_of
from perdure.values.clock import Clock

_SQL = load_queries("postgres", "quotas")


class Quotas:
    """Shares and buckets. A clock that is given (for tests) counts instead of the database's."""

    def __init__(self, connections: Connections, clock: Clock | None) -> None:
        self._connections = connections
        self._clock = clock

    async def share(self, node: str, wishes: Sequence[QuotaWish]) -> list[int]:
        """How much of each limit `node` may hold from now on."""

        async def write(connection: Connection) -> list[int]:
            now, alive = await self._lock(connection, [wish.name for wish in wishes], node)
            shares = await _shares(connection, [wish.name for wish in wishes], now)
            return [await _share(connection, node, wish, shares[wish.name], now) if alive else 0 for wish in wishes]

        return await self._connections.transact(write)

    async def take(self, wishes: Sequence[RateWish]) -> list[Tokens]:
        """Take what is there, up to what is wanted."""

        async def write(connection: Connection) -> list[Tokens]:
            names = [wish.name for wish in wishes]
            now, _ = await self._lock(connection, names, "")
            cursor = await connection.execute(_SQL["buckets"], {"names": names})
            buckets: dict[Any, Bucket] = {(row[0], row[1]): Bucket(row[2], row[3]) for row in await cursor.fetchall()}
            granted = []
            for wish in wishes:
                key = (wish.name, period_of(wish))
                buckets[key], tokens = draw(wish, buckets.get(key), now)
                if tokens.granted:
                    await connection.execute(_SQL["set_bucket"], (*key, *buckets[key]))
                granted.append(tokens)
            return granted

        return await self._connections.transact(write)

    async def _lock(self, connection: Connection, names: list[str], node: str) -> tuple[int, bool]:
        """Be alone with these limits; the time, which moves on from one holder of the lock to the next."""
        await connection.execute(_SQL["name_limits"], {"names": names})
        await connection.execute(_SQL["lock_limits"], {"names": names})
        given = None if self._clock is None else self._clock.now_us()
        row: Any = await (await connection.execute(_SQL["time"], {"now": given, "node": node})).fetchone()
        return row[0], row[1]


async def _shares(connection: Connection, names: list[str], now: int) -> defaultdict[str, dict[str, Share]]:
    shares: defaultdict[str, dict[str, Share]] = defaultdict(dict)
    cursor = await connection.execute(_SQL["shares"], {"names": names, "now": now})
    for name, node, held, wanted, alive in await cursor.fetchall():
        if alive:
            shares[name][node] = Share(held, wanted)
    return shares


async def _share(connection: Connection, node: str, wish: QuotaWish, shares: dict[str, Share], now: int) -> int:
    share = new_share(node, wish, shares, now)
    if share == shares.get(node, Share()):
        return share.held
    if share == Share():
        await connection.execute(_SQL["drop_share"], (wish.name, node))
    else:
        await connection.execute(_SQL["set_share"], (wish.name, node, *share))
    return share.held
