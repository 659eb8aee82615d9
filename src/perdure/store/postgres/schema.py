"""Is there a Perdure schema of our version in this database? Makes it, or brings it up to date; refuses a newer one.

Several nodes may begin at once: whoever has the lock on the table of versions migrates, the others find it done. A
migration leaves what older nodes use as it is, so that old and new ones work together while a cluster is upgraded.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import psycopg

from perdure.errors import StoreCorrupt, StoreError, StoreNewer
from perdure.store.postgres.connections import Connection, Connections
from perdure.store.queries import load_migrations

#: 14 is the oldest that its makers still mend.
_SERVER_LEAST = 140_000
_UNDEFINED = frozenset({"3F000", "42P01"})


async def prepare(connections: Connections, slots: int) -> None:
    """Make the schema usable. Raises StoreNewer, StoreCorrupt, StoreError."""
    newest = load_migrations("postgres")[-1][0]
    version = await connections.use(_read_version)
    if version == 0:
        await connections.use(_make_schema)
    if version < newest:
        await connections.transact(lambda connection: _migrate(connection, slots, connections.place))
    version = await connections.use(_read_version)
    if version > newest:
        raise StoreNewer(
            f"{connections.place}: the store has version {version}, this Perdure knows {newest}. "
            f"Upgrade it with `pip install --upgrade perdure`; nothing was changed."
        )


async def _read_version(connection: Connection) -> int:
    if connection.info.server_version < _SERVER_LEAST:
        raise StoreError(f"this is PostgreSQL {connection.info.server_version // 10_000}; Perdure needs 14 or newer")
    try:
        cursor = await connection.execute("select value from perdure.meta where name = 'version'")
    except psycopg.Error as error:
        if error.sqlstate in _UNDEFINED:
            return 0
        raise
    row: Any = await cursor.fetchone()
    if row is None or not str(row[0]).isdigit():
        raise StoreCorrupt("the schema `perdure` is not of Perdure's making, or was damaged: use another database")
    return int(row[0])


async def _make_schema(connection: Connection) -> None:
    # Two that do this at once collide on the catalogue's own indexes, also with "if not exists".
    for statement in (
        "create schema if not exists perdure",
        "create table if not exists perdure.meta (name text primary key, value text not null)",
        "insert into perdure.meta (name, value) values ('version', '0') on conflict do nothing",
    ):
        with suppress(psycopg.errors.UniqueViolation, psycopg.errors.DuplicateTable):
            await connection.execute(statement)


async def _migrate(connection: Connection, slots: int, place: str) -> None:
    await connection.execute("lock table perdure.meta in access exclusive mode")
    for version, script in load_migrations("postgres"):
        if await _read_version(connection) < version:
            await connection.execute(script.encode())
            await connection.execute(
                "insert into perdure.meta (name, value) values ('slots', %s) on conflict do nothing", (str(slots),)
            )
            await connection.execute("update perdure.meta set value = %s where name = 'version'", (str(version),))
