"""How does the cluster stand? One look at its nodes, its shards and what waits in them, as people and programs see it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perdure.store.contract import Backlog, Node, Shard
from perdure.store.many import ManyStores
from perdure.values.clock import Clock, iso
from perdure.values.json import decode

if TYPE_CHECKING:
    from perdure.store.contract import Store


@dataclass(frozen=True, slots=True)
class Lag:
    """How much waits for owners, and for how long the oldest of it has (seconds; None where nothing waits)."""

    queued: int = 0
    oldest_queued_seconds: float | None = None
    due: int = 0
    oldest_due_seconds: float | None = None
    unread: int = 0
    oldest_unread_seconds: float | None = None

    def as_json(self) -> dict[str, Any]:
        """The public form."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class AgentStanding:
    """One agent: its shards, and what waits in them."""

    name: str
    shards: int
    owned: int
    #: living nodes that have the agent's code
    nodes: int
    lag: Lag


class Standing:
    """One look. What runs out does so by the store's clock; seconds are worked out by this machine's."""

    def __init__(
        self, now: int, nodes: list[Node], shards: list[Shard], backlog: list[Backlog], databases: dict[str, str]
    ) -> None:
        self.now = now
        self.nodes = nodes
        self.shards = sorted(shards, key=lambda shard: (agent_of(shard.name), len(shard.name), shard.name))
        self.backlog = backlog
        #: shard -> its database, where the store has several
        self.databases = databases
        #: living node -> how many shards it owns
        self.owned = Counter(shard.owner for shard in shards if shard.alive)

    @classmethod
    async def look(cls, store: Store, clock: Clock) -> Standing:
        """Look now."""
        now = clock.now_us()
        databases = await store.places() if isinstance(store, ManyStores) else {}
        return cls(now, await store.nodes(), await store.shards(), await store.backlog(now), databases)

    @property
    def living(self) -> list[Node]:
        """The nodes that are alive."""
        return [node for node in self.nodes if node.alive]

    @property
    def agents(self) -> list[AgentStanding]:
        """Every agent that has shards, work or a node, by name."""
        shards = Counter(agent_of(shard.name) for shard in self.shards)
        owned = Counter(agent_of(shard.name) for shard in self.shards if shard.alive)
        nodes = Counter(name for node in self.living for name in {agent for agent, _ in node.programs})
        waiting = {agent_of(row.shard) for row in self.backlog}
        return [
            AgentStanding(name, shards[name], owned[name], nodes[name], self.lag(name))
            for name in sorted({*shards, *nodes, *waiting})
        ]

    def lag(self, agent: str | None = None) -> Lag:
        """What waits for the owners of an agent's shards, or of all."""
        rows = [row for row in self.backlog if agent in {None, agent_of(row.shard)}]
        return Lag(
            sum(row.queued for row in rows), self._age(row.queued_since for row in rows),
            sum(row.due for row in rows), self._age(row.due_since for row in rows),
            sum(row.unread for row in rows), self._age(row.unread_since for row in rows),
        )  # fmt: skip

    def left(self, expires: int | None) -> float | None:
        """How long something lasts (seconds)."""
        return None if expires is None else round(max(0, expires - self.now) / 1e6, 3)

    def as_json(self, *, shards: bool = False) -> dict[str, Any]:
        """The public form."""
        told = {
            "time": iso(self.now),
            "nodes": [self._node_json(node) for node in self.nodes],
            "agents": [
                {
                    "agent": agent.name, "shards": agent.shards, "owned": agent.owned, "nodes": agent.nodes,
                    **agent.lag.as_json(),
                }
                for agent in self.agents
            ],
            "lag": self.lag().as_json(),
        }  # fmt: skip
        return {**told, "shards": [self._shard_json(shard) for shard in self.shards]} if shards else told

    def _node_json(self, node: Node) -> dict[str, Any]:
        figures = figures_of(node)
        return {
            "id": node.id, "place": node.place, "alive": node.alive, "draining": node.draining,
            "drain_asked": node.drain_asked, "started": iso(node.started), "lease_seconds_left": self.left(node.expires),
            "programs": [{"agent": agent, "version": version} for agent, version in node.programs],
            "shards": self.owned[node.id], "moving": figures.get("moving"), "queued": figures.get("queued"),
            "steps": figures.get("steps"), "steps_per_second": figures.get("steps_per_second"),
        }  # fmt: skip

    def _shard_json(self, shard: Shard) -> dict[str, Any]:
        return {
            "shard": shard.name, "owner": shard.owner if shard.alive else None, "epoch": shard.epoch,
            "lease_seconds_left": self.left(shard.expires) if shard.alive else None,
            "database": self.databases.get(shard.name),
        }  # fmt: skip

    def _age(self, moments: Any) -> float | None:
        oldest = min((moment for moment in moments if moment is not None), default=None)
        return None if oldest is None else round(max(0, self.now - oldest) / 1e6, 3)


def agent_of(shard: str) -> str:
    """The agent whose sessions are in a shard."""
    return shard.rpartition(":")[0]


def figures_of(node: Node) -> dict[str, Any]:
    """How a node says that it is doing."""
    figures: dict[str, Any] = decode(node.figures)
    return figures
