"""Who is there? An entry for each node that beats; whether its process still lives, in the lock that it holds."""

from __future__ import annotations

from typing import Any

import apsw

from perdure.errors import NotFound
from perdure.store.contract import DEAD_KEPT_SECONDS, Node
from perdure.store.queries import load_queries
from perdure.store.sqlite.node_locks import NodeLocks
from perdure.store.sqlite.writing import Writing
from perdure.values.clock import Clock
from perdure.values.json import decode, encode

_SQL = load_queries("sqlite", "nodes")


class Nodes:
    """Entries of nodes through one connection. Not for two threads at a time."""

    def __init__(self, db: apsw.Connection, clock: Clock, locks: NodeLocks) -> None:
        self._db = db
        self._clock = clock
        self._locks = locks

    def beat(self, node: Node, lease_seconds: float) -> list[Node]:
        """Take a node's word for the next `lease_seconds`; all that are alive."""
        self._locks.hold(node.id)
        with Writing(self._db):
            now = self._clock.now_us()
            self._forget_before(now - round(DEAD_KEPT_SECONDS * 1e6))
            if not self.alive(node.id):
                self._db.execute(_SQL["drop_shares"], (node.id,))
            self._db.execute(_SQL["beat"], _row(node, now + round(lease_seconds * 1e6)))
            self._db.execute(_SQL["drop_full_buckets"], (now,))
            return self.living()

    def leave(self, node: str) -> None:
        """Its entry and its shares are gone."""
        with Writing(self._db):
            self._drop(node)

    def ask_drain(self, node: str) -> None:
        """Leave word for a node. Raises NotFound."""
        with Writing(self._db):
            self._db.execute(_SQL["ask_drain"], (node,))
            if not self._db.changes():
                raise NotFound(
                    f"node {node}: there is no such node in this store. `perdure cluster status` lists them."
                )

    def all(self) -> list[Node]:
        """Every entry, the longest there first."""
        return [self._node(row) for row in self._db.execute(_SQL["nodes"])]

    def living(self) -> list[Node]:
        """Those that are alive."""
        return [node for node in self.all() if node.alive]

    def alive(self, node: str) -> bool:
        """True when it has beaten in time, and its process is not known to be gone."""
        expires = self._db.execute(_SQL["expires"], (node,)).get
        return expires is not None and self._lasts(node, expires)

    def _lasts(self, node: str, expires: int) -> bool:
        return expires > self._clock.now_us() and not self._locks.dead(node)

    def _node(self, row: Any) -> Node:
        id, place, started, programs, draining, figures, expires, drain_asked = row
        known = tuple((agent, version) for agent, version in decode(programs))
        alive = self._lasts(id, expires)
        return Node(id, place, started, known, bool(draining), figures, expires, alive, bool(drain_asked))

    def _forget_before(self, bound: int) -> None:
        dead: list[Any] = self._db.execute(_SQL["dead_since"], (bound,)).fetchall()
        for (node,) in dead:
            self._drop(node)

    def _drop(self, node: str) -> None:
        self._db.execute(_SQL["leave"], (node,))
        self._db.execute(_SQL["drop_shares"], (node,))


def _row(node: Node, expires: int) -> tuple[Any, ...]:
    return node.id, node.place, node.started, encode(node.programs), node.draining, node.figures, expires
