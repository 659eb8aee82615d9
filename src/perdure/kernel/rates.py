"""How many runs may begin now? As many as there are tokens for, which the store gives out to all nodes (`Store.take`).

A token is gone whether it is used or not, so only those ask that could begin otherwise: they stand before the last
door that is shut. What is left over is kept for a moment, for those whose turn comes next; later it would let more
begin at once than the rate allows. The store says when the next token is there, so nobody asks before.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from perdure.agents.rate import Rate
from perdure.errors import StoreBusy, StoreFull
from perdure.kernel.dispatch import Dispatcher
from perdure.kernel.doors import Door
from perdure.store.contract import RateWish, Store, Tokens
from perdure.values.clock import Alarm, Clock

log = logging.getLogger("perdure.kernel")

#: How long a token may be kept.
_KEPT_SECONDS = 1.0
#: Tokens that come closer together than this are asked for together.
_APART_SECONDS_LEAST = 0.02
#: When a store that is busy is asked again.
_BUSY_SECONDS = 0.5


class RateDoor(Door):
    """The door of one rate, open while there are tokens."""

    def __init__(self, name: str, weights: Mapping[str, float], rate: Rate, rates: Rates) -> None:
        super().__init__(name, weights)
        self.rate = rate
        #: rings when it makes sense to ask again
        self.alarm: Alarm | None = None
        self._rates = rates
        self._tokens = 0
        self._kept_until = 0.0
        #: how many it let through when it was asked last: twice as many when that were all
        self._promise = 1

    @property
    def room(self) -> int:
        return self._tokens if self._rates.now < self._kept_until else 0

    @property
    def promise(self) -> int:
        return max(self.room, self._promise)

    def enter(self) -> None:
        self._tokens -= 1

    def knock(self) -> None:
        self._rates.need(self)

    def unused(self) -> None:
        self._rates.forget(self)

    def wanted(self, most: int) -> int:
        """How many could begin if there were tokens, and `most` more runs could move."""
        left: dict[Door, int] = {self: min(most, self.rate.limit)}
        for lane in self.standing():
            for door in lane.doors:
                left.setdefault(door, door.room or door.promise)
            count = max(0, min(len(lane), *(left[door] for door in lane.doors)))
            for door in lane.doors:
                left[door] -= count
        return min(most, self.rate.limit) - left[self]

    def answered(self, wanted: int, granted: int) -> None:
        """So many may begin at once."""
        self._tokens = self.room + granted
        self._kept_until = self._rates.now + _KEPT_SECONDS
        self._promise = 2 * granted if granted == wanted else max(1, granted)


class Rates:
    """The tokens of one node."""

    def __init__(
        self, store: Store, clock: Clock, *, weights: Mapping[str, float],
        spawn: Callable[[Coroutine[Any, Any, None]], object], dispatcher: Callable[[], Dispatcher],
    ) -> None:  # fmt: skip
        self._store = store
        self._clock = clock
        self._weights = weights
        self._spawn = spawn
        self._dispatcher = dispatcher
        self._doors: dict[str, RateDoor] = {}
        #: to be asked for with the next call
        self._due: dict[RateDoor, None] = {}
        self._asking = False
        self._over = False

    @property
    def now(self) -> float:
        """Seconds that never go backwards."""
        return self._clock.monotonic()

    def door(self, name: str, rate: Rate) -> RateDoor:
        """The door of the rate of `name`."""
        door = self._doors.get(name)
        if door is None:
            door = self._doors[name] = RateDoor(name, self._weights, rate, self)
        return door

    def shut(self) -> list[RateDoor]:
        """Those that somebody waits for."""
        return [door for door in self._doors.values() if door.awaited and door.room <= 0]

    def rest(self) -> None:
        """Ask for nothing any more."""
        self._over = True
        for door in self._doors.values():
            _silence(door)

    def need(self, door: RateDoor) -> None:
        """Somebody waits for a token."""
        if door.alarm is not None or self._over:
            return
        # Asked when the turn of the loop is over: one call for all that came up in it.
        self._due[door] = None
        if not self._asking:
            self._asking = True
            self._spawn(self._ask_for_due())

    def forget(self, door: RateDoor) -> None:
        """Nobody waits for it any more."""
        _silence(door)
        self._due.pop(door, None)
        del self._doors[door.name]

    async def _ask_for_due(self) -> None:
        try:
            while self._due and not self._over:
                due, self._due = list(self._due), {}
                await self._take(due)
        finally:
            self._asking = False

    async def _take(self, doors: list[RateDoor]) -> None:
        dispatcher = self._dispatcher()
        wanted = {door: door.wanted(dispatcher.room) for door in doors}
        wishes = [RateWish(door.name, *door.rate, count) for door, count in wanted.items() if count]
        try:
            tokens = iter(await self._store.take(wishes) if wishes else ())
        except (StoreBusy, StoreFull) as error:
            log.warning("rates cannot be asked for: %s", error)
            tokens = iter([Tokens(0, _BUSY_SECONDS)] * len(wishes))
        for door, count in wanted.items():
            if count:
                self._answered(door, count, next(tokens))
            else:
                dispatcher.look_again(door)  # something else has become shut meanwhile: it is to wait there

    def _answered(self, door: RateDoor, wanted: int, tokens: Tokens) -> None:
        door.answered(wanted, tokens.granted)
        if tokens.granted < wanted and not self._over:
            _silence(door)
            seconds = max(tokens.wait_seconds, _APART_SECONDS_LEAST)
            door.alarm = self._clock.call_later(seconds, lambda: self._ring(door))
        self._dispatcher().opened(door)

    def _ring(self, door: RateDoor) -> None:
        door.alarm = None
        self._dispatcher().look_again(door)


def _silence(door: RateDoor) -> None:
    if door.alarm is not None:
        door.alarm.cancel()
        door.alarm = None
