"""Who is there? The nodes that beat, in a dict; what a node holds by name goes with its entry."""

from __future__ import annotations

from dataclasses import replace

from perdure.errors import NotFound
from perdure.store.contract import DEAD_KEPT_SECONDS, Node
from perdure.store.memory.data import Data
from perdure.values.clock import Clock


class Nodes:
    """The nodes of one store. `dead` names those that are known to be gone."""

    def __init__(self, data: Data, clock: Clock, dead: set[str]) -> None:
        self._data = data
        self._clock = clock
        self._dead = dead

    def beat(self, node: Node, lease_seconds: float) -> bool:
        """Take a node's word for the next `lease_seconds`; True when that is news to the others."""
        now = self._clock.now_us()
        self._forget_before(now - round(DEAD_KEPT_SECONDS * 1e6))
        known, came = self._data.nodes.get(node.id), not self.alive(node.id)
        if came:
            self._drop_shares(node.id)
        drain_asked = known is not None and known.drain_asked
        expires = now + round(lease_seconds * 1e6)
        self._data.nodes[node.id] = replace(node, expires=expires, alive=False, drain_asked=drain_asked)
        return came or known is None or known.draining != node.draining

    def leave(self, node: str) -> None:
        """Its entry and its shares are gone."""
        self._data.nodes.pop(node, None)
        self._drop_shares(node)

    def ask_drain(self, node: str) -> None:
        """Leave word for a node. Raises NotFound."""
        known = self._data.nodes.get(node)
        if known is None:
            raise NotFound(f"node {node}: there is no such node in this store")
        self._data.nodes[node] = replace(known, drain_asked=True)

    def all(self) -> list[Node]:
        """Every entry, the longest there first."""
        entries = sorted(self._data.nodes.values(), key=lambda node: (node.started, node.id))
        return [replace(node, alive=self.alive(node.id)) for node in entries]

    def alive(self, node: str) -> bool:
        """True when it has beaten in time, and is not known to be gone."""
        known = self._data.nodes.get(node)
        return known is not None and node not in self._dead and known.expires > self._clock.now_us()

    def _forget_before(self, bound: int) -> None:
        for node in [node for node in self._data.nodes.values() if node.expires <= bound]:
            self.leave(node.id)

    def _drop_shares(self, node: str) -> None:
        for shares in self._data.shares.values():
            shares.pop(node, None)
