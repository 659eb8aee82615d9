"""One node of a test: an open store in a PostgreSQL database, a claimed shard, and short ways to write to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg

from perdure.store.contract import Fence, Lease, NewRun, Signal, Statement, Transaction
from perdure.store.postgres import PostgresStore
from perdure.values.events import Event
from perdure.values.runs import Run, RunStatus

SHARD = "buyer:1"
LEASE_SECONDS = 60.0

Outcome = Exception | list[int] | None


class Node:
    """An open store, and the fence of its shard."""

    def __init__(self, store: PostgresStore, fence: Fence) -> None:
        self.store = store
        self.fence = fence
        self.lease = Lease(*fence)

    async def begin(self, *runs: str) -> None:
        """Runs with their first events."""
        assert await self.store.commit([create(run) for run in runs]) == [None] * len(runs)

    def append(self, run: str, seq: int, **parts: Any) -> Transaction:
        """A transaction with an event of a run."""
        return Transaction(fence=self.fence, events=[event(run, seq)], **parts)

    def execute(self, *sql: str, **parts: Any) -> Transaction:
        """A transaction with a user's SQL."""
        return Transaction(fence=self.fence, statements=[Statement(text) for text in sql], **parts)

    async def seqs(self, run: str) -> list[int]:
        """The numbers of a run's events."""
        return [event.seq for event in await self.store.events(run)]


@asynccontextmanager
async def open_node(url: str, name: str = "node_a", *shards: str) -> AsyncIterator[Node]:
    """A store at `url`, open as long as the block lasts; its node has claimed SHARD, or `shards`."""
    store = PostgresStore(url)
    await store.open()
    try:
        [lease, *_] = await store.claim(name, shards or [SHARD], LEASE_SECONDS)
        yield Node(store, Fence(*lease))
        assert await store.check() == []
    finally:
        await store.close()


@asynccontextmanager
async def open_store(url: str, **options: Any) -> AsyncIterator[PostgresStore]:
    """A store that has claimed nothing."""
    store = PostgresStore(url, **options)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def create(run: str, shard: str = SHARD, **fields: Any) -> Transaction:
    """A new run with its first event."""
    values: dict[str, Any] = {"agent": "buyer", "version": "v1", "session": None, "status": RunStatus.QUEUED} | fields
    return Transaction(create=[NewRun(Run(run, shard=shard, created=1, updated=1, **values), [event(run, 1)])])


def event(run: str, seq: int, raw: str = "{}") -> Event:
    """An event of any kind."""
    return Event(run, seq, "progress", 1, None, None, raw)


def signal(data: str = "{}", run: str | None = None, session: str | None = "s", shard: str = SHARD) -> Signal:
    """Something for a session, or for a run."""
    return Signal("buyer", session, run, "message", data, shard, 1)


def ask_database(url: str, sql: str, *values: Any) -> list[Any]:
    """What the database says beside the store: the first column."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(sql, values)
        return [row[0] for row in cursor.fetchall()] if cursor.description else []


async def until_waiting(url: str, task: asyncio.Task[Any]) -> None:
    """Return when `task`, or somebody, waits for a lock of the database."""
    waits = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    while await asyncio.to_thread(ask_database, url, waits) == [0]:
        assert not task.done(), task
