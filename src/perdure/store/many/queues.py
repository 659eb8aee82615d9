"""What do owners of shards ask? Of each database what concerns the shards that live there.

A queue is read on from one of its runs. Only one database knows that run: the others are read on from the last run that
this reader had of them, or from the beginning when it had none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from perdure.store.contract import Cursor, Programs, Signal
from perdure.store.many.finding import Finding
from perdure.store.many.members import Members
from perdure.store.many.merging import earliest, merged, turn
from perdure.store.many.places import Places
from perdure.store.many.signal_ids import given_id
from perdure.store.member import Member
from perdure.values.runs import Run

T = TypeVar("T")

#: Pages whose readers may come back.
_PAGES_MAX = 1024


class Queues:
    """Questions by shard."""

    def __init__(self, members: Members, places: Places, finding: Finding) -> None:
        self._members = members
        self._places = places
        self._finding = finding
        #: last run of a page -> the last run of each database up to there
        self._pages: dict[str, dict[int, str]] = {}

    async def signals(self, shards: Iterable[str], after: Cursor, limit: int) -> tuple[list[Signal], Cursor]:
        """As the contract says; the cursor has one of each database."""
        cursors = dict(after) if isinstance(after, tuple) else {}
        found: list[Signal] = []
        for place, owned in sorted((await self._places.by_member(shards)).items()):
            if len(found) < limit:
                page, cursors[place] = await self._members.stores[place].signals(
                    owned, cursors.get(place), limit - len(found)
                )
                found += [given_id(signal, place) for signal in page]
        return found, tuple(cursors.items())

    async def run_signals(self, run: str) -> list[Signal]:
        """As the contract says."""
        place, signals = await self._finding.of_run(run, lambda store: store.run_signals(run))
        return [given_id(signal, place) for signal in signals]

    async def ready(self, shards: Iterable[str], limit: int, programs: Programs, after: str | None) -> list[Run]:
        """As the contract says."""
        anchor = None if after is None else await self._finding.run(after)
        last = {} if after is None else self._pages.get(after, {})

        async def read(store: Member, place: int, owned: list[str]) -> list[Run]:
            if after is None or anchor is None:
                return await store.ready(owned, limit, programs=programs)
            home = self._places.of(anchor.shard)
            if place == home or place in last:
                return await store.ready(owned, limit, programs=programs, after=after if place == home else last[place])
            return await _behind(store, owned, limit, programs, anchor)

        pages = await self._ask(shards, read)
        runs = merged(pages.values(), turn, limit)
        self._remember(runs, {run.id: place for place, page in pages.items() for run in page}, last)
        return runs

    async def active(self, shards: Iterable[str]) -> list[Run]:
        """As the contract says."""
        pages = await self._ask(shards, lambda store, _, owned: store.active(owned))
        return [run for _, page in sorted(pages.items()) for run in page]

    async def due(self, shards: Iterable[str], until: int, limit: int, programs: Programs) -> list[Run]:
        """As the contract says."""
        pages = await self._ask(shards, lambda store, _, owned: store.due(owned, until, limit, programs=programs))
        return merged(pages.values(), earliest, limit)

    async def next_due(self, shards: Iterable[str], programs: Programs) -> int | None:
        """As the contract says."""
        moments = await self._ask(shards, lambda store, _, owned: store.next_due(owned, programs=programs))
        return min((moment for moment in moments.values() if moment is not None), default=None)

    async def _ask(self, shards: Iterable[str], call: Callable[[Member, int, list[str]], Awaitable[T]]) -> dict[int, T]:
        owned = sorted((await self._places.by_member(shards)).items())
        answers = await asyncio.gather(*(call(self._members.stores[place], place, names) for place, names in owned))
        return {place: answer for (place, _), answer in zip(owned, answers, strict=True)}

    def _remember(self, runs: list[Run], places: dict[str, int], before: dict[int, str]) -> None:
        if not runs:
            return
        if len(self._pages) >= _PAGES_MAX:
            self._pages.pop(next(iter(self._pages)))
        self._pages[runs[-1].id] = before | {places[run.id]: run.id for run in runs}


async def _behind(store: Member, owned: list[str], limit: int, programs: Programs, anchor: Run) -> list[Run]:
    """The first `limit` runs behind one that another database has."""
    asked = limit
    while True:
        page = await store.ready(owned, asked, programs=programs)
        behind = [run for run in page if turn(run) > turn(anchor)]
        if len(behind) >= limit or len(page) < asked:
            return behind[:limit]
        asked *= 2
