"""How do runs live in plain dicts? For tests, the simulator and throwaway work: as fast as it gets, and gone at exit.

Written on its own, sharing no logic with the other stores: what they are compared with.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any
from weakref import WeakKeyDictionary

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
from perdure.store.memory import moving
from perdure.store.memory.backlog import backlog
from perdure.store.memory.commit import Commit
from perdure.store.memory.data import Data, Journal, Ownership
from perdure.store.memory.documents import Documents
from perdure.store.memory.nodes import Nodes
from perdure.store.memory.queues import queues_of, ready
from perdure.store.memory.quotas import Quotas
from perdure.store.memory.statements import MemorySql
from perdure.values.clock import Clock, SystemClock
from perdure.values.events import Event
from perdure.values.runs import Run, RunStatus


class MemoryStore:
    """A store in this process. Several kernels may share one object, as if they were processes on one file."""

    def __init__(self, *, clock: Clock | None = None, slots: int = 16) -> None:
        self._clock = clock or SystemClock()
        self._slots = slots
        self._data = Data()
        self._dead: set[str] = set()
        self._nodes = Nodes(self._data, self._clock, self._dead)
        self._quotas = Quotas(self._data, self._clock, self._nodes.alive, self._notify)
        self._documents = Documents(self._data, self._clock)
        self._version = 0
        #: what each task that waits for changes has seen: nothing passes it while it is busy in between
        self._seen: WeakKeyDictionary[asyncio.Task[Any], int] = WeakKeyDictionary()
        self._waiting: list[asyncio.Future[None]] = []
        #: the tables of `transaction` tools
        self.sql = MemorySql()

    async def open(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Keeps the data: another kernel may use it, or the next one of a test."""

    async def commit(self, batch: Sequence[Transaction]) -> list[Exception | list[int] | None]:
        outcomes = [Commit(self._data, self.sql).apply(transaction) for transaction in batch]
        self._notify()
        return outcomes

    async def run(self, id: str) -> Run | None:
        journal = self._data.journals.get(id)
        return None if journal is None else journal.run

    async def runs(self, filter: RunFilter) -> list[Run]:
        found: list[Run] = []
        newest = reversed(self._data.journals.values())
        if filter.before is not None:
            bound = self._data.journals.get(filter.before)
            newest = (journal for journal in newest if bound is not None and journal.arrival < bound.arrival)
        for journal in newest:
            if len(found) >= filter.limit:
                break
            if _matches(journal.row, filter):
                found.append(journal.run)
        return found

    async def run_by_key(self, agent: str, idempotency_key: str) -> Run | None:
        journal = self._data.by_key.get((agent, idempotency_key))
        return None if journal is None else journal.run

    async def events(self, run: str, after: int = 0, limit: int | None = None) -> list[Event]:
        journal = self._data.journals.get(run)
        if journal is None:
            return []
        if after >= journal.shared:
            start = after - journal.shared
            return journal.events[start : None if limit is None else start + limit]
        return self._data.events_of(journal)[after : None if limit is None else after + limit]

    async def state(self, agent: str, session: str) -> dict[str, str]:
        return dict(self._data.state.get((agent, session), {}))

    async def session_active(self, agent: str, session: str) -> Run | None:
        journal = self._data.begun.get((agent, session))
        return None if journal is None else journal.run

    async def session_next(self, agent: str, session: str) -> Run | None:
        queued = [journal for journal in self._of(RunStatus.QUEUED) if journal.session == (agent, session)]
        return min(queued, key=_turn).run if queued else None

    async def sessions(
        self, *, agent: str | None = None, after: tuple[str, str] | None = None, limit: int = 100
    ) -> list[SessionRow]:
        newest = {
            journal.session: journal
            for journal in self._data.journals.values()
            if journal.session is not None and agent in {None, journal.row.agent}
        }
        places = sorted(place for place in newest if after is None or place > after)[:limit]
        begun = {place: self._data.begun[place].row.id for place in places if place in self._data.begun}
        return [SessionRow(*place, newest[place].run.updated, begun.get(place)) for place in places]

    async def signals(
        self, shards: Iterable[str], after: Cursor = None, limit: int = 1000
    ) -> tuple[list[Signal], Cursor]:
        wanted, last = set(shards), after if isinstance(after, int) else 0
        found = [signal for signal in self._data.signals.values() if signal.shard in wanted and signal.id > last]
        page = sorted(found, key=_id)[:limit]
        return page, page[-1].id if page else last

    async def run_signals(self, run: str) -> list[Signal]:
        journal = self._data.journals.get(run)
        if journal is None:
            return []
        return sorted((signal for signal in self._data.signals.values() if _reaches(signal, journal)), key=_id)

    async def asks(
        self, *, run: str | None = None, to: str | None = None, status: str | None = "open", limit: int = 1000
    ) -> list[Ask]:
        return [
            ask
            for ask in self._data.asks.values()
            if run in {None, ask.run} and to in {None, ask.to} and status in {None, ask.status}
        ][:limit]

    async def ask(self, id: str) -> Ask | None:
        return self._data.asks.get(id)

    async def queues(self, agent: str, limit: int, *, after: Queue | None = None) -> list[Queue]:
        return queues_of(self._data, agent, limit, after)

    async def ready(
        self, shards: Iterable[str], queues: Mapping[Queue, Cursor], each: int, *, programs: Programs = None
    ) -> list[QueuePage]:
        return ready(self._data, set(shards), queues, each, programs)

    async def active(self, shards: Iterable[str]) -> list[Run]:
        return [journal.run for journal in sorted(self._of(RunStatus.RUNNING, set(shards)), key=_arrival)]

    async def due(self, shards: Iterable[str], until: int, limit: int, *, programs: Programs = None) -> list[Run]:
        due = [(wake_at, journal) for wake_at, journal in self._timers(shards, programs) if wake_at <= until]
        return [journal.run for _, journal in sorted(due, key=lambda pair: (pair[0], pair[1].arrival))[:limit]]

    async def next_due(self, shards: Iterable[str], *, programs: Programs = None) -> int | None:
        return min((wake_at for wake_at, _ in self._timers(shards, programs)), default=None)

    async def backlog(self, now: int) -> list[Backlog]:
        return backlog(self._data, now)

    async def claim(self, node: str, shards: Iterable[str], lease_seconds: float) -> list[Lease]:
        leases = []
        for name in shards:
            ownership = self._data.shards.setdefault(name, Ownership())
            if not self._held(ownership):
                ownership.owner, ownership.expires = node, self._expiry(lease_seconds)
                ownership.epoch += 1
                leases.append(Lease(name, ownership.epoch))
        self._notify()
        return leases

    async def renew(self, node: str, leases: Iterable[Lease], lease_seconds: float) -> list[Lease]:
        kept = [lease for lease in leases if self._is_owner(node, lease)]
        for lease in kept:
            self._data.shards[lease.shard].expires = self._expiry(lease_seconds)
        return kept

    async def release(self, node: str, leases: Iterable[Lease]) -> None:
        for lease in leases:
            if self._is_owner(node, lease):
                self._data.shards[lease.shard] = Ownership(lease.epoch + 1)
        self._notify()

    async def shards(self) -> list[Shard]:
        return [
            Shard(name, ownership.owner, ownership.epoch, ownership.expires, self._held(ownership))
            for name, ownership in sorted(self._data.shards.items())
        ]

    async def beat(self, node: Node, lease_seconds: float) -> list[Node]:
        if self._nodes.beat(node, lease_seconds):
            self._notify()
        self._quotas.drop_full()
        return [other for other in self._nodes.all() if other.alive]

    async def leave(self, node: str) -> None:
        self._nodes.leave(node)
        self._notify()

    async def nodes(self) -> list[Node]:
        return self._nodes.all()

    async def ask_drain(self, node: str) -> None:
        self._nodes.ask_drain(node)
        self._notify()

    async def share(self, node: str, wishes: Sequence[QuotaWish]) -> list[int]:
        return self._quotas.share(node, wishes)

    async def take(self, wishes: Sequence[RateWish]) -> list[Tokens]:
        return self._quotas.take(wishes)

    async def document(self, kind: str, id: str) -> Document | None:
        return self._documents.get(kind, id)

    async def documents(self, kind: str, *, after: str = "", limit: int = 1000) -> list[Document]:
        return self._documents.all(kind, after)[:limit]

    async def put_document(self, document: Document) -> Document | None:
        written = self._documents.put(document)
        self._notify()
        return written

    async def drop_document(self, kind: str, id: str, version: int | None = None) -> bool:
        dropped = self._documents.drop(kind, id, version)
        self._notify()
        return dropped

    async def slots(self) -> int:
        return self._slots

    async def wait_change(self) -> None:
        task = asyncio.current_task()
        seen = self._seen.get(task, self._version) if task is not None else self._version
        while self._version == seen:
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            await waiting
        if task is not None:
            self._seen[task] = self._version

    async def check(self) -> list[str]:
        return [
            f"run {name}: {event.type} at {event.seq} is not its last event"
            for name, journal in self._data.journals.items()
            for event in journal.events[:-1]
            if event.terminal
        ]

    async def backup(self, path: str) -> None:
        raise InvalidSetting(f"memory:// has no file to copy to {path}. Use a sqlite:/// store for what must last.")

    def together(self, shard: str, other: str) -> bool:
        return True

    def join(self) -> None:
        """Nothing to do: no other process can open it alone."""

    async def notes(self, kind: str, name: str | None = None) -> dict[str, str]:
        kept = [note for note in self._data.notes.values() if note.kind == kind and name in {None, note.name}]
        return {note.name: note.value for note in kept if note.value is not None}

    async def parcels(self, limit: int = 500) -> list[Parcel]:
        return list(islice(self._data.parcels.values(), limit))

    async def held(self) -> list[str]:
        return sorted({*self._data.shards, *(journal.row.shard for journal in self._data.journals.values())})

    async def freeze_shard(self, shard: str, move: int) -> int:
        return moving.freeze(self._data, shard, move)

    async def thaw_shard(self, shard: str, move: int, epoch: int) -> None:
        moving.thaw(self._data, shard, move, epoch)
        self._notify()

    async def export_shard(self, shard: str, after: Cursor = None, limit: int = 500) -> tuple[ShardRows, Cursor]:
        return moving.export(self._data, shard, after, limit)

    async def import_shard(self, shard: str, move: int, rows: ShardRows) -> None:
        moving.import_(self._data, shard, move, rows)

    async def drop_shard(self, shard: str, move: int) -> None:
        moving.drop(self._data, shard, move)
        self._notify()

    def bury(self, node: str) -> None:
        """Let it be known that a node's process is dead: others may claim its shards at once."""
        self._dead.add(node)
        self._notify()

    def _notify(self) -> None:
        self._version += 1
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def _of(self, status: RunStatus, shards: Collection[str] | None = None) -> Iterator[Journal]:
        for journal in self._data.by_status[status].values():
            if shards is None or journal.row.shard in shards:
                yield journal

    def _timers(self, shards: Iterable[str], programs: Programs) -> Iterator[tuple[int, Journal]]:
        for journal in self._of(RunStatus.WAITING, set(shards)):
            if journal.row.wake_at is not None and (programs is None or _program(journal) in programs):
                yield journal.row.wake_at, journal

    def _held(self, ownership: Ownership) -> bool:
        return (
            ownership.owner is not None
            and ownership.owner not in self._dead
            and ownership.expires is not None
            and ownership.expires > self._clock.now_us()
        )

    def _is_owner(self, node: str, lease: Lease) -> bool:
        ownership = self._data.shards.get(lease.shard)
        return ownership is not None and (ownership.owner, ownership.epoch) == (node, lease.epoch)

    def _expiry(self, lease_seconds: float) -> int:
        return self._clock.now_us() + round(lease_seconds * 1e6)


def _matches(run: Run, filter: RunFilter) -> bool:
    return (
        filter.agent in {None, run.agent}
        and filter.session in {None, run.session}
        and (not filter.statuses or run.status in filter.statuses)
        and filter.parent in {None, run.parent}
        and (filter.since is None or run.created >= filter.since)
        and (filter.until is None or run.created < filter.until)
        and (filter.suffix is None or run.id.endswith(filter.suffix))
        and (not filter.ids or run.id in filter.ids)
    )


def _reaches(signal: Signal, journal: Journal) -> bool:
    if signal.run is not None:
        return signal.run == journal.row.id
    return journal.session is not None and journal.session == (signal.agent, signal.session)


def _program(journal: Journal) -> tuple[str, str]:
    return journal.row.agent, journal.row.version


def _turn(journal: Journal) -> tuple[int, int]:
    return -journal.row.priority, journal.arrival


def _arrival(journal: Journal) -> int:
    return journal.arrival


def _id(signal: Signal) -> int:
    return signal.id
