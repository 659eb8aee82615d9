"""A PostgreSQL for whatever test asks for one: one server to a process of pytest, an empty store to each test.

tests/conftest.py imports the fixtures. The server syncs nothing to disk: these tests are about what the store says, not
about what a power cut leaves. Those that are, and benchmarks, start a `PostgresServer` of their own, where fsync is on.

Databases are swept and used again: to make one takes 18 to 135 ms, as the build goes, to make Perdure's schema in it and
drop it 140 ms of the server, to empty its tables 10. A schema that a test has changed in any way is dropped.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import LiteralString, NoReturn

import psycopg
import pytest

from perdure.errors import NotFound
from perdure.store.postgres import PostgresStore
from perdure.testing.servers.pgbouncer import PgBouncer
from perdure.testing.servers.postgres import PostgresServer

UNSYNCED = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}

#: Whoever is still connected leaves; what `transaction` tools made goes, and every schema but Perdure's.
SWEEP = """
do $$
declare name text;
begin
  perform pg_terminate_backend(pid, 5000) from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend';
  for name in select nspname from pg_namespace
    where nspname !~ '^pg_' and nspname not in ('information_schema', 'perdure') and (nspname <> 'public' or exists (
      select from pg_depend where refclassid = 'pg_namespace'::regclass and refobjid = pg_namespace.oid))
  loop
    execute format('drop schema %I cascade', name);
  end loop;
  create schema if not exists public;
end $$
"""

#: All that makes Perdure's schema what it is, but for its rows. Null where there is none.
SHAPE = """
select md5(string_agg(part, ';' order by part)) from (
  select concat_ws(' ', nspowner, nspacl) as part from pg_namespace where nspname = 'perdure'
  union all
  select concat_ws(' ', relname, relkind, relowner, relacl, reloptions, relpersistence, relhastriggers, relhasrules,
    relrowsecurity) from pg_class where relnamespace = to_regnamespace('perdure')
  union all
  select concat_ws(' ', relname, attname, format_type(atttypid, atttypmod), attnotnull, attisdropped, attcollation,
    pg_get_expr(adbin, adrelid))
    from pg_class join pg_attribute on attrelid = pg_class.oid left join pg_attrdef on adrelid = attrelid and adnum = attnum
    where relnamespace = to_regnamespace('perdure')
  union all
  select pg_get_indexdef(indexrelid) || indisvalid from pg_class join pg_index on indexrelid = pg_class.oid
    where relnamespace = to_regnamespace('perdure')
  union all
  select concat_ws(' ', conname, pg_get_constraintdef(oid)) from pg_constraint
    where connamespace = to_regnamespace('perdure')
  union all
  select concat_ws(' ', pg_get_functiondef(oid), proowner, proacl) from pg_proc
    where pronamespace = to_regnamespace('perdure')
) as parts
"""

#: Read by whoever opens a store: its version, and how many shards an agent has.
META = "select name, value from perdure.meta order by name"

#: Small tables are emptied row by row, which is quicker, large ones at once, so that no dead rows gather.
EMPTY = """
do $$
declare part record;
begin
  for part in select oid, relname, relkind from pg_class
    where relnamespace = 'perdure'::regnamespace and relkind in ('r', 'S') and relname <> 'meta'
  loop
    if part.relkind = 'S' then
      perform setval(part.oid, 1, false);
    elsif pg_table_size(part.oid) > 500000 then
      execute format('truncate perdure.%I cascade', part.relname);
    else
      execute format('delete from perdure.%I', part.relname);
    end if;
  end loop;
end $$
"""


class Databases:
    """Databases of one server, named `name` and a number: taken by one test at a time, then swept for the next."""

    def __init__(self, server: PostgresServer, name: str = "test") -> None:
        self._server = server
        self._name = name
        self._numbers = count(1)
        self._bare: list[str] = []
        self._ready: list[str] = []
        self._template = f"{name}_template"
        url = server.create_database(self._template)
        asyncio.run(_make_schema(url))
        with psycopg.connect(url, autocommit=True) as connection:
            self._made = _ask(connection, SHAPE), _ask(connection, META)

    @contextmanager
    def lend(self) -> Iterator[Callable[..., str]]:
        """Gives what makes empty databases: each call the URL of another, `bare` ones without Perdure's schema."""
        taken: list[str] = []

        def take(*, bare: bool = False) -> str:
            swept = self._bare if bare else self._ready
            taken.append(swept.pop() if swept else self._create("template1" if bare else self._template))
            return taken[-1]

        yield take
        for url in taken:
            self._sweep(url)

    def _create(self, template: str) -> str:
        return self._server.create_database(f"{self._name}_{next(self._numbers)}", template)

    def _sweep(self, url: str) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(SWEEP)
            if self._is_as_made(connection):
                connection.execute(EMPTY)
                self._ready.append(url)
            else:
                connection.execute("drop schema if exists perdure cascade")
                self._bare.append(url)

    def _is_as_made(self, connection: psycopg.Connection) -> bool:
        return _ask(connection, SHAPE) == self._made[0] and _ask(connection, META) == self._made[1]


async def _make_schema(url: str) -> None:
    store = PostgresStore(url)
    await store.open()
    await store.close()


def _ask(connection: psycopg.Connection, question: LiteralString) -> list[tuple[object, ...]]:
    return connection.execute(question).fetchall()


_server = pytest.StashKey[PostgresServer]()
_databases = pytest.StashKey[Databases]()


@pytest.fixture(scope="session")
def postgres_server(pytestconfig: pytest.Config) -> PostgresServer:
    """The one server of this process, however many conftests import this; started when first asked for."""
    if _server not in pytestconfig.stash:
        server = _new_server()
        pytestconfig.add_cleanup(server.close)
        server.start()
        pytestconfig.stash[_server] = server
    return pytestconfig.stash[_server]


@pytest.fixture
def postgres_databases(postgres_server: PostgresServer, pytestconfig: pytest.Config) -> Iterator[Callable[..., str]]:
    """Makes empty databases: each call gives the URL of another; with `bare=True`, one without Perdure's schema."""
    if _databases not in pytestconfig.stash:
        pytestconfig.stash[_databases] = Databases(postgres_server)
    with pytestconfig.stash[_databases].lend() as take:
        yield take


@pytest.fixture
def postgres_url(postgres_databases: Callable[..., str]) -> str:
    """An empty database, of nobody else's while the test runs."""
    return postgres_databases()


@pytest.fixture
def bare_postgres_url(postgres_databases: Callable[..., str]) -> str:
    """One in which not even Perdure's schema is."""
    return postgres_databases(bare=True)


@pytest.fixture
def pooler(postgres_server: PostgresServer) -> Iterator[PgBouncer]:
    """A PgBouncer in transaction mode before the shared server, with two connections to a database."""
    try:
        pooler = PgBouncer(postgres_server, settings={"default_pool_size": "2"})
    except NotFound as missing:
        _do_without(missing)
    with pooler:
        yield pooler


def _new_server() -> PostgresServer:
    try:
        return PostgresServer(settings=UNSYNCED)
    except NotFound as missing:
        _do_without(missing)


def _do_without(missing: NotFound) -> NoReturn:
    if os.environ.get("CI", "").lower() not in {"", "0", "false"}:
        pytest.fail(f"this is never skipped where CI is set: {missing}")
    pytest.skip(str(missing))
