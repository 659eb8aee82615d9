"""What do all databases together list? Runs, asks, shards, sessions and their state, each row where its shard lives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from perdure.store.contract import Ask, Backlog, RunFilter, SessionRow, Shard
from perdure.store.many.finding import Finding
from perdure.store.many.members import Members
from perdure.store.many.merging import age, merged
from perdure.store.many.places import Places
from perdure.store.member import Member
from perdure.values.runs import Run


class Lists:
    """Questions that all databases are asked."""

    def __init__(self, members: Members, places: Places, finding: Finding) -> None:
        self._members = members
        self._places = places
        self._finding = finding

    async def runs(self, filter: RunFilter) -> list[Run]:
        """As the contract says; between databases, by when they were created."""
        before = None if filter.before is None else await self._finding.run(filter.before)
        if filter.before is not None and before is None:
            return []

        home = None if before is None else self._places.of(before.shard)

        async def read(place: int, store: Member, limit: int) -> list[Run]:
            if before is None or place == home:
                return await store.runs(replace(filter, limit=limit))
            return await _older(store, replace(filter, limit=limit), before)

        return merged(await self._finding.lists(filter.limit, read), age, filter.limit, falling=True)

    async def asks(self, run: str | None, to: str | None, status: str | None, limit: int) -> list[Ask]:
        """As the contract says; between databases, by when they were asked."""

        async def read(_: int, store: Member, limit: int) -> list[Ask]:
            return await store.asks(run=run, to=to, status=status, limit=limit)

        return merged(await self._finding.lists(limit, read), lambda ask: ask.created, limit)

    async def shards(self) -> list[Shard]:
        """As the contract says."""
        rows = [[_ShardRow(shard.name, shard) for shard in shards] for shards in await self._all_shards()]
        counted = [row.listed for found in await self._finding.counted(rows) for row in found]
        # Home also has leases on moves, by the name of nothing that has a place.
        return sorted(
            (shard for shard in counted if self._places.of(shard.name) is not None), key=lambda shard: shard.name
        )

    async def backlog(self, now: int) -> list[Backlog]:
        """As the contract says."""
        counted = await self._finding.counted(await self._members.all(lambda store: store.backlog(now)))
        return sorted((row for rows in counted for row in rows), key=lambda row: row.shard)

    async def state(self, agent: str, session: str) -> dict[str, str]:
        """As the contract says."""
        states = await self._members.all(lambda store: store.state(agent, session))
        known = [place for place, state in enumerate(states) if state]
        if len(known) > 1 and (place := await self._place_of(agent, session)) is not None:
            known = [place]
        return states[known[0]] if known else {}

    async def sessions(self, agent: str | None, after: tuple[str, str] | None, limit: int) -> list[SessionRow]:
        """As the contract says."""
        pages = await self._members.all(lambda store: store.sessions(agent=agent, after=after, limit=limit))
        found: dict[tuple[str, str], SessionRow] = {}
        for place, page in enumerate(pages):
            for row in page:
                key = (row.agent, row.session)
                if key not in found or place == await self._place_of(*key):
                    found[key] = row
        return [found[key] for key in sorted(found)[:limit]]

    async def _place_of(self, agent: str, session: str) -> int | None:
        """Where a session that is in two databases, since it was on its way, counts: where its runs do."""
        for run in await self.runs(RunFilter(agent=agent, session=session, limit=1)):
            return await self._places.settled(run.shard)
        return None

    async def _all_shards(self) -> Sequence[list[Shard]]:
        return await self._members.all(lambda store: store.shards())


async def _older(store: Member, filter: RunFilter, before: Run) -> list[Run]:
    """Runs that are older than one that another database has."""
    until = before.created + 1 if filter.until is None else min(before.created + 1, filter.until)
    asked = filter.limit
    while True:
        page = await store.runs(replace(filter, before=None, until=until, limit=asked))
        older = [run for run in page if age(run) < age(before)]
        if len(older) >= filter.limit or len(page) < asked:
            return older[: filter.limit]
        asked *= 2


@dataclass(frozen=True, slots=True)
class _ShardRow:
    """A shard's row, which belongs where the shard lives."""

    shard: str
    listed: Shard
