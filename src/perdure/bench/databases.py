"""PostgreSQL as a place to measure: each store is a database of its own, on the server of the URL that was given.

The database in that URL is only asked to make others: nothing is written in it. With several URLs a store is one
database on each of them, and what one connection does by itself is measured on the first.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import psycopg
from psycopg import conninfo, sql

from perdure.bench.agents import PAYLOAD
from perdure.errors import InvalidSetting, StoreError

Connection: TypeAlias = "psycopg.Connection[tuple[Any, ...]]"

#: until the statement is prepared, and its table's first pages are there
_UNMEASURED_COMMITS = 100
_INSERT = "insert into step values (1, %s, %s)"
_SETTINGS = ("fsync", "synchronous_commit")


class Databases:
    """Databases named `perdure_bench_...` after the workload's directory, whose name no other has."""

    def __init__(self, store: str, directory: Path) -> None:
        self.directory = directory
        self._servers = split_urls(store)
        self._prefix = f"perdure_bench_{directory.name}_"

    def make_store(self, name: str) -> str:
        urls = []
        for number, server in enumerate(self._servers, 1):
            # The servers may be one and the same.
            database = f"{self._prefix}{name}" if len(self._servers) == 1 else f"{self._prefix}{name}_{number}"
            urls.append(with_database(server, database))
            self._create(server, database)
        return ",".join(urls)

    def stored_bytes(self, store: str) -> int:
        """What its databases hold beyond an empty one; the write-ahead log is not in it."""
        return sum(_database_bytes(url) for url in split_urls(store))

    def commit_times(self, commits: int) -> list[float]:
        """One connection, a prepared statement, everything else as the server has it."""
        times = []
        with self._database("raw") as url, psycopg.connect(url, autocommit=True) as connection:
            connection.execute("create table step (run integer, number integer, result text)")
            for number in range(_UNMEASURED_COMMITS + commits):
                start = time.perf_counter()
                connection.execute(_INSERT, (number, PAYLOAD), prepare=True)
                times.append(time.perf_counter() - start)
        return times[_UNMEASURED_COMMITS:]

    def describe(self) -> dict[str, Any]:
        with _connected(self._servers[0]) as connection:
            return {
                "postgresql": _shown(connection, "server_version").partition(" ")[0],
                "servers": [_place(server) for server in self._servers],
                **{setting: _shown(connection, setting) for setting in _SETTINGS},
            }

    def clear(self) -> None:
        for server in self._servers:
            with _connected(server) as connection:
                rows = connection.execute(
                    "select datname from pg_database where starts_with(datname, %s)", (self._prefix,)
                ).fetchall()
                for [name] in rows:
                    _drop(connection, name)

    @contextmanager
    def _database(self, name: str) -> Iterator[str]:
        server, database = self._servers[0], f"{self._prefix}{name}"
        url = with_database(server, database)
        self._create(server, database)
        try:
            yield url
        finally:
            with _connected(server) as connection:
                _drop(connection, database)

    def _create(self, server: str, database: str) -> None:
        # Not a copy of template1: somebody may be connected to it, or have put something there.
        statement = sql.SQL("create database {} template template0").format(sql.Identifier(database))
        with _connected(server) as connection:
            try:
                connection.execute(statement)
            except psycopg.errors.InsufficientPrivilege:
                role = connection.info.user
                raise StoreError(
                    f"{_place(server)}: {role} may not create databases, and every workload has its own. Name another "
                    f'role in --store, or give it the right: alter role "{role}" createdb'
                ) from None


def split_urls(store: str) -> list[str]:
    """The URLs of a store in several databases."""
    return re.split(r",(?=\w+://)", store)


def with_database(server: str, database: str) -> str:
    """The URL of another database of a server. Raises InvalidSetting if the URL would lead elsewhere."""
    url = urlsplit(server)._replace(path=f"/{database}").geturl()
    try:
        found = conninfo.conninfo_to_dict(url).get("dbname")
    except psycopg.ProgrammingError as error:
        raise InvalidSetting(
            f"--store: this is no PostgreSQL URL ({_first_line(error)}); write postgresql://user@host:5432/database"
        ) from None
    if found != database:
        raise InvalidSetting("--store: the database is named among the URL's options; name it after the host")
    return url


@contextmanager
def _connected(server: str) -> Iterator[Connection]:
    """A connection to the server as it was given. Raises StoreError when there is none to be had."""
    try:
        connection = psycopg.connect(server, autocommit=True, connect_timeout=5, application_name="perdure bench")
    except psycopg.Error as error:
        raise StoreError(
            f"{_place(server)} cannot be reached: {_first_line(error)}. Check --store; its database must exist."
        ) from None
    with connection:
        yield connection


def _drop(connection: Connection, database: str) -> None:
    connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(database)))


def _database_bytes(url: str) -> int:
    with psycopg.connect(url, autocommit=True) as connection:
        with suppress(psycopg.errors.InsufficientPrivilege):
            connection.execute("checkpoint")
        row = connection.execute(
            "select pg_database_size(current_database()) - pg_database_size('template0')"
        ).fetchone()
    assert row is not None
    return int(row[0])


def _shown(connection: Connection, setting: str) -> str:
    row = connection.execute("select current_setting(%s)", (setting,)).fetchone()
    assert row is not None
    return str(row[0])


def _place(server: str) -> str:
    """The server for people: no user, no password."""
    given = conninfo.conninfo_to_dict(server)
    return f"postgresql://{given.get('host', 'localhost')}:{given.get('port', 5432)}"


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
