"""How do runs live in one SQLite file? The store's public face: what each call *is* stands in the files beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from perdure.errors import InvalidSetting
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
from perdure.store.sqlite import reads
from perdure.store.sqlite.commit import Committer, Outcome
from perdure.store.sqlite.copies import back_up, find_problems
from perdure.store.sqlite.database import Database
from perdure.store.sqlite.documents import Documents
from perdure.store.sqlite.exchange import read_notes, read_parcels, refuse_part
from perdure.store.sqlite.journals import Journals
from perdure.store.sqlite.leases import Leases
from perdure.store.sqlite.moving import Moving
from perdure.store.sqlite.node_locks import NodeLocks
from perdure.store.sqlite.nodes import Nodes
from perdure.store.sqlite.quotas import Quotas
from perdure.values.clock import Clock, SystemClock
from perdure.values.events import Event
from perdure.values.runs import Run

#: How often another process's commits are looked for: each look wakes the processor; this keeps an idle one below
#: 0.5 % of a core, and a worker's answer to another terminal below 100 ms.
_LOOK_SECONDS = 0.07


class SqliteStore:
    """A store in the SQLite file at `path`; any number of processes of one machine may share the file.

    One object serves one kernel. `slots` counts only when the file is made. `vfs` names a SQLite VFS.
    """

    def __init__(self, path: str, *, clock: Clock | None = None, slots: int = 16, vfs: str | None = None) -> None:
        self._path = path
        self._vfs = vfs
        self._clock = clock or SystemClock()
        self._database = Database(path, self._clock, slots=slots, vfs=vfs)
        self._locks = NodeLocks(path)
        self._journals: Journals
        self._committer: Committer
        self._leases: Leases
        self._nodes: Nodes
        self._quotas: Quotas
        self._documents: Documents
        self._moving: Moving
        self._changes_seen = 0
        self._working = False
        self._joined = False

    async def open(self) -> None:
        writer = self._database.open()
        self._journals = Journals(writer)
        self._committer = Committer(writer, self._journals)
        self._leases = Leases(writer, self._clock, self._locks)
        self._nodes = Nodes(writer, self._clock, self._locks)
        self._quotas = Quotas(writer, self._clock, self._nodes)
        self._documents = Documents(writer, self._clock)
        self._moving = Moving(writer, self._journals)
        self._changes_seen = self._database.changes()
        if not self._joined:
            try:
                self._database.read(refuse_part, self._path)
            except InvalidSetting:
                await self.close()
                raise

    async def close(self) -> None:
        await self._database.close()
        self._locks.drop()

    async def commit(self, batch: Sequence[Transaction]) -> list[Outcome]:
        return await self._database.write(lambda: self._committer.commit(batch))

    async def run(self, id: str) -> Run | None:
        return self._database.read(reads.run, id)

    async def runs(self, filter: RunFilter) -> list[Run]:
        return self._database.read(reads.runs, filter)

    async def run_by_key(self, agent: str, idempotency_key: str) -> Run | None:
        return self._database.read(reads.run_by_key, agent, idempotency_key)

    async def events(self, run: str, after: int = 0, limit: int | None = None) -> list[Event]:
        return self._database.read(self._journals.read, run, after, limit)

    async def state(self, agent: str, session: str) -> dict[str, str]:
        return self._database.read(reads.state, agent, session)

    async def session_active(self, agent: str, session: str) -> Run | None:
        return self._database.read(reads.session_active, agent, session)

    async def session_next(self, agent: str, session: str) -> Run | None:
        return self._database.read(reads.session_next, agent, session)

    async def sessions(
        self, *, agent: str | None = None, after: tuple[str, str] | None = None, limit: int = 100
    ) -> list[SessionRow]:
        return self._database.read(reads.sessions, agent, after, limit)

    async def signals(
        self, shards: Iterable[str], after: Cursor = None, limit: int = 1000
    ) -> tuple[list[Signal], Cursor]:
        return self._database.read(reads.signals, shards, after, limit)

    async def run_signals(self, run: str) -> list[Signal]:
        return self._database.read(reads.run_signals, run)

    async def asks(
        self, *, run: str | None = None, to: str | None = None, status: str | None = "open", limit: int = 1000
    ) -> list[Ask]:
        return self._database.read(reads.asks, run, to, status, limit)

    async def ask(self, id: str) -> Ask | None:
        return self._database.read(reads.ask, id)

    async def queues(self, agent: str, limit: int, *, after: Queue | None = None) -> list[Queue]:
        return self._database.read(reads.queues, agent, limit, after)

    async def ready(
        self, shards: Iterable[str], queues: Mapping[Queue, Cursor], each: int, *, programs: Programs = None
    ) -> list[QueuePage]:
        return self._database.read(reads.ready, shards, queues, each, programs)

    async def active(self, shards: Iterable[str]) -> list[Run]:
        return self._database.read(reads.active, shards)

    async def due(self, shards: Iterable[str], until: int, limit: int, *, programs: Programs = None) -> list[Run]:
        return self._database.read(reads.due, shards, until, limit, programs)

    async def next_due(self, shards: Iterable[str], *, programs: Programs = None) -> int | None:
        return self._database.read(reads.next_due, shards, programs)

    async def backlog(self, now: int) -> list[Backlog]:
        return self._database.read(reads.backlog, now)

    async def claim(self, node: str, shards: Iterable[str], lease_seconds: float) -> list[Lease]:
        leases = await self._database.write(lambda: self._leases.claim(node, shards, lease_seconds))
        if leases and not self._working:
            # From now on this process commits often.
            self._working = True
            await self._database.write(self._database.log.make_room)
        return leases

    async def renew(self, node: str, leases: Iterable[Lease], lease_seconds: float) -> list[Lease]:
        return await self._database.write(lambda: self._leases.renew(node, leases, lease_seconds))

    async def release(self, node: str, leases: Iterable[Lease]) -> None:
        await self._database.write(lambda: self._leases.release(node, leases))

    async def shards(self) -> list[Shard]:
        return await self._database.write(self._leases.shards)

    async def beat(self, node: Node, lease_seconds: float) -> list[Node]:
        return await self._database.write(lambda: self._nodes.beat(node, lease_seconds))

    async def leave(self, node: str) -> None:
        await self._database.write(lambda: self._nodes.leave(node))

    async def nodes(self) -> list[Node]:
        return await self._database.write(self._nodes.all)

    async def ask_drain(self, node: str) -> None:
        await self._database.write(lambda: self._nodes.ask_drain(node))

    async def share(self, node: str, wishes: Sequence[QuotaWish]) -> list[int]:
        return await self._database.write(lambda: self._quotas.share(node, wishes))

    async def take(self, wishes: Sequence[RateWish]) -> list[Tokens]:
        return await self._database.write(lambda: self._quotas.take(wishes))

    async def document(self, kind: str, id: str) -> Document | None:
        return self._database.read(self._documents.read, kind, id)

    async def documents(self, kind: str, *, after: str = "", limit: int = 1000) -> list[Document]:
        return self._database.read(self._documents.read_all, kind, after, limit)

    async def put_document(self, document: Document) -> Document | None:
        return await self._database.write(lambda: self._documents.put(document))

    async def drop_document(self, kind: str, id: str, version: int | None = None) -> bool:
        return await self._database.write(lambda: self._documents.drop(kind, id, version))

    async def slots(self) -> int:
        return self._database.read(reads.slots)

    async def wait_change(self) -> None:
        # Bare timers, not a loop around `sleep`: looking is all that an idle node does, and this makes it a third cheaper.
        loop = asyncio.get_running_loop()
        changed: asyncio.Future[None] = loop.create_future()
        timer: asyncio.TimerHandle | None = None

        def look() -> None:
            nonlocal timer
            try:
                changes = self._database.changes()
            except Exception as error:  # noqa: BLE001 - it is the caller's
                changed.set_exception(error)
                return
            if changes == self._changes_seen:
                timer = loop.call_later(_LOOK_SECONDS, look)
            else:
                self._changes_seen = changes
                changed.set_result(None)

        look()
        try:
            await changed
        finally:
            if timer is not None:
                timer.cancel()

    async def check(self) -> list[str]:
        return await asyncio.to_thread(find_problems, self._path, self._vfs)

    async def backup(self, path: str) -> None:
        await asyncio.to_thread(back_up, self._path, path, self._vfs)

    def together(self, shard: str, other: str) -> bool:
        return True

    def join(self) -> None:
        self._joined = True

    async def notes(self, kind: str, name: str | None = None) -> dict[str, str]:
        return self._database.read(read_notes, kind, name)

    async def parcels(self, limit: int = 500) -> list[Parcel]:
        return self._database.read(read_parcels, limit)

    async def held(self) -> list[str]:
        return self._database.read(self._moving.held)

    async def freeze_shard(self, shard: str, move: int) -> int:
        return await self._database.write(lambda: self._moving.freeze(shard, move))

    async def thaw_shard(self, shard: str, move: int, epoch: int) -> None:
        await self._database.write(lambda: self._moving.thaw(shard, move, epoch))

    async def export_shard(self, shard: str, after: Cursor = None, limit: int = 500) -> tuple[ShardRows, Cursor]:
        return self._database.read(self._moving.export, shard, after, limit)

    async def import_shard(self, shard: str, move: int, rows: ShardRows) -> None:
        await self._database.write(lambda: self._moving.import_(shard, move, rows))

    async def drop_shard(self, shard: str, move: int) -> None:
        await self._database.write(lambda: self._moving.drop(shard, move))
