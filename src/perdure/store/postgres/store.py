"""How do runs live in a PostgreSQL database? The store's public face: what each call *is* stands in the files beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

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
from perdure.store.exchange import Parcel
from perdure.store.member import ShardRows
from perdure.store.postgres import copies, schema
from perdure.store.postgres.commit import Committer
from perdure.store.postgres.connections import Connections
from perdure.store.postgres.documents import Documents
from perdure.store.postgres.exchange import Exchanges
from perdure.store.postgres.journals import Journals
from perdure.store.postgres.leases import Leases
from perdure.store.postgres.moving import Moving
from perdure.store.postgres.news import News
from perdure.store.postgres.nodes import Nodes
from perdure.store.postgres.quotas import Quotas
from perdure.store.postgres.reads import Reads
from perdure.store.postgres.signals import Signals
from perdure.store.postgres.tries import Outcome
from perdure.values.clock import Clock
from perdure.values.events import Event
from perdure.values.runs import Run

#: Connections that are lent at a time; one more commits and one listens.
_READERS_MOST = 4
_PULSE_MOST = 2


class PostgresStore:
    """A store in the schema `perdure` of the database at `url`; any number of processes of any machines may share it.

    One object serves one kernel. `slots` counts only when the schema is made. `clock` is for tests: leases run by the
    database's own clock.
    """

    def __init__(self, url: str, *, clock: Clock | None = None, slots: int = 16) -> None:
        self._connections = Connections(url, _READERS_MOST)
        #: for leases and beats, which must not wait behind reads that take long
        self._pulse = Connections(url, _PULSE_MOST)
        self._slots = slots
        self._committer = Committer(self._connections)
        self._reads = Reads(self._connections)
        self._journals = Journals(self._connections)
        self._signals = Signals(self._connections)
        self._leases = Leases(self._pulse, clock)
        self._nodes = Nodes(self._pulse, clock)
        self._quotas = Quotas(self._connections, clock)
        self._documents = Documents(self._connections, clock)
        self._news = News(self._connections, self._committer.id)
        self._exchanges = Exchanges(self._connections)
        self._moving = Moving(self._connections)
        self._joined = False
        self._open = False

    async def open(self) -> None:
        try:
            await self._connections.open()
            await self._pulse.open()
            await schema.prepare(self._connections, self._slots)
            if not self._joined:
                await self._exchanges.refuse_part()
            await self._committer.open()
            self._open = True
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        try:
            if self._open:
                self._open = False
                await self._news.close()
                await self._committer.close()
        finally:
            await self._pulse.close()
            await self._connections.close()

    async def commit(self, batch: Sequence[Transaction]) -> list[Outcome]:
        outcomes = await self._committer.commit(batch)
        self._news.tell()
        return outcomes

    async def run(self, id: str) -> Run | None:
        return await self._reads.run(id)

    async def runs(self, filter: RunFilter) -> list[Run]:
        return await self._reads.runs(filter)

    async def run_by_key(self, agent: str, idempotency_key: str) -> Run | None:
        return await self._reads.run_by_key(agent, idempotency_key)

    async def events(self, run: str, after: int = 0, limit: int | None = None) -> list[Event]:
        return await self._journals.read(run, after, limit)

    async def state(self, agent: str, session: str) -> dict[str, str]:
        return await self._reads.state(agent, session)

    async def session_active(self, agent: str, session: str) -> Run | None:
        return await self._reads.session_active(agent, session)

    async def session_next(self, agent: str, session: str) -> Run | None:
        return await self._reads.session_next(agent, session)

    async def sessions(
        self, *, agent: str | None = None, after: tuple[str, str] | None = None, limit: int = 100
    ) -> list[SessionRow]:
        return await self._reads.sessions(agent, after, limit)

    async def signals(
        self, shards: Iterable[str], after: Cursor = None, limit: int = 1000
    ) -> tuple[list[Signal], Cursor]:
        return await self._signals.read(shards, after, limit)

    async def run_signals(self, run: str) -> list[Signal]:
        return await self._signals.of_run(run)

    async def asks(
        self, *, run: str | None = None, to: str | None = None, status: str | None = "open", limit: int = 1000
    ) -> list[Ask]:
        return await self._reads.asks(run, to, status, limit)

    async def ask(self, id: str) -> Ask | None:
        return await self._reads.ask(id)

    async def queues(self, agent: str, limit: int, *, after: Queue | None = None) -> list[Queue]:
        return await self._reads.queues(agent, limit, after)

    async def ready(
        self, shards: Iterable[str], queues: Mapping[Queue, Cursor], each: int, *, programs: Programs = None
    ) -> list[QueuePage]:
        return await self._reads.ready(shards, queues, each, programs)

    async def active(self, shards: Iterable[str]) -> list[Run]:
        return await self._reads.active(shards)

    async def due(self, shards: Iterable[str], until: int, limit: int, *, programs: Programs = None) -> list[Run]:
        return await self._reads.due(shards, until, limit, programs)

    async def next_due(self, shards: Iterable[str], *, programs: Programs = None) -> int | None:
        return await self._reads.next_due(shards, programs)

    async def backlog(self, now: int) -> list[Backlog]:
        return await self._reads.backlog(now)

    async def claim(self, node: str, shards: Iterable[str], lease_seconds: float) -> list[Lease]:
        return await self._leases.claim(node, shards, lease_seconds)

    async def renew(self, node: str, leases: Iterable[Lease], lease_seconds: float) -> list[Lease]:
        return await self._leases.renew(node, leases, lease_seconds)

    async def release(self, node: str, leases: Iterable[Lease]) -> None:
        await self._leases.release(node, leases)
        self._news.tell()

    async def shards(self) -> list[Shard]:
        return await self._leases.shards()

    async def beat(self, node: Node, lease_seconds: float) -> list[Node]:
        return await self._nodes.beat(node, lease_seconds)

    async def leave(self, node: str) -> None:
        await self._nodes.leave(node)
        self._news.tell()

    async def nodes(self) -> list[Node]:
        return await self._nodes.all()

    async def ask_drain(self, node: str) -> None:
        await self._nodes.ask_drain(node)
        self._news.tell()

    async def share(self, node: str, wishes: Sequence[QuotaWish]) -> list[int]:
        return await self._quotas.share(node, wishes)

    async def take(self, wishes: Sequence[RateWish]) -> list[Tokens]:
        return await self._quotas.take(wishes)

    async def document(self, kind: str, id: str) -> Document | None:
        return await self._documents.read(kind, id)

    async def documents(self, kind: str, *, after: str = "", limit: int = 1000) -> list[Document]:
        return await self._documents.read_all(kind, after, limit)

    async def put_document(self, document: Document) -> Document | None:
        written = await self._documents.put(document)
        self._news.tell()
        return written

    async def drop_document(self, kind: str, id: str, version: int | None = None) -> bool:
        dropped = await self._documents.drop(kind, id, version)
        self._news.tell()
        return dropped

    async def slots(self) -> int:
        return await self._reads.slots()

    async def wait_change(self) -> None:
        await self._news.wait()

    async def check(self) -> list[str]:
        return await copies.find_problems(self._connections)

    async def backup(self, path: str) -> None:
        await asyncio.to_thread(copies.back_up, self._connections.url, self._connections.place, path)

    def together(self, shard: str, other: str) -> bool:
        return True

    def join(self) -> None:
        self._joined = True

    async def notes(self, kind: str, name: str | None = None) -> dict[str, str]:
        return await self._exchanges.notes(kind, name)

    async def parcels(self, limit: int = 500) -> list[Parcel]:
        return await self._exchanges.parcels(limit)

    async def held(self) -> list[str]:
        return await self._moving.held()

    async def freeze_shard(self, shard: str, move: int) -> int:
        return await self._moving.freeze(shard, move)

    async def thaw_shard(self, shard: str, move: int, epoch: int) -> None:
        await self._moving.thaw(shard, move, epoch)
        self._news.tell()

    async def export_shard(self, shard: str, after: Cursor = None, limit: int = 500) -> tuple[ShardRows, Cursor]:
        return await self._moving.export(shard, after, limit)

    async def import_shard(self, shard: str, move: int, rows: ShardRows) -> None:
        await self._moving.import_(shard, move, rows)

    async def drop_shard(self, shard: str, move: int) -> None:
        await self._moving.drop(shard, move)
