"""Who may move next? Runs that want to move, by priority, within the limits of node, agent and key.

A run occupies a place only while it moves: a run that waits for a timer, a message or a person gives its place
up and asks again when its wait ends. So a thousand runs waiting for people do not block the one that could work.

The queue of an agent may be longer than what waits here: the rest stays in the store, and whoever knows of it hears
each time the part that is here gets shorter.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Limits:
    """How many runs of an agent may move at once: in total, and per concurrency key. None means any number."""

    total: int | None = None
    per_key: int | None = None


class _Wish(NamedTuple):
    """A run that wants to move. Compares by who goes first; `tie` decides before the rest is looked at."""

    priority: int
    created: int
    tie: int
    run: str
    agent: str
    key: str | None
    move: Callable[[], None]

    @property
    def slots(self) -> tuple[object, object]:
        """What it needs room in, beside the node."""
        return self.agent, (self.agent, self.key)


class Dispatcher:
    """Grants places. `offer` calls back at once when there is room, otherwise when a place is given back."""

    def __init__(
        self, most: int, limits: Callable[[str], Limits], shorter: Callable[[str], object] = lambda _: None
    ) -> None:
        self._most = most
        self._limits = limits
        #: called with the agent of which one run less waits
        self._shorter = shorter
        self._moving: dict[str, tuple[str, str | None]] = {}
        self._count: Counter[object] = Counter()
        self._offered: dict[str, str] = {}
        self._offered_of: Counter[str] = Counter()
        self._waiting: list[_Wish] = []
        #: wishes that found their agent or key full, by what was full
        self._blocked: defaultdict[object, list[_Wish]] = defaultdict(list)
        self._ties = count()
        self._pumping = False

    def offer(
        self, run: str, agent: str, key: str | None, priority: int, created: int, move: Callable[[], None]
    ) -> None:
        """Call `move` as soon as `run` may move. Offering a run that already waits or moves changes nothing."""
        if run in self._moving or run in self._offered:
            return
        self._offered[run] = agent
        self._offered_of[agent] += 1
        heapq.heappush(self._waiting, _Wish(-priority, created, next(self._ties), run, agent, key, move))
        self._pump()

    def take(self, run: str, agent: str, key: str | None) -> bool:
        """A place for `run` at once, or False. Never overtakes runs that wait already."""
        if self._offered or run in self._moving or len(self._moving) >= self._most:
            return False
        if self._full_slot(agent, key) is not None:
            return False
        self._place(run, agent, key)
        return True

    def withdraw(self, run: str) -> None:
        """`run` no longer wants to move."""
        agent = self._offered.pop(run, None)
        if agent is not None:
            self._offered_of[agent] -= 1
            self._shorter(agent)

    def release(self, run: str) -> None:
        """`run` gives its place back."""
        place = self._moving.pop(run, None)
        if place is None:
            return
        agent, key = place
        for slot in (agent, (agent, key)):
            self._count[slot] -= 1
            if not self._count[slot]:
                del self._count[slot]
            self._unblock(slot)
        self._pump()

    @property
    def moving(self) -> int:
        """How many runs hold a place."""
        return len(self._moving)

    @property
    def queued(self) -> int:
        """How many runs wait for a place."""
        return len(self._offered)

    def queued_of(self, agent: str) -> int:
        """How many runs of `agent` wait for a place."""
        return self._offered_of[agent]

    def is_moving(self, run: str) -> bool:
        """True while `run` holds a place."""
        return run in self._moving

    def _pump(self) -> None:
        # A move may release or offer at once; the outer loop sees that, so recursion is not needed.
        if self._pumping:
            return
        self._pumping = True
        try:
            while self._waiting and len(self._moving) < self._most:
                self._grant(heapq.heappop(self._waiting))
        finally:
            self._pumping = False

    def _grant(self, wish: _Wish) -> None:
        run, agent = wish.run, wish.agent
        if run not in self._offered:
            for slot in wish.slots:
                self._unblock(slot)
            return
        full = self._full_slot(agent, wish.key)
        if full is not None:
            heapq.heappush(self._blocked[full], wish)
            if full != agent:
                self._unblock(agent)  # the agent has room: one with another key may use it
            return
        self.withdraw(run)
        self._place(run, agent, wish.key)
        wish.move()

    def _unblock(self, slot: object) -> None:
        # One place makes room for one: looking at all of them again would make a long queue quadratic.
        blocked = self._blocked.get(slot)
        if blocked:
            heapq.heappush(self._waiting, heapq.heappop(blocked))
            if not blocked:
                del self._blocked[slot]

    def _place(self, run: str, agent: str, key: str | None) -> None:
        self._moving[run] = (agent, key)
        self._count[agent] += 1
        self._count[agent, key] += 1

    def _full_slot(self, agent: str, key: str | None) -> object | None:
        limits = self._limits(agent)
        if limits.total is not None and self._count[agent] >= limits.total:
            return agent
        if key is not None and limits.per_key is not None and self._count[agent, key] >= limits.per_key:
            return (agent, key)
        return None
