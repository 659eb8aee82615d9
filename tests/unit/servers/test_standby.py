"""A standby takes over, and nothing that was acknowledged is lost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from perdure.testing.servers.postgres import PostgresServer
from perdure.testing.servers.standby import Standby

pytestmark = pytest.mark.slow

ROWS = 50
SHORT_SECONDS = 0.2


@pytest.fixture
def primary():
    with PostgresServer() as primary:
        yield primary


@pytest.fixture
def standby(primary):
    with Standby(primary) as standby:
        yield standby


def connect(server):
    return psycopg.connect(server.url(), autocommit=True)


def test_acknowledged_rows_survive_the_loss_of_the_primary(primary, standby):
    """SIGKILL right after the last acknowledgement; the standby has every row and takes more."""
    standby.make_synchronous()
    with connect(primary) as connection:
        connection.execute("create table kept(number int)")
        for number in range(ROWS):
            connection.execute("insert into kept values (%s)", [number])
        primary.kill()
    standby.promote()
    with connect(standby) as connection:
        assert connection.execute("select count(*) from kept").fetchone() == (ROWS,)
        connection.execute("insert into kept values (-1)")


WAITING = """
select pid, pg_sleep(0.01) from pg_stat_activity where wait_event = 'SyncRep'
"""


def test_a_synchronous_primary_waits_for_its_standby(primary, standby):
    """While the standby is down nothing is acknowledged; `statement_timeout` does not end the wait, a cancellation does."""
    standby.make_synchronous()
    standby.stop("immediate")
    notices = []
    with connect(primary) as connection, connect(primary) as observer, ThreadPoolExecutor(1) as pool:
        connection.add_notice_handler(lambda notice: notices.append(notice.message_primary))
        connection.execute("set statement_timeout = '50ms'")
        commit = pool.submit(connection.execute, "create table alone()")
        while not (waiting := observer.execute(WAITING).fetchone()):
            assert not commit.done(), "acknowledged without the standby"
        with pytest.raises(TimeoutError):
            commit.result(SHORT_SECONDS)
        observer.execute("select pg_cancel_backend(%s)", [waiting[0]])
        commit.result()
    assert any("synchronous replication" in notice for notice in notices)


def test_a_promoted_standby_of_a_synchronous_primary_commits_alone(primary, standby):
    """It does not inherit whom the primary waited for; and it knows its own name, unlike its sibling's."""
    standby.make_synchronous()
    with Standby(primary, name="second") as second:
        second.make_synchronous()
        primary.kill()
        second.promote()
        with connect(second) as connection:
            connection.execute("set statement_timeout = '5s'")
            connection.execute("create table alone()")
            assert connection.execute("show synchronous_standby_names").fetchone() == ("",)


def test_a_standby_refuses_writes_until_it_is_promoted(standby):
    """It only reads along."""
    with connect(standby) as connection, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        connection.execute("create table refused()")


def test_a_standby_that_comes_back_follows_again(primary, standby):
    """What was committed in its absence arrives."""
    standby.stop()
    with connect(primary) as connection:
        connection.execute("create table meanwhile()")
    standby.start()
    standby.make_synchronous()
    with connect(primary) as connection:
        connection.execute("set synchronous_commit = remote_apply; create table later()")
    with connect(standby) as connection:
        assert connection.execute("select to_regclass('meanwhile')::text").fetchone() == ("meanwhile",)
