"""A pooler in transaction mode, before the server that tests share."""

from __future__ import annotations

import psycopg
import pytest

from perdure.errors import StoreError
from perdure.testing.servers.pgbouncer import PgBouncer


@pytest.fixture
def database(postgres_url):
    return postgres_url.rpartition("/")[2]


def connect(url):
    return psycopg.connect(url, autocommit=True)


def backend(connection):
    return connection.execute("select pg_backend_pid()").fetchone()[0]


def test_a_transaction_has_whichever_server_is_free(pooler, database):
    """Many clients share two servers: that is transaction mode."""
    with connect(pooler.url(database)) as first, connect(pooler.url(database)) as second:
        with first.transaction():
            held = backend(first)
            assert backend(second) != held
        assert backend(second) in {held, backend(first)}


def test_the_pooler_tells_about_itself(pooler):
    """Its console is a database of its own."""
    with connect(pooler.url("pgbouncer")) as console:
        assert "PgBouncer" in console.execute("show version").fetchone()[0]


def test_what_belongs_to_a_session_does_not_stay(pooler, database):
    """The very thing a store must not rely on: a session's settings are met by somebody else."""
    with connect(pooler.url(database)) as first, connect(pooler.url(database)) as second:
        first.execute("set statement_timeout = '77s'")
        assert second.execute("show statement_timeout").fetchone() == ("77s",)


def test_a_killed_pooler_starts_again_at_its_address(pooler, database):
    """Its clients lose their connections and find it again."""
    with connect(pooler.url(database)) as connection:
        pooler.kill()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select 1")
    pooler.start()
    with connect(pooler.url(database)) as connection:
        assert connection.execute("select 7").fetchone() == (7,)


def test_a_pooler_that_cannot_start_says_why(postgres_server, pooler):
    """With what PgBouncer said; another one is not concerned."""
    with pytest.raises(StoreError, match="pool_mode"), PgBouncer(postgres_server, settings={"pool_mode": "none"}):
        pass
