"""Which of the queued runs wait here for places? Of every queue its first ones; the rest stays in the store.

A queue is what one tenant has queued at an agent in one priority. A page is divided among all queues of the agent, so
none hides another, however long it is and whether or not its runs can begin. As soon as half of what was read of a queue
has begun, more of it is read: so there is somebody of each whose turn it may be (turns.py).

Of an agent that has more queues than a page has room for, some wait here at a time, one run of each. When these have
begun, or when nothing holds them up but limits of their own, the next queues are read, and after the last the first again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from perdure.store.contract import Cursor, Programs, Queue, QueuePage

if TYPE_CHECKING:
    from perdure.kernel.kernel import Kernel

_PAGE = 500
#: How many runs of a queue are read on with, at most.
_MORE = 50
#: When so many of an agent wait for a place here, no other queues are read.
_ENOUGH = _PAGE // 2


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
        #: those of them that have got short, by agent, while more of them is being read
        self._short: dict[str, dict[Queue, None]] = {}
        #: agents with more queues than a page has room for, and the last one that was read
        self._round: dict[str, Queue] = {}
        #: those of them whose next queues are being read
        self._going_round: set[str] = set()

    async def read(self, agent: str) -> None:
        """Offer places to the first runs of the agent's queues."""
        await self._read_first(agent)
        self._go_on(agent)

    def shorter(self, queue: Queue) -> None:
        """One run less of `queue` waits for a place here."""
        if self._is_short(queue):
            self._read_on(queue)
        self._go_on(queue.agent)

    async def _read_first(self, agent: str) -> bool:
        queues = await self._kernel.reads.queues(agent, _PAGE)
        if len(queues) < _PAGE:
            self._round.pop(agent, None)
        else:
            self._round.setdefault(agent, queues[-1])
        return await self._offer(agent, dict.fromkeys(queues), _PAGE)

    # Of every queue more.

    def _is_short(self, queue: Queue) -> bool:
        rest = self._rests.get(queue)
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
        if agent in self._round and agent not in self._going_round and self._wants(agent):
            self._going_round.add(agent)
            self._kernel.spawn_task(self._go_round(agent))

    async def _go_round(self, agent: str) -> None:
        found = False
        try:
            while agent in self._round and self._wants(agent):
                queues = await self._kernel.reads.queues(agent, _PAGE, after=self._round[agent])
                found |= await self._offer(agent, dict.fromkeys(queues), _PAGE)
                if len(queues) == _PAGE:
                    self._round[agent] = queues[-1]
                    continue
                self._round.pop(agent, None)
                if not await self._read_first(agent) and not found:
                    return  # nothing new all around: what comes is heard of
                found = False
        finally:
            self._going_round.discard(agent)

    def _wants(self, agent: str) -> bool:
        # Where there is room, those that wait here wait for limits of their own.
        dispatcher = self._kernel.dispatcher
        return not self._kernel.halted and (dispatcher.queued_of(agent) < _ENOUGH or dispatcher.has_room(agent))

    async def _offer(self, agent: str, queues: Mapping[Queue, Cursor], most: int) -> bool:
        """Offer places to what comes next in these queues. True when some of it was not here before."""
        if not queues:
            return False
        kernel = self._kernel
        owned = [shard for shard in kernel.leases.shards if agent_of(shard) == agent]
        each = min(most, max(1, _PAGE // len(queues)))
        pages = await kernel.reads.ready(owned, queues, each, programs=self._programs)
        if kernel.halted:
            return False
        with kernel.dispatcher.together():
            before = kernel.dispatcher.queued
            for page in pages:
                for run in page.runs:
                    kernel.live.offer(run)
                self._note(page, each)
            new = kernel.dispatcher.queued > before
        for page in pages:
            if self._is_short(page.queue):
                self._read_on(page.queue)
        return new

    def _note(self, page: QueuePage, each: int) -> None:
        # While queues go round, the next ones are read before more of these.
        if page.after is None or page.queue.agent in self._round:
            self._rests.pop(page.queue, None)
        else:
            self._rests[page.queue] = _Rest(page.after, each // 2)


def agents_of(shards: Iterable[str]) -> list[str]:
    """The agents that have these shards, each once."""
    return list(dict.fromkeys(map(agent_of, shards)))


def agent_of(shard: str) -> str:
    """The agent that has a shard."""
    return shard.rpartition(":")[0]
