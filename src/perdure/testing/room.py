"""A room of places for nodes: in each, one life follows another, ended by a crash, in good order, or by who asks for it.

The storm (storm.py) decides what happens to whom; here stands how a node is made, lives and is replaced. When all is
well every shard has an owner, and the nodes share them evenly: `complaint` says what is missing from that.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from perdure.agents.agent import AnyAgent
from perdure.errors import StoreBroken, StoreBusy, StoreFull
from perdure.runtime import Runtime
from perdure.store import MemoryStore
from perdure.store.contract import Store, Transaction
from perdure.testing.host import SimulatedClock, SimulatedHost
from perdure.testing.record import ClusterRecord, RecordedHands, RecordedStore
from perdure.testing.remote import Line, RemoteStore
from perdure.testing.swarm import Mix, Weather
from perdure.testing.watched import WatchedHands, WatchedStore
from perdure.values.settings import Settings

#: how long a place stays empty, at most
_ABSENT_SECONDS = 0.5
#: how often a keeper looks whether its node has failed: to be told costs a turn with every commit
_LOOK_SECONDS = 0.7
_STRIKES_MOST = 8


@dataclass(slots=True)
class SimulatedNode:
    """A node, with what can be done to it."""

    name: str
    runtime: Runtime
    clock: SimulatedClock
    line: Line
    #: set when it is told to end in good order
    told: asyncio.Event = field(default_factory=asyncio.Event)


class Room:
    """All nodes of a simulation, on one store."""

    def __init__(
        self, host: SimulatedHost, dice: random.Random, mix: Mix, store: MemoryStore, agents: Sequence[AnyAgent],
        record: ClusterRecord,
    ) -> None:  # fmt: skip
        #: those that live, by name
        self.nodes: dict[str, SimulatedNode] = {}
        self.clocks: list[SimulatedClock] = []
        #: how far the wall clocks of new nodes are ahead, microseconds
        self.ahead_us = 0
        #: their calls to the store take time, and replies may be lost
        self.far = False
        #: how many ever came
        self.joined = 0
        self.deaths = 0
        #: how many ended in good order
        self.departures = 0
        self._host = host
        self._dice = dice
        self._mix = mix
        self._store = store
        self._agents = agents
        self._record = record
        self._kept: list[Any] = []

    def make(self, name: str, weather: Weather) -> SimulatedNode:
        """A node that does nothing yet."""
        host, mix, record = self._host, self._mix, self._record
        clock, line = SimulatedClock(host), Line(host, self._dice)
        if self.far:
            line.lost_rate, line.seconds = mix.lost_rate, mix.store_seconds
        clock.ahead_us = self.ahead_us
        watched = cast("Store", WatchedStore(self._store, weather, record))

        def arrive(batch: Sequence[Transaction]) -> None:
            self._kept.append(host.start_on("", record.commit_of(name, self._store, batch)))

        store = cast("Store", RecordedStore(cast("Store", RemoteStore(watched, line, arrive)), record))
        settings = Settings(
            lease_seconds=mix.lease_seconds, finish_seconds=mix.finish_seconds, idle_most=mix.idle_most,
            idle_seconds=mix.idle_seconds, strikes_most=_STRIKES_MOST,
        )  # fmt: skip
        runtime = Runtime(store, self._agents, clock=clock, settings=settings, dice=self._dice.random)
        hands = WatchedHands(runtime.kernel.hands, weather, record)
        runtime.kernel.hands = RecordedHands(hands, record, self._store, runtime.kernel.node)
        self.clocks.append(clock)
        self._kept.append(runtime)
        return SimulatedNode(name, runtime, clock, line)

    async def keep(self, place: str, weather: Weather) -> None:
        """Let one node after the other live in `place`."""
        await asyncio.sleep(self._dice.random() * self._mix.join_seconds)
        for life in range(1_000):
            node = self.nodes[f"{place}{life}"] = self.make(f"{place}{life}", weather)
            self.joined += 1
            if await self._live_on(node):
                self.departures += 1
            else:
                self.deaths += 1
            del self.nodes[node.name]
            self._host.kill(node.name)
            if self._mix.death_is_known:
                self._store.bury(node.runtime.kernel.node)
            await asyncio.sleep(self._dice.random() * _ABSENT_SECONDS)

    @property
    def present(self) -> set[str]:
        """Names of the nodes that work and will go on to."""
        return {node.name for node in self.nodes.values() if not node.runtime.kernel.membership.draining}

    async def complaint(self) -> str:
        """What is wrong with who owns what, in words; empty when every shard has an owner and nobody too many."""
        if len(self.present) < self._mix.nodes:
            return f"only {sorted(self.present)} are there"
        kernels = {node.runtime.kernel.node: node.runtime.kernel for node in self.nodes.values()}
        names, shards = {agent.name for agent in self._agents}, await self._store.shards()
        wanted = {f"{name}:{slot}" for name in names for slot in range(self._mix.slots)}
        # Who has not heard that its claim was granted owns a shard in the eyes of the store only, for a lease.
        owned = {
            shard.name: shard.owner
            for shard in shards
            if shard.alive and shard.owner in kernels and kernels[shard.owner].leases.holds(shard.name)
        }
        if missing := sorted(wanted - owned.keys()):
            return f"{missing} have no owner"
        for name in sorted(names):
            counts = Counter(owned[f"{name}:{slot}"] for slot in range(self._mix.slots))
            parts = [counts[node] for node in kernels]
            if max(parts) - min(parts) > 1:
                return f"the shards of {name} are spread unevenly: {sorted(parts)}"
        return ""

    async def _live_on(self, node: SimulatedNode) -> bool:
        """Live until the end, and say whether that was in good order."""
        death = self._host.death_of(node.name)
        life = self._host.start_on(node.name, _live(node))
        while not (death.done() or life.done() or node.runtime.kernel.failure):
            await asyncio.wait([death, life], timeout=_LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        error = node.runtime.kernel.failure or (life.exception() if life.done() else None)
        if error is not None and not _is_excused(error, node.runtime):
            self._record.violations.append(f"{node.name} failed of {type(error).__name__}: {error}")
        return life.done() and error is None


async def _live(node: SimulatedNode) -> None:
    """What a worker's program does."""
    kernel = node.runtime.kernel
    await kernel.start()
    ends = [asyncio.ensure_future(node.told.wait()), asyncio.ensure_future(kernel.membership.drained())]
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    await kernel.stop()


def _is_excused(error: BaseException, runtime: Runtime) -> bool:
    """A disk that failed ends a node; one that cannot be reached only one that is beginning or ending."""
    begins_or_ends = runtime.kernel.stopping or not runtime.kernel.leases.claims
    return isinstance(error, StoreBroken) or (begins_or_ends and isinstance(error, StoreBusy | StoreFull))
