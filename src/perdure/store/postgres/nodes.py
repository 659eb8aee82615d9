"""Who is there? An entry for each node that beats."""

from __future__ import annotations

from typing import Any

from perdure.errors import NotFound
from perdure.store.contract import DEAD_KEPT_SECONDS, Node
from perdure.store.postgres.connections import Connection, Connections
from perdure.store.queries import load_queries
from perdure.values.clock import Clock
from perdure.values.json import decode, encode

_SQL = load_queries("postgres", "nodes")


class Nodes:
    """Entries of nodes. A clock that is given (for tests) counts instead of the database's."""

    def __init__(self, connections: Connections, clock: Clock | None) -> None:
        self._connections = connections
        self._clock = clock

    async def beat(self, node: Node, lease_seconds: float) -> list[Node]:
        """Take a node's word for the next `lease_seconds`; all that are alive."""
        values = {
            "now": self._now(), "lease": round(lease_seconds * 1e6), "kept": round(DEAD_KEPT_SECONDS * 1e6), "id": node.id,
            "place": node.place, "started": node.started, "programs": encode(node.programs), "draining": node.draining,
            "figures": node.figures,
        }  # fmt: skip

        async def write(connection: Connection) -> list[Any]:
            for query in ("lock_node", "lapse", "beat", "forget_dead", "drop_left_shares", "drop_full_buckets"):
                await connection.execute(_SQL[query], values)
            return await (await connection.execute(_SQL["nodes"], values)).fetchall()

        return [other for row in await self._connections.transact(write) if (other := _node(row)).alive]

    async def leave(self, node: str) -> None:
        """Its entry and its shares are gone."""

        async def write(connection: Connection) -> None:
            for query in ("drop_shares", "leave"):
                await connection.execute(_SQL[query], {"id": node})

        await self._connections.transact(write)

    async def all(self) -> list[Node]:
        """Every entry, the longest there first."""
        return [_node(row) for row in await self._connections.fetch(_SQL["nodes"], {"now": self._now()})]

    async def ask_drain(self, node: str) -> None:
        """Leave word for a node. Raises NotFound."""
        if not await self._connections.fetch(_SQL["ask_drain"], (node,)):
            raise NotFound(f"node {node}: there is no such node in this store. `perdure cluster status` lists them.")

    def _now(self) -> int | None:
        return None if self._clock is None else self._clock.now_us()


def _node(row: Any) -> Node:
    id, place, started, programs, draining, figures, expires, alive, drain_asked = row
    known = tuple((agent, version) for agent, version in decode(programs))
    return Node(id, place, started, known, draining, figures, expires, alive, drain_asked)
