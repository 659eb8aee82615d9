"""Which of the queued runs wait here for places? Of every queue its first ones; the rest stays in the store.

A queue is what one tenant has queued at an agent in one priority. A page is divided among all queues of the agent, so
none hides another, however long it is and whether or not its runs can begin. As soon as half of what was read of a queue
has begun, more of it is read: so there is somebody of each whose turn it may be (turns.py).

Of an agent that has more queues than a page has room for, some wait here at a time, one run of each. When half of a page
or less waits, or when nothing holds them up but limits of their own, the next queues are read, and after the last the
first again. Only what is more urgent than where the round has come to is read out of turn, so that news of the first
queues do not keep it from the last. A round that finds next to nothing is followed by a pause; news end it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from perdure.store.contract import Cursor, Programs, Queue, QueuePage

if TYPE_CHECKING:
    from perdure.kernel.kernel import Kernel

_PAGE = 500
#: How many runs of a queue are read on with, at most.
_MORE = 50
#: When so many of an agent wait for a place here, no other queues are read.
_ENOUGH = _PAGE // 2
#: The pause after a round, for each page of it: so rounds that find next to nothing read no more than 20 pages a second.
_PAUSE_SECONDS = 0.05


class _Rest(NamedTuple):
    """What is left of a queue in the store: where to read on, and as soon as how few wait here."""

    after: Cursor
    fewest: int


class Queues:
    """The queues of the agents of one node."""

    def __init__(self, kernel: Kernel, programs: Programs) -> None:
        self._kernel = kernel
        self._programs = programs
        #: queues that were not read to their end
        self._rests: dict[Queue, _Rest] = {}
        # For each of the next two there is one task per agent; what comes up meanwhile is seen by its `while`.
        #: queues that have got short, by agent, while more of them is being read
        self._short: dict[str, dict[Queue, None]] = {}
        #: agents whose next queues are being read, and how many new runs were found since the first of them; infinity when
        #: that does not count: their round was begun in the middle, or there are news
        self._going_round: dict[str, float] = {}
        #: agents with more queues than a page has room for, and the last one that was read
        self._round: dict[str, Queue] = {}
        #: those of them that wait for fewer to wait here, or for room
        self._stopped: set[str] = set()
        #: those of them whose last round found next to nothing, for a while
        self._pausing: set[str] = set()
        #: those of them that may have more when their pause is over: runs began, or were found, since the last one. Not since
        #: the round did: until it is written that a run has begun, it hides the next one of its queue.
        self._changed: set[str] = set()

    async def read(self, agent: str) -> None:
        """There are news: offer places to the first runs of the agent's queues."""
        await self._read_first(agent)
        self._pausing.discard(agent)
        if agent in self._going_round:
            self._going_round[agent] = inf
        self._go_on(agent)

    def shorter(self, queue: Queue) -> None:
        """One run less of `queue` waits for a place here."""
        if self._is_short(queue):
            self._read_on(queue)
        if queue.agent in self._round:
            self._changed.add(queue.agent)
            self._go_on(queue.agent)

    def go_on(self) -> None:
        """There are places that nobody here can take: go on with the rounds that stopped because the node was full."""
        for agent in list(self._stopped):
            self._go_on(agent)

    async def _read_first(self, agent: str) -> int:
        queues = await self._kernel.reads.queues(agent, _PAGE)
        if len(queues) < _PAGE:
            self._round.pop(agent, None)
        elif agent not in self._round:
            self._round[agent] = queues[-1]
        else:
            queues = [queue for queue in queues if not self._is_in_round(queue)]
            if len(queues) == _PAGE and not self._wants(agent):
                self._round[agent] = queues[-1]  # there are more of these: they go round before what is less urgent
        return await self._offer(agent, dict.fromkeys(queues), _PAGE)

    def _is_in_round(self, queue: Queue) -> bool:
        at = self._round.get(queue.agent)
        return at is not None and queue.priority <= at.priority

    # Of every queue more.

    def _is_short(self, queue: Queue) -> bool:
        # While queues go round, the next ones are read before more of these.
        rest = None if self._is_in_round(queue) else self._rests.get(queue)
        return rest is not None and self._kernel.dispatcher.beginning_of(queue) <= rest.fewest

    def _read_on(self, queue: Queue) -> None:
        agent = queue.agent
        if self._kernel.halted:
            return
        if agent not in self._short:
            self._short[agent] = {}
            self._kernel.spawn_task(self._read_short(agent))
        self._short[agent][queue] = None

    async def _read_short(self, agent: str) -> None:
        try:
            while short := self._short[agent]:
                self._short[agent] = {}  # what gets short while these are read is read with the next
                rests = {queue: rest.after for queue in short if (rest := self._rests.get(queue)) is not None}
                await self._offer(agent, rests, _MORE)
        finally:
            del self._short[agent]

    # Of many queues the next.

    def _go_on(self, agent: str) -> None:
        if agent in self._going_round or agent in self._pausing:
            return
        self._stopped.discard(agent)
        if agent in self._round and self._wants(agent):
            self._going_round[agent] = inf
            self._kernel.spawn_task(self._go_round(agent))
        elif agent in self._round:
            self._stopped.add(agent)

    async def _go_round(self, agent: str) -> None:
        pages = 0
        try:
            while agent in self._round and self._wants(agent):
                queues = await self._kernel.reads.queues(agent, _PAGE, after=self._round[agent])
                new = await self._offer(agent, dict.fromkeys(queues), _PAGE)
                self._going_round[agent] += new
                await asyncio.sleep(0)  # not every store suspends, and there may be many pages
                pages += 1
                if len(queues) == _PAGE:
                    self._round[agent] = queues[-1]
                    continue
                if (found := self._going_round[agent]) < pages:
                    self._pause(agent, pages, found)
                    break
                self._round.pop(agent, None)
                self._going_round[agent], pages = 0, 1
                new = await self._read_first(agent)
                self._going_round[agent] += new
        finally:
            del self._going_round[agent]
        self._go_on(agent)  # there may be room by now

    def _pause(self, agent: str, pages: int, found: float) -> None:
        self._pausing.add(agent)
        if found:
            self._changed.add(agent)
        self._kernel.clock.call_later(pages * _PAUSE_SECONDS, lambda: self._end_pause(agent))

    def _end_pause(self, agent: str) -> None:
        self._pausing.discard(agent)
        if agent in self._changed:
            self._changed.discard(agent)
            self._go_on(agent)

    def _wants(self, agent: str) -> bool:
        # Where there is room, those that wait here wait for limits of their own.
        dispatcher = self._kernel.dispatcher
        return not self._kernel.halted and (dispatcher.queued_of(agent) < _ENOUGH or dispatcher.has_room(agent))

    async def _offer(self, agent: str, queues: Mapping[Queue, Cursor], most: int) -> int:
        """Offer places to what comes next in these queues. Returns how much of it was not here before."""
        if not queues:
            return 0
        kernel = self._kernel
        owned = [shard for shard in kernel.leases.shards if agent_of(shard) == agent]
        each = min(most, max(1, _PAGE // len(queues)))
        pages = await kernel.reads.ready(owned, queues, each, programs=self._programs)
        if kernel.halted:
            return 0
        with kernel.dispatcher.together():
            before = kernel.dispatcher.queued
            for page in pages:
                for run in page.runs:
                    kernel.live.offer(run)
                self._note(page, each)
            new = kernel.dispatcher.queued - before
        for page in pages:
            if self._is_short(page.queue):
                self._read_on(page.queue)
        return new

    def _note(self, page: QueuePage, each: int) -> None:
        if page.after is None or self._is_in_round(page.queue):
            self._rests.pop(page.queue, None)
        else:
            self._rests[page.queue] = _Rest(page.after, each // 2)


def agents_of(shards: Iterable[str]) -> list[str]:
    """The agents that have these shards, each once."""
    return list(dict.fromkeys(map(agent_of, shards)))


def agent_of(shard: str) -> str:
    """The agent that has a shard."""
    return shard.rpartition(":")[0]
