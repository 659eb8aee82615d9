"""A PostgreSQL for whatever test asks for one: one server to a process of pytest, an empty database to each test.

tests/conftest.py imports the fixtures. The server syncs nothing to disk: these tests are about what the store says, not
about what a power cut leaves. Those that are, and benchmarks, start a `PostgresServer` of their own, where fsync is on.

Databases are swept and used again, in 8 ms: `create database` and `drop database` take 18 to 135 ms, as the build goes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import count
from typing import NoReturn

import psycopg
import pytest

from perdure.errors import NotFound
from perdure.testing.servers.pgbouncer import PgBouncer
from perdure.testing.servers.postgres import PostgresServer

UNSYNCED = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}

#: Whoever is still connected leaves, and every schema goes: Perdure's own and what `transaction` tools made.
SWEEP = """
do $$
declare name text;
begin
  perform pg_terminate_backend(pid, 5000) from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend';
  for name in select nspname from pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema' loop
    execute format('drop schema %I cascade', name);
  end loop;
  create schema public;
end $$
"""

_server = pytest.StashKey[PostgresServer]()
_swept = pytest.StashKey[list[str]]()
_numbers = count(1)


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
def postgres_databases(postgres_server: PostgresServer, pytestconfig: pytest.Config) -> Iterator[Callable[[], str]]:
    """Makes empty databases: each call gives the URL of another."""
    swept = pytestconfig.stash.setdefault(_swept, [])
    taken: list[str] = []

    def take() -> str:
        taken.append(swept.pop() if swept else postgres_server.create_database(f"test_{next(_numbers)}"))
        return taken[-1]

    yield take
    for url in taken:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(SWEEP)
        swept.append(url)


@pytest.fixture
def postgres_url(postgres_databases: Callable[[], str]) -> str:
    """An empty database, of nobody else's while the test runs."""
    return postgres_databases()


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
