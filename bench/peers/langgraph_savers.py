"""Where LangGraph keeps its checkpoints: in a SQLite file, or in a PostgreSQL database, with the savers as they come.

Both savers let one call at a time through to their database, so a pool of connections would change nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from measure import file_bytes
from postgres import postgres_version, temporary_postgres
from script import Bench


@contextmanager
def new_store(bench: Bench, name: str = "langgraph") -> Iterator[tuple[str, Callable[[], int]]]:
    """A file's name, or the URL of a new server, and what tells the bytes that it takes on disk."""
    if bench.backend:
        with temporary_postgres(bench.data / name) as server:
            yield server.url, server.disk_bytes
    else:
        directory = bench.data / name
        directory.mkdir()
        yield str(directory / "langgraph.sqlite"), lambda: file_bytes(directory)


@contextmanager
def saver(store: str) -> Iterator[BaseCheckpointSaver[str]]:
    """For a script that runs one thread at a time."""
    if store.startswith("postgresql:"):
        with PostgresSaver.from_conn_string(store) as postgres:
            postgres.setup()
            yield postgres
        return
    with SqliteSaver.from_conn_string(store) as sqlite:  # sets WAL itself, and synchronous=FULL is SQLite's default
        sqlite.setup()
        require_full(sqlite.conn.execute("pragma synchronous").fetchone())
        yield sqlite


@asynccontextmanager
async def async_saver(store: str) -> AsyncIterator[BaseCheckpointSaver[str]]:
    """For many threads at once."""
    if store.startswith("postgresql:"):
        async with AsyncPostgresSaver.from_conn_string(store) as postgres:
            await postgres.setup()
            yield postgres
        return
    async with AsyncSqliteSaver.from_conn_string(store) as sqlite:
        await sqlite.setup()
        async with sqlite.conn.execute("pragma synchronous") as cursor:
            require_full(await cursor.fetchone())
        yield sqlite


async def fold_log_in(checkpointer: BaseCheckpointSaver[str]) -> None:
    """Have SQLite's write-ahead log in the file; PostgreSQL's is not counted."""
    if isinstance(checkpointer, AsyncSqliteSaver):
        await checkpointer.conn.execute("pragma wal_checkpoint(truncate)")


def require_full(row: sqlite3.Row | tuple[int, ...] | None) -> None:
    if row is None or row[0] != 2:
        raise RuntimeError("this build of SQLite does not default to synchronous=FULL: the comparison would be unfair")


def versions(backend: str) -> dict[str, str]:
    return {"postgres": postgres_version()} if backend else {"sqlite": sqlite3.sqlite_version}
