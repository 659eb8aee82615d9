"""Who may move next? Runs that want to move, by priority, then in turns of their tenants, then by age.

A run occupies a place only while it moves: a run that waits for a timer, a message or a person gives its place
up and asks again when its wait ends. So a thousand runs waiting for people do not block the one that could work.

A tenant is a concurrency key; runs without one are one tenant. Who stands before a shut door (a limit of its agent or
key that is used up) blocks nobody else. How doors open is not decided here.

The queues of an agent may be longer than what waits here: the rest stays in the store, and whoever knows of it hears
each time the part of a queue that is here gets shorter (queues.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from typing import Protocol

from perdure.kernel.doors import Door, Lane, Places, Wish
from perdure.store.contract import Queue


class Limits(Protocol):
    """Which doors runs pass, beside that of the node. The same door for the same name, while a lane passes it."""

    def doors(self, agent: str, key: str | None, *, begins: bool) -> tuple[Door, ...]:
        """Those of the runs of `agent` with `key` that are to begin, or to go on."""

    def doors_at_once(self, agent: str, key: str | None) -> tuple[Door, ...] | None:
        """Those of a run that would begin this very moment; None when it has to wait in any case."""


class Dispatcher:
    """Grants places. `offer` calls back at once when all doors are open, otherwise when they are."""

    def __init__(
        self, most: int, limits: Limits, *, shorter: Callable[[Queue], object] = lambda _: None,
        vacant: Callable[[], object] = lambda: None, weights: Mapping[str, float] | None = None,
    ) -> None:  # fmt: skip
        self._limits = limits
        #: called with the queue of which one run less waits
        self._shorter = shorter
        #: called when there are places that nobody takes
        self._vacant = vacant
        #: before its door stand all that no other door is known to be shut for
        self._node = Places("the node", weights or {}, most)
        self._lanes: dict[tuple[str, str | None, bool], Lane] = {}
        #: run -> the doors it went through
        self._moving: dict[str, tuple[Door, ...]] = {}
        self._offered: dict[str, Lane] = {}
        self._offered_of: Counter[str] = Counter()
        #: those that are to begin, by queue
        self._beginning_of: Counter[Queue] = Counter()
        self._ties = count()
        self._pumping = False

    def offer(
        self, run: str, agent: str, key: str | None, priority: int, created: int, move: Callable[[], None], *,
        begins: bool = True,
    ) -> None:  # fmt: skip
        """Call `move` as soon as `run` may move. Offering a run that already waits or moves changes nothing."""
        if run in self._moving or run in self._offered:
            return
        lane = self._offered[run] = self._lane(agent, key, begins)
        self._offered_of[agent] += 1
        if begins:
            self._beginning_of[Queue(agent, priority, lane.tenant)] += 1
        wish = Wish(-priority, created, next(self._ties), run, move)
        lane.add(wish)
        if lane.best is wish:
            self._node.line_up(lane)
            self._pump()

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is offered in here gets places by its turns, whatever was offered first."""
        pumping, self._pumping = self._pumping, True
        try:
            yield
        finally:
            self._pumping = pumping
        self._pump()

    def take(self, run: str, agent: str, key: str | None) -> bool:
        """A place for `run`, which is to begin, at once, or False. Never overtakes runs that wait for a place."""
        if self._node.awaited or self._node.room <= 0 or run in self._moving or self._offered_of[agent]:
            return False
        doors = self._limits.doors_at_once(agent, key)
        if doors is None or any(door.room <= 0 for door in doors):
            return False
        self._enter(run, doors)
        return True

    def withdraw(self, run: str) -> None:
        """`run` no longer wants to move."""
        lane = self._offered.get(run)
        if lane is not None:
            queue = self._leave_lane(run, lane)
            self._pass_on(lane)
            self._pump()
            self._shorter(queue)

    def release(self, run: str) -> None:
        """`run` gives its place back."""
        doors = self._moving.pop(run, None)
        if doors is None:
            return
        self._node.leave()
        for door in doors:
            door.leave()
            self._call_up(door)
        self._pump()

    def opened(self, door: Door) -> None:
        """There is more room behind `door` than there was."""
        for _ in range(door.room):
            if not self._call_up(door):
                break
        self._pump()

    def look_again(self, door: Door) -> None:
        """Let the first in line find out which door is shut for it now."""
        lane = door.call()
        if lane is not None:
            self._node.line_up(lane)
            self._pump()

    @property
    def room(self) -> int:
        """How many more runs may move on this node."""
        return self._node.room

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

    def beginning_of(self, queue: Queue) -> int:
        """How many runs of `queue` wait for a place."""
        return self._beginning_of[queue]

    def has_room(self, agent: str) -> bool:
        """True when a run of `agent` may begin, as long as no limit of its own key is used up."""
        # A door that nobody asks at is not known to be shut: shares and tokens only come to those who do.
        doors = self._limits.doors(agent, None, begins=True)
        return self._node.room > 0 and all(door.room > 0 or not any(door.standing()) for door in doors)

    def is_moving(self, run: str) -> bool:
        """True while `run` holds a place."""
        return run in self._moving

    def _lane(self, agent: str, key: str | None, begins: bool) -> Lane:
        lane = self._lanes.get((agent, key, begins))
        if lane is None:
            doors = self._limits.doors(agent, key, begins=begins)
            lane = self._lanes[agent, key, begins] = Lane(agent, key, doors, begins=begins)
            for door in doors:
                door.lanes += 1
        return lane

    def _pump(self) -> None:
        # A move may release or offer at once; the outer loop sees that, so recursion is not needed.
        if self._pumping:
            return
        self._pumping = True
        try:
            while self._node.room > 0 and (lane := self._node.call()) is not None:
                self._serve(lane)
        finally:
            self._pumping = False
        if self._node.room > 0:
            self._vacant()

    def _serve(self, lane: Lane) -> None:
        for door in lane.doors:
            if door.room <= 0:
                door.line_up(lane)
                door.knock()
                self._pass_on(lane)
                return
        wish = lane.best
        for door in (self._node, *lane.doors):
            door.turns.take(wish.rank, lane.tenant)
        self._enter(wish.run, lane.doors)
        queue = self._leave_lane(wish.run, lane)
        if lane.wishes:
            self._node.line_up(lane)
        self._shorter(queue)
        wish.move()

    def _enter(self, run: str, doors: tuple[Door, ...]) -> None:
        self._moving[run] = doors
        self._node.enter()
        for door in doors:
            door.enter()

    def _leave_lane(self, run: str, lane: Lane) -> Queue:
        wish = lane.wishes.pop(run)
        queue = Queue(lane.agent, -wish.rank, lane.tenant)
        del self._offered[run]
        self._offered_of[lane.agent] -= 1
        if lane.begins:
            self._beginning_of[queue] -= 1
            if not self._beginning_of[queue]:
                del self._beginning_of[queue]
        if not lane.wishes:
            self._forget(lane)
        return queue

    def _forget(self, lane: Lane) -> None:
        lane.entry = None
        del self._lanes[lane.id]
        for door in lane.doors:
            door.lanes -= 1
            if not door.lanes:
                door.unused()

    def _pass_on(self, lane: Lane) -> None:
        # It does not use its turn, here or before a door that is open: the next in line may be able to.
        for door in lane.doors:
            self._call_up(door)

    def _call_up(self, door: Door) -> bool:
        # One place makes room for one: looking at all of them again would make a long line quadratic.
        lane = door.call() if door.room > 0 else None
        if lane is None:
            return False
        self._node.line_up(lane)
        return True
