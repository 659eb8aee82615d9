"""What does a PostgreSQL server say about itself and about our schema, without our changing anything?"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import psycopg

from perdure.store.postgres.connections import Connection, Connections
from perdure.store.queries import load_migrations, load_queries

_SQL = load_queries("postgres", "facts")
_LOOKS = 20


class ServerFacts(NamedTuple):
    """What a server says."""

    #: the database, as people may see it
    place: str
    version: str
    #: name -> value, of the settings that decide what survives a crash
    settings: dict[str, str]
    #: connections that there may be, and that there are
    connections_most: int
    connections: int
    #: a pooler stands between
    pooled: bool
    #: half of what asks it something takes less (seconds)
    round_trip_seconds: float
    #: how far its clock is ahead of ours (seconds)
    ahead_seconds: float
    role: str
    superuser: bool
    #: may make a schema in this database
    creates: bool
    #: what is in the schema `perdure`: nothing, ours, somebody else's, or what the role may not read
    state: str
    #: version of our schema
    schema: int
    schema_newest: int
    #: what the role lacks of what a worker needs: `select on perdure.runs`, ...
    lacking: list[str]
    #: bytes of our tables
    size: int


async def read_facts(url: str) -> ServerFacts:
    """Look at the database at `url`. Raises StoreError when it cannot be reached."""
    connections = Connections(url, 1)
    await connections.open()
    try:
        return await connections.use(lambda connection: _look(connections, connection))
    finally:
        await connections.close()


async def read_schema(url: str) -> tuple[str, int]:
    """Only what is in the schema `perdure` at `url` (`ServerFacts.state`), and its version. Raises StoreError."""
    connections = Connections(url, 1)
    await connections.open()
    try:
        return await connections.use(_schema)
    finally:
        await connections.close()


async def _look(connections: Connections, connection: Connection) -> ServerFacts:
    state, schema = await _schema(connection)
    version, most, many, role, superuser, creates, size = await _row(connection, "server")
    cursor = await connection.execute(_SQL["settings"])
    settings: dict[str, str] = dict(await cursor.fetchall())
    cursor = await connection.execute(_SQL["lacking"])
    lacking = [str(right) for (right,) in await cursor.fetchall()]
    trips = sorted([await _trip(connection) for _ in range(_LOOKS)])
    # The quickest answer is the one that tells the time best.
    round_trip, ahead = trips[_LOOKS // 2][0], trips[0][1]
    return ServerFacts(
        connections.place, version, settings, most, many, connections.pooled, round_trip, ahead, role, superuser, creates,
        state, schema, load_migrations("postgres")[-1][0], lacking if state == "ours" else [], size,
    )  # fmt: skip


async def _schema(connection: Connection) -> tuple[str, int]:
    [tables] = await _row(connection, "tables")
    if not tables:
        return "nothing", 0
    try:
        [version] = await _row(connection, "schema")
    except psycopg.errors.InsufficientPrivilege:
        return "unreadable", 0
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
        return "foreign", 0
    return ("ours", int(version)) if str(version).isdecimal() else ("foreign", 0)


async def _trip(connection: Connection) -> tuple[float, float]:
    """How long a question took, and how far ahead the answer's clock was in its middle."""
    began, at = time.perf_counter(), time.time()
    [theirs] = await _row(connection, "clock")
    took = time.perf_counter() - began
    return took, float(theirs) - (at + took / 2)


async def _row(connection: Connection, query: str) -> tuple[Any, ...]:
    row = await (await connection.execute(_SQL[query])).fetchone()
    return row if row is not None else (0,)
