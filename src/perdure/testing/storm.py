"""What befalls the nodes of a simulation, and when? One task for each kind of fault, at the rate of the mix.

Everything it does has an end: `clear_up` brings back whoever is frozen, mends every line and sets the clocks, so that
afterwards only time is needed for all to end well.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from perdure.errors import PerdureError
from perdure.testing.host import SimulatedClock, SimulatedHost
from perdure.testing.remote import Line
from perdure.testing.room import Room, SimulatedNode
from perdure.testing.swarm import Mix, Weather

#: How long a frozen node stays so, and how long one is cut off, in leases: some run out meanwhile.
_FREEZE_LEASES = (0.3, 5.0)
_CUT_LEASES = (0.1, 3.0)
_FAILOVER_SECONDS = (0.5, 6.0)
_FULL_SECONDS_MOST = 3.0
#: how far a wall clock may jump: a minute, some hours, a year (microseconds)
_JUMPS_US = (60_000_000, 21_600_000_000, 31_536_000_000_000)


class Storm:
    """The faults of one seed. `client` is who asks; it shares the fate of the store, and no other."""

    def __init__(
        self, host: SimulatedHost, dice: random.Random, mix: Mix, room: Room, client: SimulatedNode,
        weathers: list[Weather],
    ) -> None:  # fmt: skip
        #: how often a node was frozen, or cut off from the store
        self.freezes = self.cuts = 0
        #: what the most advanced clock has ever shown, beyond the true time
        self.most_ahead_us = 0
        self._host = host
        self._dice = dice
        self._mix = mix
        self._room = room
        self._client = client
        self._weathers = weathers
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self) -> None:
        """Let things happen."""
        faults: list[Callable[[], Coroutine[Any, Any, None]]] = [
            self._kill, self._leave, self._drain, self._freeze, self._cut, self._fail_over, self._jump, self._fill,
        ]  # fmt: skip
        self._tasks = [asyncio.create_task(fault()) for fault in faults]

    def clear_up(self) -> None:
        """Nothing happens any more, and all that did is over."""
        for task in self._tasks:
            task.cancel()
        for weather in self._weathers:
            weather.fine = True
        for name in self._room.nodes:
            self._host.resume(name)
        self._room.far = False
        for node in [self._client, *self._room.nodes.values()]:
            node.line.lost_rate = node.line.seconds = 0.0
            node.line.mend()
        self._come_to_the_same_time()

    def _come_to_the_same_time(self) -> None:
        # A timer that was set by a clock a year ahead is due in a year. Waiting for that takes too many turns, so
        # the year passes at once: which time it truly is matters to nobody but the store.
        self._room.ahead_us = self.most_ahead_us
        for clock in self._room.clocks:
            clock.ahead_us = self.most_ahead_us

    async def _kill(self) -> None:
        async for node in self._victims(self._mix.kill_rate):
            self._host.kill(node.name)

    async def _leave(self) -> None:
        async for node in self._victims(self._mix.leave_rate):
            node.told.set()

    async def _drain(self) -> None:
        async for node in self._victims(self._mix.drain_rate):
            with contextlib.suppress(PerdureError):  # one that is not there yet
                await self._client.runtime.store.ask_drain(node.runtime.kernel.node)

    async def _freeze(self) -> None:
        async for node in self._victims(self._mix.freeze_rate):
            self.freezes += 1
            seconds = self._dice.uniform(*_FREEZE_LEASES) * self._mix.lease_seconds
            if self._dice.random() < 0.5:
                self._host.freeze(node.name, seconds)
            else:
                self._weathers[0].drowsy[node.name] = seconds

    async def _cut(self) -> None:
        async for node in self._victims(self._mix.cut_rate):
            self.cuts += 1
            requests, replies = self._dice.choice([(True, False), (False, True), (True, True)])
            seconds = self._dice.uniform(*_CUT_LEASES) * self._mix.lease_seconds
            self._cut_line(node.line, seconds, requests=requests, replies=replies, hangs=self._dice.random() < 0.5)

    async def _fail_over(self) -> None:
        async for _ in self._victims(self._mix.failover_rate):
            seconds, hangs = self._dice.uniform(*_FAILOVER_SECONDS), self._dice.random() < 0.5
            for node in [self._client, *self._room.nodes.values()]:
                self._cut_line(node.line, seconds, requests=True, replies=True, hangs=hangs)

    def _cut_line(self, line: Line, seconds: float, *, requests: bool, replies: bool, hangs: bool) -> None:
        line.cut(requests=requests, replies=replies, hangs=hangs)
        self._host.call_later(seconds, line.mend)

    async def _jump(self) -> None:
        async for _ in self._victims(self._mix.jump_rate):
            clock: SimulatedClock = self._dice.choice(self._room.clocks)
            most = self._dice.choice(_JUMPS_US)
            clock.ahead_us = self._dice.choice([0, self._dice.randint(-most, most)])
            self.most_ahead_us = max(self.most_ahead_us, clock.ahead_us)

    async def _fill(self) -> None:
        async for _ in self._victims(self._mix.full_rate):
            for weather in self._weathers:
                weather.full_until = self._host.time() + self._dice.random() * _FULL_SECONDS_MOST

    async def _victims(self, rate: float) -> AsyncIterator[SimulatedNode]:
        while rate:
            await asyncio.sleep(self._dice.expovariate(rate))
            if self._room.nodes:
                yield self._room.nodes[self._dice.choice(sorted(self._room.nodes))]
