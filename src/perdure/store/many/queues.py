"""What do owners of shards ask? Of each database what concerns the shards that live there.

A queue is read on in each database from the last run that this reader had of it, or from the beginning when it had none.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeVar

from perdure.store.contract import Cursor, Programs, Queue, QueuePage, Signal
from perdure.store.many.finding import Finding
from perdure.store.many.members import Members
from perdure.store.many.merging import age, earliest, merged, priority
from perdure.store.many.places import Places
from perdure.store.many.signal_ids import given_id
from perdure.store.member import Member
from perdure.values.runs import Run

T = TypeVar("T")


class Queues:
    """Questions by shard."""

    def __init__(self, members: Members, places: Places, finding: Finding) -> None:
        self._members = members
        self._places = places
        self._finding = finding

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

    async def queues(self, agent: str, limit: int, after: Queue | None) -> list[Queue]:
        """As the contract says."""
        stores = self._members.stores
        pages = await asyncio.gather(*(store.queues(agent, limit, after=after) for store in stores))
        return sorted({queue for page in pages for queue in page}, key=priority)[:limit]

    async def ready(
        self, shards: Iterable[str], queues: Mapping[Queue, Cursor], each: int, programs: Programs
    ) -> list[QueuePage]:
        """As the contract says; a cursor has one of each database that was not read to its end."""

        async def read(store: Member, place: int, owned: list[str]) -> dict[Queue, QueuePage]:
            places = {queue: dict(after) if isinstance(after, tuple) else None for queue, after in queues.items()}
            asked = {
                queue: None if at is None else at[place] for queue, at in places.items() if at is None or place in at
            }
            return {page.queue: page for page in await store.ready(owned, asked, each, programs=programs)}

        read_pages = await self._ask(shards, read)
        self._finding.remember(*(run for pages in read_pages.values() for page in pages.values() for run in page.runs))
        return [
            _page(queue, {place: pages[queue] for place, pages in read_pages.items() if queue in pages}, after, each)
            for queue, after in queues.items()
        ]

    async def active(self, shards: Iterable[str]) -> list[Run]:
        """As the contract says."""
        pages = await self._ask(shards, lambda store, _, owned: store.active(owned))
        runs = [run for _, page in sorted(pages.items()) for run in page]
        self._finding.remember(*runs)
        return runs

    async def due(self, shards: Iterable[str], until: int, limit: int, programs: Programs) -> list[Run]:
        """As the contract says."""
        pages = await self._ask(shards, lambda store, _, owned: store.due(owned, until, limit, programs=programs))
        runs = merged(pages.values(), earliest, limit)
        self._finding.remember(*runs)
        return runs

    async def next_due(self, shards: Iterable[str], programs: Programs) -> int | None:
        """As the contract says."""
        moments = await self._ask(shards, lambda store, _, owned: store.next_due(owned, programs=programs))
        return min((moment for moment in moments.values() if moment is not None), default=None)

    async def _ask(self, shards: Iterable[str], call: Callable[[Member, int, list[str]], Awaitable[T]]) -> dict[int, T]:
        owned = sorted((await self._places.by_member(shards)).items())
        answers = await asyncio.gather(*(call(self._members.stores[place], place, names) for place, names in owned))
        return {place: answer for (place, _), answer in zip(owned, answers, strict=True)}


def _page(queue: Queue, pages: Mapping[int, QueuePage], after: Cursor, each: int) -> QueuePage:
    """What several databases have of one queue, by age."""
    places = {run.id: place for place, page in pages.items() for run in page.runs}
    runs = merged([page.runs for page in pages.values()], age, each)
    taken = Counter(places[run.id] for run in runs)
    before = dict(after) if isinstance(after, tuple) else {}
    cursors = {
        place: page.runs[taken[place] - 1].id if taken[place] else before.get(place)
        for place, page in pages.items()
        if page.after is not None or taken[place] < len(page.runs)
    }
    return QueuePage(queue, runs, tuple(cursors.items()) or None)
