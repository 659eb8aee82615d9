"""Who may move next? Runs that want to move, by priority, within the limits of node, agent and key.

A run occupies a place only while it moves: a run that waits for a timer, a message or a person gives its place
up and asks again when its wait ends. So a thousand runs waiting for people do not block the one that could work.
"""

from __future__ import annotations

import heapq
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count


@dataclass(frozen=True, slots=True)
class Limits:
    """How many runs of an agent may move at once: in total, and per concurrency key. None means any number."""

    total: int | None = None
    per_key: int | None = None


class Dispatcher:
    """Grants places. `offer` calls back at once when there is room, otherwise when a place is given back."""

    def __init__(self, most: int, limits: Callable[[str], Limits]) -> None:
        self._most = most
        self._limits = limits
        self._moving: dict[str, tuple[str, str | None]] = {}
        self._count: defaultdict[object, int] = defaultdict(int)
        self._waiting: list[tuple[int, int, int, str, str, str | None, Callable[[], None]]] = []
        self._offered: set[str] = set()
        self._blocked: defaultdict[object, deque[tuple[int, int, int, str, str, str | None, Callable[[], None]]]]
        self._blocked = defaultdict(deque)
        self._ties = count()
        self._pumping = False

    def offer(
        self, run: str, agent: str, key: str | None, priority: int, created: int, move: Callable[[], None]
    ) -> None:
        """Call `move` as soon as `run` may move. Offering a run that already waits or moves changes nothing."""
        if run in self._moving or run in self._offered:
            return
        self._offered.add(run)
        heapq.heappush(self._waiting, (-priority, created, next(self._ties), run, agent, key, move))
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
        self._offered.discard(run)

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
            blocked = self._blocked.pop(slot, None)
            if blocked:
                for entry in blocked:
                    heapq.heappush(self._waiting, entry)
        self._pump()

    @property
    def moving(self) -> int:
        """How many runs hold a place."""
        return len(self._moving)

    @property
    def queued(self) -> int:
        """How many runs wait for a place."""
        return len(self._offered)

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
                entry = heapq.heappop(self._waiting)
                _, _, _, run, agent, key, move = entry
                if run not in self._offered:
                    continue
                full = self._full_slot(agent, key)
                if full is not None:
                    self._blocked[full].append(entry)
                    continue
                self._offered.discard(run)
                self._place(run, agent, key)
                move()
        finally:
            self._pumping = False

    def _place(self, run: str, agent: str, key: str | None) -> None:
        self._moving[run] = (agent, key)
        self._count[agent] += 1
        self._count[(agent, key)] += 1

    def _full_slot(self, agent: str, key: str | None) -> object | None:
        limits = self._limits(agent)
        if limits.total is not None and self._count.get(agent, 0) >= limits.total:
            return agent
        if key is not None and limits.per_key is not None and self._count.get((agent, key), 0) >= limits.per_key:
            return (agent, key)
        return None
