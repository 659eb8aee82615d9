"""In which database is a run, and which of its answers count? A row counts where its shard lives, and nowhere else.

While a shard moves, or after a mover died, its rows may be in two databases. What is remembered about a place may be
old; a row in a place where it should not be is the sign to ask home again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from perdure.store.many.members import Members
from perdure.store.many.places import Places
from perdure.store.member import Member
from perdure.values.runs import Run

#: Runs of which the shard is remembered: about 10 MB.
_REMEMBERED_MAX = 65_536


class _Row(Protocol):
    @property
    def shard(self) -> str: ...


R = TypeVar("R", bound=_Row)
T = TypeVar("T")


class Finding:
    """Asks all, or the one that knows."""

    def __init__(self, members: Members, places: Places) -> None:
        self._members = members
        self._places = places
        #: run -> its shard, which never changes
        self._shards: dict[str, str] = {}

    async def run(self, id: str) -> Run | None:
        """One run, or None."""
        place = self._places.of(self._shards.get(id, ""))
        if place is not None and (run := await self._members.stores[place].run(id)) is not None:
            return run
        found = await self.first(lambda store: store.run(id))
        if found is not None:
            self.remember(found)
        return found

    async def shard_of(self, run: str) -> str | None:
        """The shard of a run, or None when there is no such run."""
        if run not in self._shards and await self.run(run) is None:
            return None
        return self._shards[run]

    async def of_run(self, run: str, call: Callable[[Member], Awaitable[Sequence[T]]]) -> tuple[int, Sequence[T]]:
        """What the database of a run answers, and which one that is."""
        for _ in range(2):
            shard = await self.shard_of(run)
            if shard is None:
                break
            place = await self._places.settled(shard)
            store = self._members.stores[place]
            answer = await call(store)
            if answer or await store.run(run) is not None:
                return place, answer
            # It is not there any more: it moved.
            await self._places.refresh()
        return 0, ()

    def remember(self, *runs: Run) -> None:
        """Where runs are, for the next question."""
        if len(self._shards) >= _REMEMBERED_MAX:
            self._shards.clear()
        self._shards.update((run.id, run.shard) for run in runs)

    def forget(self, run: str) -> None:
        """There is no such run, after all."""
        self._shards.pop(run, None)

    async def first(self, call: Callable[[Member], Awaitable[R | None]]) -> R | None:
        """The one row that one of the databases has."""
        answers = await self._members.all(call)
        counted = await self.counted([[] if row is None else [row] for row in answers])
        return next((rows[0] for rows in counted if rows), None)

    async def lists(self, limit: int, call: Callable[[int, Member, int], Awaitable[list[R]]]) -> list[list[R]]:
        """What each database lists, up to `limit` rows that count."""
        asked = limit
        while True:
            stores = enumerate(self._members.stores)
            answers = await asyncio.gather(*(call(place, store, asked) for place, store in stores))
            counted = await self.counted(answers)
            cut = [len(rows) == asked and len(own) < limit for rows, own in zip(answers, counted, strict=True)]
            if not any(cut):
                return [rows[:limit] for rows in counted]
            asked *= 2

    async def counted(self, answers: Sequence[list[R]]) -> list[list[R]]:
        """The rows that are where their shards live."""
        if self._astray(answers):
            await self._places.refresh()
        return [
            [row for row in rows if self._places.of(row.shard) in {None, index}] for index, rows in enumerate(answers)
        ]

    def _astray(self, answers: Sequence[list[R]]) -> bool:
        return any(self._places.of(row.shard) != index for index, rows in enumerate(answers) for row in rows)
