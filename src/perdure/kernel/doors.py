"""What must a run pass before it moves? Doors: the places of the node, shares of limits, rates; and a line before each.

A door is open while there is room behind it. Runs of one agent and one key pass the same doors, so they wait as one
lane: it stands in one line at a time, before a door that was shut when its turn came, and its best run speaks for it.

Lines are heaps that are put right late: a lane that goes elsewhere leaves its old entry behind, and one whose turn has
moved back since it lined up is sent back when it comes to the front.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, TypeAlias

from perdure.kernel.turns import Turns


class Wish(NamedTuple):
    """A run that wants to move. Compares by who goes first; `tie` decides before the rest is looked at."""

    #: priority, negated
    rank: int
    created: int
    tie: int
    run: str
    move: Callable[[], None]


class Lane:
    """The waiting runs of one agent and one key, all to begin or all to go on."""

    def __init__(self, agent: str, key: str | None, doors: tuple[Door, ...], *, begins: bool) -> None:
        self.id = agent, key, begins
        self.agent = agent
        self.tenant = key or ""
        self.begins = begins
        self.doors = doors
        #: those that wait, by run
        self.wishes: dict[str, Wish] = {}
        #: where it stands
        self.entry: Entry | None = None
        self._best: list[Wish] = []

    def __len__(self) -> int:
        return len(self.wishes)

    @property
    def best(self) -> Wish:
        """Who goes first of those that wait; there must be one."""
        while self.wishes.get(self._best[0].run) is not self._best[0]:
            heapq.heappop(self._best)
        return self._best[0]

    def add(self, wish: Wish) -> None:
        """One more waits."""
        self.wishes[wish.run] = wish
        heapq.heappush(self._best, wish)


#: A lane in a line, after what decides about its turn: rank, start of the turn, age, tie.
Entry: TypeAlias = tuple[int, float, int, int, Lane]


class Door:
    """Lets as many through as there is room for behind it; the others line up."""

    def __init__(self, name: str, weights: Mapping[str, float]) -> None:
        self.name = name
        self.turns = Turns(weights)
        #: how many lanes there are that pass it, wherever they stand
        self.lanes = 0
        self._line: list[Entry] = []

    @property
    def room(self) -> int:
        """How many may go through now; nobody when it is not positive."""
        raise NotImplementedError

    @property
    def promise(self) -> int:
        """How many it would probably let through if they came."""
        return self.room

    def enter(self) -> None:
        """One goes through."""

    def leave(self) -> None:
        """One that had gone through comes back."""

    def knock(self) -> None:
        """A lane found it shut and stands in line."""

    def unused(self) -> None:
        """No lane passes it any more."""

    # The line.

    @property
    def awaited(self) -> bool:
        """True when somebody may stand in line."""
        return bool(self._line)

    def line_up(self, lane: Lane) -> None:
        """`lane`, which has somebody waiting, stands here from now on."""
        lane.entry = self._entry(lane)
        heapq.heappush(self._line, lane.entry)

    def call(self) -> Lane | None:
        """Whose turn it is leaves the line; None when nobody waits."""
        while self._line:
            entry = heapq.heappop(self._line)
            lane = entry[-1]
            if lane.entry is not entry:
                continue
            now = self._entry(lane)
            if now <= entry:
                lane.entry = None
                return lane
            lane.entry = now
            heapq.heappush(self._line, now)
        self.turns.forget_all()
        return None

    def standing(self) -> Iterator[Lane]:
        """Who stands in line, in no order."""
        return (entry[-1] for entry in self._line if entry[-1].entry is entry)

    def _entry(self, lane: Lane) -> Entry:
        best = lane.best
        return best.rank, self.turns.start(best.rank, lane.tenant), best.created, best.tie, lane


class Places(Door):
    """A door behind which those who went through stay for a while: there are `held` places."""

    def __init__(self, name: str, weights: Mapping[str, float], held: int) -> None:
        super().__init__(name, weights)
        self.held = held
        self.used = 0

    @property
    def room(self) -> int:
        return self.held - self.used

    def enter(self) -> None:
        self.used += 1

    def leave(self) -> None:
        self.used -= 1
