"""Is there a Perdure schema of our version in this database? Makes it, or brings it up to date; refuses a newer one.

Several nodes may begin at once: whoever has the lock on the table of versions migrates, the others find it done. A
migration leaves what older nodes use as it is, so that old and new ones work together while a cluster is upgraded.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import psycopg

from perdure.errors import StoreCorrupt, StoreError, StoreNewer, StoreReadOnly
from perdure.store.postgres.connections import Connection, Connections
from perdure.store.queries import load_migrations

#: 14 is the oldest that its makers still mend.
_SERVER_LEAST = 140_000
#: No such table, no such column.
_UNDEFINED = frozenset({"42P01", "42703"})


async def prepare(connections: Connections, slots: int) -> None:
    """Make the schema usable. Raises StoreNewer, StoreCorrupt, StoreReadOnly, StoreError."""
    newest = load_migrations("postgres")[-1][0]
    version = await _version(connections)
    if version < newest:
        try:
            if version == 0:
                await connections.use(_make_schema)
            # However long it takes: tables may be large.
            await connections.transact(lambda connection: _migrate(connection, slots), seconds=None)
        except StoreReadOnly as error:
            raise StoreReadOnly(
                f"{connections.place}: the store has version {version}, this Perdure needs {newest}, and this role may "
                f"not change it. Run `perdure db migrate` once as the owner of the schema, who may create it."
            ) from error
    version = await _version(connections)
    if version > newest:
        raise StoreNewer(
            f"{connections.place}: the store has version {version}, this Perdure knows {newest}. "
            f"Upgrade it with `pip install --upgrade perdure`; nothing was changed."
        )


async def _version(connections: Connections) -> int:
    version = await connections.use(_read_version)
    if version is None:
        raise StoreCorrupt(
            f"{connections.place}: its schema `perdure` is not of Perdure's making, or was damaged. Use another database."
        )
    return version


async def _read_version(connection: Connection) -> int | None:
    """Of the schema that is there; 0 where there is none yet, None where it is somebody else's."""
    if connection.info.server_version < _SERVER_LEAST:
        raise StoreError(f"this is PostgreSQL {connection.info.server_version // 10_000}; Perdure needs 14 or newer")
    # First: whoever makes the schema just now makes the table of versions before all others.
    cursor = await connection.execute(
        "select count(*) from pg_class join pg_namespace as space on space.oid = relnamespace where nspname = 'perdure'"
    )
    [[tables]] = await cursor.fetchall()
    if tables == 0:
        return 0
    try:
        cursor = await connection.execute("select value from perdure.meta where name = 'version'")
    except psycopg.Error as error:
        if error.sqlstate in _UNDEFINED:
            return None
        raise
    row: Any = await cursor.fetchone()
    return int(row[0]) if row is not None and str(row[0]).isdecimal() else None


async def _make_schema(connection: Connection) -> None:
    # Two that do this at once collide on the catalogue's own indexes, also with "if not exists". And "create schema" asks
    # for the right to do so where there is nothing to do: an owner of the schema need not have it.
    cursor = await connection.execute("select from pg_namespace where nspname = 'perdure'")
    if await cursor.fetchone() is None:
        with suppress(psycopg.errors.UniqueViolation, psycopg.errors.DuplicateSchema):
            await connection.execute("create schema perdure")
    with suppress(psycopg.errors.UniqueViolation, psycopg.errors.DuplicateTable, psycopg.errors.DuplicateObject):
        await connection.execute(
            "create table if not exists perdure.meta (name text primary key, value text not null);"
            "insert into perdure.meta (name, value) values ('version', '0') on conflict do nothing"
        )


async def _migrate(connection: Connection, slots: int) -> None:
    await connection.execute("lock table perdure.meta in access exclusive mode")
    for version, script in load_migrations("postgres"):
        if (await _read_version(connection) or 0) < version:
            await connection.execute(script.encode())
            await connection.execute(
                "insert into perdure.meta (name, value) values ('slots', %s) on conflict do nothing", (str(slots),)
            )
            await connection.execute("update perdure.meta set value = %s where name = 'version'", (str(version),))
