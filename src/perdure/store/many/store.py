"""How do several databases make one store? Each shard lives in one of them, with all that belongs to it.

Nodes, quotas, documents and what all must agree on live at home, in the first. What crosses from one database to another
is posted with the commit that causes it and delivered right after, at least once and taken once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from perdure.errors import InvalidSetting, StoreBusy
from perdure.store.contract import (
    Ask,
    Backlog,
    Cursor,
    Document,
    Lease,
    Node,
    Programs,
    Queue,
    QueuePage,
    QuotaWish,
    RateWish,
    RunFilter,
    SessionRow,
    Shard,
    Signal,
    Tokens,
    Transaction,
)
from perdure.store.many.committing import Committer, Outcome
from perdure.store.many.finding import Finding
from perdure.store.many.lists import Lists
from perdure.store.many.members import Members
from perdure.store.many.moves import Moves
from perdure.store.many.news import News
from perdure.store.many.places import Places
from perdure.store.many.planning import Planner
from perdure.store.many.queues import Queues
from perdure.store.many.relay import Relay
from perdure.store.many.rounds import Rounds
from perdure.store.member import Member
from perdure.values.clock import Clock, SystemClock
from perdure.values.events import Event
from perdure.values.runs import Run

log = logging.getLogger("perdure.store")

T = TypeVar("T")


class ManyStores:
    """A store in several databases, by name and in a fixed order. More may be added at the end.

    One object serves one kernel.
    """

    def __init__(self, stores: Mapping[str, Member], *, clock: Clock | None = None) -> None:
        self._members = Members(stores)
        self._home = self._members.home
        self._places = Places(self._members)
        self._finding = Finding(self._members, self._places)
        self._lists = Lists(self._members, self._places, self._finding)
        self._queues = Queues(self._members, self._places, self._finding)
        self._news = News(self._members.stores)
        self._planner = Planner(self._members, self._places, self._finding)
        clock = clock or SystemClock()
        self._relay = Relay(self._members, self._places, self._planner, clock, self._news.tell)
        self._moves = Moves(self._members, self._places, self._relay, clock)
        self._rounds = Rounds(self._relay, self._moves, clock)
        self._committer = Committer(
            self._members, self._places, self._finding, self._planner, self._relay, self._rounds.nudge
        )

    async def open(self) -> None:
        await self._members.open()
        self._planner.slots = await self._home.slots()
        await self._places.refresh()
        self._news.start()

    async def close(self) -> None:
        await self._rounds.stop()
        await self._news.stop()
        await self._members.close()

    async def commit(self, batch: Sequence[Transaction]) -> list[Outcome]:
        return await self._committer.commit(batch)

    async def run(self, id: str) -> Run | None:
        return await self._finding.run(id)

    async def runs(self, filter: RunFilter) -> list[Run]:
        return await self._lists.runs(filter)

    async def run_by_key(self, agent: str, idempotency_key: str) -> Run | None:
        return await self._finding.first(lambda store: store.run_by_key(agent, idempotency_key))

    async def events(self, run: str, after: int = 0, limit: int | None = None) -> list[Event]:
        _, events = await self._finding.of_run(run, lambda store: store.events(run, after, limit))
        return list(events)

    async def state(self, agent: str, session: str) -> dict[str, str]:
        return await self._lists.state(agent, session)

    async def session_active(self, agent: str, session: str) -> Run | None:
        return await self._finding.first(lambda store: store.session_active(agent, session))

    async def session_next(self, agent: str, session: str) -> Run | None:
        return await self._finding.first(lambda store: store.session_next(agent, session))

    async def sessions(
        self, *, agent: str | None = None, after: tuple[str, str] | None = None, limit: int = 100
    ) -> list[SessionRow]:
        return await self._lists.sessions(agent, after, limit)

    async def signals(
        self, shards: Iterable[str], after: Cursor = None, limit: int = 1000
    ) -> tuple[list[Signal], Cursor]:
        return await self._queues.signals(shards, after, limit)

    async def run_signals(self, run: str) -> list[Signal]:
        return await self._queues.run_signals(run)

    async def asks(
        self, *, run: str | None = None, to: str | None = None, status: str | None = "open", limit: int = 1000
    ) -> list[Ask]:
        return await self._lists.asks(run, to, status, limit)

    async def ask(self, id: str) -> Ask | None:
        return await self._finding.first(lambda store: store.ask(id))

    async def queues(self, agent: str, limit: int, *, after: Queue | None = None) -> list[Queue]:
        return await self._queues.queues(agent, limit, after)

    async def ready(
        self, shards: Iterable[str], queues: Mapping[Queue, Cursor], each: int, *, programs: Programs = None
    ) -> list[QueuePage]:
        return await self._queues.ready(shards, queues, each, programs)

    async def active(self, shards: Iterable[str]) -> list[Run]:
        return await self._queues.active(shards)

    async def due(self, shards: Iterable[str], until: int, limit: int, *, programs: Programs = None) -> list[Run]:
        return await self._queues.due(shards, until, limit, programs)

    async def next_due(self, shards: Iterable[str], *, programs: Programs = None) -> int | None:
        return await self._queues.next_due(shards, programs)

    async def backlog(self, now: int) -> list[Backlog]:
        return await self._lists.backlog(now)

    async def claim(self, node: str, shards: Iterable[str], lease_seconds: float) -> list[Lease]:
        self._rounds.start()
        leaving = await self._moves.begun()
        shards = [shard for shard in shards if shard not in leaving]
        await self._places.refresh()  # whoever moved a shard may have been another process
        await self._places.settle(shards)
        return await self._lease(shards, lambda store, names: store.claim(node, names, lease_seconds))

    async def renew(self, node: str, leases: Iterable[Lease], lease_seconds: float) -> list[Lease]:
        epochs = dict(leases)
        return await self._lease(
            epochs, lambda store, names: store.renew(node, [Lease(name, epochs[name]) for name in names], lease_seconds)
        )

    async def release(self, node: str, leases: Iterable[Lease]) -> None:
        epochs = dict(leases)
        for place, names in (await self._places.by_member(epochs)).items():
            await self._members.stores[place].release(node, [Lease(name, epochs[name]) for name in names])

    async def shards(self) -> list[Shard]:
        return await self._lists.shards()

    async def beat(self, node: Node, lease_seconds: float) -> list[Node]:
        nodes = await self._home.beat(node, lease_seconds)
        leaving = tuple(await self._moves.begun())
        return [replace(other, leaving=leaving) if leaving and other.id == node.id else other for other in nodes]

    async def leave(self, node: str) -> None:
        await self._home.leave(node)

    async def nodes(self) -> list[Node]:
        return await self._home.nodes()

    async def ask_drain(self, node: str) -> None:
        await self._home.ask_drain(node)

    async def share(self, node: str, wishes: Sequence[QuotaWish]) -> list[int]:
        return await self._home.share(node, wishes)

    async def take(self, wishes: Sequence[RateWish]) -> list[Tokens]:
        return await self._home.take(wishes)

    async def document(self, kind: str, id: str) -> Document | None:
        return await self._home.document(kind, id)

    async def documents(self, kind: str, *, after: str = "", limit: int = 1000) -> list[Document]:
        return await self._home.documents(kind, after=after, limit=limit)

    async def put_document(self, document: Document) -> Document | None:
        return await self._home.put_document(document)

    async def drop_document(self, kind: str, id: str, version: int | None = None) -> bool:
        return await self._home.drop_document(kind, id, version)

    async def slots(self) -> int:
        return await self._home.slots()

    async def wait_change(self) -> None:
        await self._news.wait()

    async def check(self) -> list[str]:
        found = await self._members.all(lambda store: store.check())
        return [f"{name}: {text}" for name, texts in zip(self._members.names, found, strict=True) for text in texts]

    async def backup(self, path: str) -> None:
        raise InvalidSetting(
            f"a store of {len(self._members.names)} databases is not copied to one file {path}. Stop the workers, then copy "
            f"each database with its own tools (sqlite3 FILE .backup, pg_dump)."
        )

    def together(self, shard: str, other: str) -> bool:
        place = self._places.of(shard)
        return place is not None and place == self._places.of(other)

    async def places(self) -> dict[str, str]:
        """Which database each shard lives in, by name."""
        await self._places.refresh()
        return {shard: self._members.names[place] for shard, place in self._places.all()}

    async def move_shard(self, shard: str, database: str, *, finish_seconds: float = 0.0) -> None:
        """Let a shard live in another database from now on, with all that belongs to it, while work goes on.

        Its owner hears of it and gives it up in good order, if that takes no longer than `finish_seconds`; else it loses
        it as if it had died. Its runs stand still meanwhile, and nothing is lost. Where it was interrupted it may be
        repeated; if it is not, the nodes end it by themselves. Raises InvalidSetting (no such database), NotFound (no
        such shard), StoreBusy.
        """
        if database not in self._members.names:
            raise InvalidSetting(f"there is no database {database}; there are: {', '.join(self._members.names)}")
        try:
            await self._moves.move(shard, self._members.names.index(database), finish_seconds)
        finally:
            self._news.tell()

    async def _lease(
        self, shards: Iterable[str], call: Callable[[Member, list[str]], Awaitable[list[Lease]]]
    ) -> list[Lease]:
        """Leases of the databases that answer: one that is away takes its own shards away, and no others."""
        owned = sorted((await self._places.by_member(shards)).items())
        answers = await asyncio.gather(
            *(call(self._members.stores[place], names) for place, names in owned), return_exceptions=True
        )
        busy = [answer for answer in answers if isinstance(answer, StoreBusy)]
        others = [answer for answer in answers if isinstance(answer, BaseException) and answer not in busy]
        if others or (busy and len(busy) == len(answers)):
            raise (others or busy)[0]
        for failure in busy:
            log.warning("the shards of one database are not held: %s", failure)
        return [lease for answer in answers if not isinstance(answer, BaseException) for lease in answer]
