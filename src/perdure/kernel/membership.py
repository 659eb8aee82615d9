"""Who is there, and which shards are this node's part of the work?

Every node beats: it renews its leases, says how it is doing and hears who else does. What is free and its part it claims;
what others lack it gives up (parts.py says what), but not to somebody who came a moment ago and may leave as soon.
Between beats it looks at the shards only while others have some of them: soon after somebody commits, since that may
have been a release, and so often that all nodes together look a few times a second. That somebody died is known to the
store, at the latest when its lease runs out; this node looks again right then.

A node whose beats do not get through for almost a lease (term.py) drops its shards before others may claim them, and
stops what it does in them. Once the store hears it again it claims and recovers like anybody else.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Iterable
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING

from perdure.errors import StoreBusy, StoreFull
from perdure.kernel.handover import Handover
from perdure.kernel.needs import Needs
from perdure.kernel.parts import Parts
from perdure.kernel.term import Term
from perdure.store.contract import Node
from perdure.values.clock import Alarm
from perdure.values.json import encode

if TYPE_CHECKING:
    from perdure.kernel.kernel import Kernel

log = logging.getLogger("perdure.kernel")

#: so many times within its lease a node beats
_BEATS = 3
#: Its term is this part of a lease: clocks do not run equally fast.
_TERM = 0.9
#: how soon after a try that failed comes the next
_RETRY_SECONDS = 0.25
#: How often one node beside another looks for free shards; of many, each looks that much less often.
_LOOK_SECONDS = 0.25
#: how soon after a look a commit of others may bring the next
_LOOK_AGAIN_SECONDS = 0.1
#: how long after somebody's lease ran out the store is asked
_EXPIRED_SECONDS = 0.02


class Membership:
    """What this node and the others know of each other."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._clock = kernel.clock
        self._lease_seconds = kernel.settings.lease_seconds
        self.term = Term(kernel.clock, self._lease_seconds * _TERM, self._term_ended)
        #: what this node is giving up
        self.handovers: list[Handover] = []
        #: it gives everything up and takes nothing
        self.draining = False
        self.parts = Parts(kernel)
        self._pace = _Pace(self._clock.monotonic())
        #: what it says of itself; None while it does not work
        self._said: Node | None = None
        #: the living nodes, this one included, and since when (monotonic seconds) each was seen to be there
        self._nodes: list[Node] = []
        self._since: dict[str, float] = {}
        self._beat_at = -inf
        self._looked_at = -inf
        #: at the last look there were shards that no living node owned: free ones for others, who may have missed them, or
        #: of a dead node who claimed them after its last beat
        self._orphans = False
        #: when the first of the others runs out
        self._expiry_at = inf
        self._alarm: Alarm | None = None
        self._alarm_at = inf
        self._tending = False
        self._drained = asyncio.Event()

    async def join(self) -> None:
        """Own this node's part of the shards of our agents from now on, and recover their runs."""
        kernel = self._kernel
        names = list(kernel.agents.names())
        programs = tuple((name, version) for name in names for version in kernel.agents.versions(name))
        self.parts.needs = Needs(programs)
        self._said = Node(kernel.node, f"{socket.gethostname()}:{os.getpid()}", self._clock.now_us(), programs)
        kernel.leases.want(f"{name}:{slot}" for name in names for slot in range(kernel.slots))
        await self._beat(self._said)
        await kernel.ownership.recover(await self._claim())
        self._tend_at(self._next())

    def changed(self) -> None:
        """Somebody else committed: shards may have become free."""
        if self._looks:
            self._tend_at(self._looked_at + _LOOK_AGAIN_SECONDS)

    def retire(self) -> None:
        """Take nothing any more, and let the others know."""
        self.draining = True
        if self._others:
            self._beat_at = -inf
            self._tend_at(self._clock.monotonic())

    async def drained(self) -> None:
        """Return when everything was given up because somebody asked for it."""
        await self._drained.wait()

    def rest(self) -> None:
        """Beat no more."""
        self.term.cancel()
        if self._alarm is not None:
            self._alarm.cancel()

    async def leave(self) -> None:
        """The node is no more. Raises StoreError; its entry then runs out by itself."""
        if self._said is not None:
            await self._kernel.store.leave(self._said.id)

    # One thing after the other: a beat when it is due, and what follows from who is there.

    def _tend_at(self, moment: float) -> None:
        """Tend at `moment`, or earlier if that was wanted before."""
        if self._said is None or self._tending or self._kernel.failure is not None or moment >= self._alarm_at:
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = moment
        self._alarm = self._clock.call_later(max(0.0, moment - self._clock.monotonic()), self._ring, upkeep=True)

    def _ring(self) -> None:
        self._alarm_at = inf
        if self._said is not None and not self._tending:
            self._kernel.spawn_task(self._tend(self._said))

    async def _tend(self, said: Node) -> None:
        self._tending, retry_at = True, inf
        try:
            if self._clock.monotonic() >= self._beat_at:
                await self._beat(said)
                await self._give()
            if claimed := await self._claim():
                self._kernel.spawn_task(self._kernel.ownership.recover(claimed))
        except (StoreFull, StoreBusy) as error:
            log.warning("the store does not hear of this node: %s", error)
            retry_at = self._clock.monotonic() + _RETRY_SECONDS
        finally:
            self._tending = False
        self._tend_at(retry_at if retry_at < inf else self._next())

    def _next(self) -> float:
        now = self._clock.monotonic()
        moments = [self._beat_at]
        if self._looks:
            moments.append(now + _LOOK_SECONDS * (1 if self._orphans else max(1, len(self._others))))
            moments += [self._expiry_at] if self._expiry_at > now else []
        return min(moments)

    async def _beat(self, said: Node) -> None:
        kernel, sent = self._kernel, self._clock.monotonic()
        # In this order: when the node's entry has run out, so have its leases.
        kernel.ownership.drop(await kernel.leases.renew())
        needs = self.parts.needs.say(kernel.leases.all)
        figures = {**kernel.figures(), "steps_per_second": self._pace.measure(kernel.steps_done, sent), "needs": needs}
        nodes = await kernel.store.beat(
            replace(said, draining=self.draining, figures=encode(figures)), self._lease_seconds
        )
        if not self.term.runs:
            kernel.limits.lost()  # its shares ran out with its entry
        self.term.renew(sent)
        self._beat_at = sent + self._lease_seconds / _BEATS
        self._note(nodes)
        self._expect_expiry(sent)
        kernel.live.sweep()
        # The machine may have slept, or its wall clock was set: alarms count seconds awake, due times are wall time.
        kernel.alarms.ring()

    def _note(self, nodes: Iterable[Node]) -> None:
        self._nodes = sorted((node for node in nodes if node.alive), key=lambda node: (node.started, node.id))
        now = self._clock.monotonic()
        self._since = {node.id: self._since.get(node.id, now) for node in self._nodes}
        if self.parts.needs.hear(self._nodes):
            self._kernel.spawn_task(self._kernel.ownership.offer_stranded(self._kernel.leases.shards))
        me = next((node for node in self._nodes if node.id == self._kernel.node), None)
        if me is not None and me.drain_asked:
            self._drain()
        elif me is not None and (leaving := [shard for shard in me.leaving if self._kernel.leases.holds(shard)]):
            self._give_up(leaving)

    def _expect_expiry(self, sent: float) -> None:
        # The store's clock, as told by our own entry, which has a whole lease before it.
        mine = next((node.expires for node in self._nodes if node.id == self._kernel.node), 0)
        first = min((node.expires for node in self._others), default=None)
        left = inf if first is None else (first - mine) / 1e6 + self._lease_seconds
        self._expiry_at = sent + left + _EXPIRED_SECONDS

    @property
    def _others(self) -> list[Node]:
        return [node for node in self._nodes if node.id != self._kernel.node]

    @property
    def _looks(self) -> bool:
        return not self.draining and not self._kernel.leases.complete

    # Shards.

    async def _claim(self) -> list[str]:
        """Claim what is free and our part of it; gives what was got."""
        if not self._looks:
            return []
        self._looked_at = self._clock.monotonic()
        owners = await self.parts.owners()
        free = None in owners.values()
        if self._others and (free or self._looked_at >= self._expiry_at):
            self._note(await self._kernel.store.nodes())  # whoever left or died since the last beat gets nothing
            self._expiry_at = inf
        self._orphans = not {node.id for node in self._nodes}.issuperset(owners.values())
        return await self._kernel.leases.claim(self.parts.to_claim(owners, self._nodes)) if free else []

    async def _give(self) -> None:
        """Give up what others lack, if they will be there to work on it."""
        me, settled = self._kernel.node, self._clock.monotonic() - self._lease_seconds
        nodes = [node for node in self._nodes if node.id == me or self._since[node.id] <= settled]
        if self.draining or len(nodes) == 1:
            return
        if shards := self.parts.to_give(await self.parts.owners(), nodes):
            self._give_up(shards)

    # Giving up.

    def _give_up(self, shards: Iterable[str]) -> Handover:
        handover = Handover(self._kernel, shards)
        handover.finish_within(self._kernel.settings.finish_seconds)
        self.handovers = [*(earlier for earlier in self.handovers if not earlier.done), handover]
        return handover

    def _drain(self) -> None:
        if not self.draining:
            self.retire()
            self._give_up(self._kernel.leases.shards)
            self._kernel.spawn_task(self._finish_draining())

    async def _finish_draining(self) -> None:
        for handover in self.handovers:
            await handover.over()
        self._drained.set()

    def _term_ended(self) -> None:
        self._kernel.limits.lost()
        if self._kernel.leases.all:
            log.error("the store was not reached for %.1f s: this node stops its steps", self._lease_seconds * _TERM)
            self._kernel.ownership.drop(self._kernel.leases.all)


class _Pace:
    """Steps per second, from one beat to the next."""

    def __init__(self, now: float) -> None:
        self._done = 0
        self._since = now

    def measure(self, done: int, now: float) -> float:
        """The pace since the last call, at `done` steps in all and `now` (monotonic seconds)."""
        steps, seconds = done - self._done, now - self._since
        self._done, self._since = done, now
        return round(steps / seconds, 1) if seconds > 0 else 0.0
