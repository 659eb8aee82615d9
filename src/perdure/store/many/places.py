"""In which database does a shard live? Home says so, from the first time somebody needs the shard on.

A place is recorded before anything is written there, so that a database that is added later changes no place.
"""

from __future__ import annotations

from collections.abc import Iterable

from perdure.errors import AlreadyExists
from perdure.store.contract import Transaction
from perdure.store.exchange import Exchange, Note
from perdure.store.many.members import Members
from perdure.values.ids import slot_of


class Places:
    """Shard -> number of its database, remembered; `refresh` reads anew what others recorded or moved."""

    def __init__(self, members: Members) -> None:
        self._members = members
        self._places: dict[str, int] = {}
        self._asked = self._answered = 0
        #: shards that moved, for which something may wait that was posted before: what follows must not overtake it
        self.held_up: set[str] = set()

    def of(self, shard: str) -> int | None:
        """Where a shard lives, as far as is known here."""
        return self._places.get(shard)

    def all(self) -> list[tuple[str, int]]:
        """All that are known here, by name."""
        return sorted(self._places.items())

    async def refresh(self) -> None:
        """Read all places."""
        self._asked += 1
        asked = self._asked
        noted = await self._members.home.notes("place")
        # An answer that was overtaken by a later one would forget what that one told.
        if asked > self._answered:
            self._answered = asked
            places = {shard: int(place) for shard, place in noted.items()}
            self.held_up.update(shard for shard, place in self._places.items() if places.get(shard) != place)
            self._places = places

    async def settle(self, shards: Iterable[str]) -> None:
        """See that each of `shards` has a place."""
        if not (missing := self._missing(shards)):
            return
        await self.refresh()
        if not (missing := self._missing(missing)):
            return
        notes = [Note("place", shard, str(_first_place(shard, len(self._members.stores)))) for shard in missing]
        outcomes = await self._members.home.commit([Transaction(exchange=Exchange(notes=[note])) for note in notes])
        for outcome in outcomes:
            if isinstance(outcome, Exception) and not isinstance(outcome, AlreadyExists):
                raise outcome
        await self.refresh()

    async def settled(self, shard: str) -> int:
        """Where a shard lives, from now on if nobody needed it before."""
        if shard not in self._places:
            await self.settle([shard])
        return self._places[shard]

    async def by_member(self, shards: Iterable[str]) -> dict[int, list[str]]:
        """`shards` by the database they live in; without those that nobody has needed yet."""
        shards = list(shards)
        if self._missing(shards):
            await self.refresh()
        found: dict[int, list[str]] = {}
        for shard in shards:
            if (place := self._places.get(shard)) is not None:
                found.setdefault(place, []).append(shard)
        return found

    def _missing(self, shards: Iterable[str]) -> list[str]:
        return [shard for shard in dict.fromkeys(shards) if shard not in self._places]


def _first_place(shard: str, members: int) -> int:
    # An agent's shards are dealt out in turn, each agent's from another database on: they are spread evenly.
    agent, _, slot = shard.rpartition(":")
    if slot.isdecimal():
        return (slot_of(agent, members) + int(slot)) % members
    return slot_of(shard, members)
