"""What goes wrong in a simulation, and how often? Each seed draws a mix of its own.

A mix in which everything goes wrong at once finds less than many mixes in each of which something else does not: a bug
that needs a long life of a node hides where nodes die all the time (Groce et al., Swarm Testing, 2012).
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from perdure.errors import StoreBroken, StoreFull
from perdure.testing.host import SimulatedHost, current_node, pass_time


@dataclass(frozen=True, slots=True)
class Mix:
    """The faults of one seed. Rates are chances per point passed, or per second where they say so."""

    nodes: int
    #: into how many shards the sessions of an agent are spread
    slots: int
    #: a node that is not heard of for so long may lose its shards, seconds
    lease_seconds: float
    #: how long steps may take when a node gives shards up, seconds
    finish_seconds: float
    #: latest moment at which a node comes for the first time, seconds
    join_seconds: float
    #: longest time that a call to the store takes, seconds
    store_seconds: float
    #: longest time that a tool takes at each of its points, seconds
    tool_seconds: float
    #: a node dies at a point
    crash_rate: float
    #: a write is lost, or its acknowledgement, and the node is told that the store broke
    broken_rate: float
    #: the reply to a call is lost: a node is told that the store is busy, whatever the call did
    lost_rate: float
    #: the disk is full for a while, per second
    full_rate: float
    #: the store is away for a while, and comes back with all it had, per second
    failover_rate: float
    #: a node is cut off from the store for a while, one way or both, per second
    cut_rate: float
    #: a node is killed from outside, per second
    kill_rate: float
    #: a node is told to end in good order, per second
    leave_rate: float
    #: a node is asked to drain, per second
    drain_rate: float
    #: a node is frozen for longer than its leases last, and comes back, per second
    freeze_rate: float
    #: a node's wall clock jumps, by a minute or by a year, per second
    jump_rate: float
    #: share of runs that kill every node that runs them
    poison_rate: float
    #: that a node is dead is known at once; otherwise its leases must run out
    death_is_known: bool
    #: waiting runs that stay in memory, and for how long
    idle_most: int
    idle_seconds: float
    #: what a client does, per second
    requests_rate: float
    #: share of requests that go through a node that works, and may die with it
    inside_share: float
    #: how often somebody starts runs of agents that are limited, per second
    crowd_rate: float

    @classmethod
    def draw(cls, dice: random.Random) -> Mix:
        """A mix: every kind of fault is left out about half of the time."""

        def sometimes(*rates: float) -> float:
            return dice.choice([0.0] * len(rates) + list(rates))

        return cls(
            nodes=dice.choice([1, 2, 2, 2, 2, 3, 3, 3, 5]),
            slots=dice.choice([2, 2, 5]),
            lease_seconds=dice.choice([1.0, 2.0, 4.0]),
            finish_seconds=dice.choice([0.5, 5.0]),
            join_seconds=sometimes(1.0, 8.0),
            store_seconds=sometimes(0.001, 0.01, 0.05, 0.4),
            tool_seconds=sometimes(0.01, 0.2, 2.0),
            crash_rate=sometimes(0.002, 0.01, 0.02),
            broken_rate=sometimes(0.002, 0.01),
            lost_rate=sometimes(0.003, 0.02),
            full_rate=sometimes(0.05, 0.2),
            failover_rate=sometimes(0.05, 0.15),
            cut_rate=sometimes(0.1, 0.3),
            kill_rate=sometimes(0.05, 0.2, 0.5),
            leave_rate=sometimes(0.1, 0.3),
            drain_rate=sometimes(0.1, 0.3),
            freeze_rate=sometimes(0.1, 0.3),
            jump_rate=sometimes(0.1, 0.4),
            poison_rate=dice.choice([0.0] * 7 + [0.05]),
            death_is_known=dice.random() < 0.7,
            idle_most=dice.choice([0, 1, 256]),
            idle_seconds=dice.choice([0.5, 10.0]),
            requests_rate=dice.choice([1.0, 3.0, 6.0]),
            inside_share=dice.choice([0.0, 0.5, 1.0]),
            crowd_rate=sometimes(0.4, 1.2),
        )


class Weather:
    """A gate that applies a mix until it clears up."""

    def __init__(self, host: SimulatedHost, mix: Mix, dice: random.Random, *, deadly: bool = True) -> None:
        self.fine = False
        #: until when the disk is full
        self.full_until = 0.0
        #: nodes that freeze once something they sent is committed, before they hear of it, and for how long (seconds)
        self.drowsy: dict[str, float] = {}
        self._host = host
        self._mix = mix
        self._dice = dice
        self._deadly = deadly

    async def reach(self, point: str) -> None:
        """Take time, and perhaps a life, at `point`."""
        dice, mix = self._dice, self._mix
        if point == "poison":
            await self._die()
        if self.fine:
            return
        if point == "after commit" and (frozen_seconds := self.drowsy.pop(current_node(), None)) is not None:
            self._host.freeze(current_node(), frozen_seconds)
        seconds = mix.store_seconds if point.rpartition(" ")[2] in _STORE_CALLS else mix.tool_seconds
        if seconds and dice.random() < (_READ_HELD_UP if point.endswith("read") else _HELD_UP):
            await pass_time(self._host, dice.random() * seconds)
        if point == "before commit" and self._host.time() < self.full_until:
            raise StoreFull("the disk is full")
        if not self._deadly:
            return
        if dice.random() < mix.crash_rate:
            await self._die()
        if point in {"before commit", "after commit"} and dice.random() < mix.broken_rate:
            raise StoreBroken("the disk failed, and nobody knows whether it had written")

    async def _die(self) -> None:
        self._host.kill(current_node())
        await self._host.create_future()


#: How often a point takes time at all. There are many reads, and it matters less when they happen.
_HELD_UP, _READ_HELD_UP = 0.7, 0.3

_STORE_CALLS = frozenset({"commit", "claim", "release", "leave", "share", "take", "read"})
