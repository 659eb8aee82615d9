"""A proxy that breaks connections to order, before a real PostgreSQL."""

from __future__ import annotations

import asyncio
import select
import socket
import time
from contextlib import closing

import psycopg
import pytest

from perdure.errors import InvalidSetting
from perdure.testing.servers.proxy import FaultProxy

SHORT_SECONDS = 0.2
PREPARE = """
create table kept(number int);
create function perdure_commit(n int) returns int language sql as 'insert into kept values (n) returning number'
"""


@pytest.fixture
def proxy(postgres_server):
    with FaultProxy("127.0.0.1", postgres_server.port, marker=b"perdure_commit") as proxy:
        yield proxy


@pytest.fixture
def url(postgres_url, proxy):
    """A database with a commit function, seen through the proxy."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(PREPARE)
    return proxy.url(postgres_url)


@pytest.fixture
def kept(postgres_url, url):
    """What the database holds, asked without the proxy, in order."""

    def ask():
        with psycopg.connect(postgres_url) as connection:
            return [number for (number,) in connection.execute("select number from kept order by number")]

    return ask


def connect(url):
    """A connection that is only closed at the end of the block: its own `with` would commit, on a broken line, too."""
    return closing(psycopg.connect(url, autocommit=True))


def commit(connection, number):
    return connection.execute("select perdure_commit(%s)", [number]).fetchone()


def test_without_a_fault_it_is_a_wire(url, proxy, kept):
    """Large values pass unharmed, both ways."""
    large = "å" * 3_000_000
    with connect(url) as connection:
        commit(connection, 1)
        assert connection.execute("select %s::text", [large]).fetchone() == (large,)
    assert kept() == [1]
    assert (proxy.counts.connections, proxy.counts.bytes_dropped) == (1, 0)
    assert proxy.counts.bytes_forwarded > 12_000_000


def test_a_delay_holds_up_each_way(url, proxy):
    """A round trip takes twice the delay, however many pieces it has."""
    with connect(url) as connection:
        proxy.delay(0.05)
        started = time.monotonic()
        connection.execute("select repeat('x', 1000000)")
        assert 0.1 <= time.monotonic() - started < 1.0


def test_a_cut_ends_connections_and_refuses_new_ones(url, proxy):
    """Until the network has healed."""
    with connect(url) as connection:
        proxy.cut()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select 1")
    with pytest.raises(psycopg.OperationalError, match="refused"):
        connect(url)
    proxy.heal()
    with connect(url) as connection:
        assert connection.execute("select 7").fetchone() == (7,)


def test_a_partition_is_silent(url, proxy):
    """Nobody hears anything, not even that a connection ended; old and new ones alike."""
    with connect(url) as connection:
        proxy.partition()
        connection.pgconn.send_query(b"select 1")
        assert silent(connection.pgconn.socket)
        with socket.create_connection(("127.0.0.1", proxy.port)) as another:
            another.sendall(b"hello")
            assert silent(another)
    assert proxy.counts.bytes_dropped > 0
    assert proxy.counts.resets == 0


def test_one_way_in_the_server_hears_but_is_not_heard(url, proxy, kept):
    """A commit that got through is there though nobody learns of it."""
    with connect(url) as connection:
        proxy.partition("server_to_client")
        connection.pgconn.send_query(b"select perdure_commit(1)")
        assert silent(connection.pgconn.socket)
        assert kept() == [1]


def test_one_way_out_the_client_hears_but_is_not_heard(url, postgres_url, proxy, kept):
    """What the server says on its own account arrives."""
    with connect(url) as connection, connect(postgres_url) as neighbour:
        connection.execute("listen news")
        proxy.partition("client_to_server")
        neighbour.execute("notify news, 'hello'")
        assert next(connection.notifies(timeout=5)).payload == "hello"
        connection.pgconn.send_query(b"select perdure_commit(1)")
        assert silent(connection.pgconn.socket)
        assert kept() == []


def test_what_lost_bytes_is_reset_when_the_network_heals(url, proxy):
    """A stream with a hole is no stream; one that had nothing to say in the meantime goes on."""
    with connect(url) as quiet, connect(url) as eager:
        proxy.partition()
        eager.pgconn.send_query(b"select 1")
        assert silent(eager.pgconn.socket)
        proxy.heal()
        with pytest.raises(psycopg.OperationalError):
            eager.execute("select 1")
        assert quiet.execute("select 7").fetchone() == (7,)
    assert proxy.counts.resets == 1


def silent(connection):
    """Does nothing become readable within a short time?"""
    return not select.select([connection], [], [], SHORT_SECONDS)[0]


@pytest.mark.parametrize("prepared", [False, True])
def test_a_swallowed_reply_is_an_ambiguous_commit(url, proxy, kept, prepared):
    """The row is there, the client does not know; also when the statement was prepared long before. The next is normal."""
    with connect(url) as connection:
        connection.prepare_threshold = 1
        for number in range(3 if prepared else 0):
            commit(connection, number - 10)
        proxy.swallow_commit_reply()
        assert connection.execute("select 'no commit'").fetchone() == ("no commit",)
        with pytest.raises(psycopg.OperationalError):
            commit(connection, 1)
    assert kept()[-1:] == [1]
    with connect(url) as connection:
        assert commit(connection, 2) == (2,)
    assert (proxy.counts.replies_swallowed, proxy.counts.commits_swallowed) == (1, 0)


@pytest.mark.parametrize("prepared", [False, True])
def test_a_swallowed_commit_did_not_happen(url, proxy, kept, prepared):
    """The client sees what it sees when a reply is swallowed, yet the row is not there."""
    with connect(url) as connection:
        connection.prepare_threshold = 1
        for _ in range(3 if prepared else 0):
            commit(connection, -1)
        before = kept()
        proxy.swallow_commit()
        with pytest.raises(psycopg.OperationalError):
            commit(connection, 1)
    assert kept() == before
    assert (proxy.counts.replies_swallowed, proxy.counts.commits_swallowed) == (0, 1)


def test_so_many_commits_are_swallowed_and_no_more(url, proxy, kept):
    """The number counts commits, over all connections."""
    proxy.swallow_commit_reply(2)
    for number in (1, 2):
        with connect(url) as connection, pytest.raises(psycopg.OperationalError):
            commit(connection, number)
    with connect(url) as connection:
        assert commit(connection, 3) == (3,)
    assert kept() == [1, 2, 3]


def test_healing_disarms(url, proxy):
    """What was still to be swallowed is not."""
    proxy.swallow_commit(5)
    proxy.swallow_commit_reply(5)
    proxy.heal()
    with connect(url) as connection:
        assert commit(connection, 1) == (1,)


def test_another_marker_names_other_commits(postgres_url, postgres_server):
    """An ordinary transaction ends with COMMIT."""
    with FaultProxy("127.0.0.1", postgres_server.port, marker=b"COMMIT") as proxy:
        with closing(psycopg.connect(proxy.url(postgres_url))) as connection:
            connection.execute("create table ambiguous()")
            proxy.swallow_commit_reply()
            with pytest.raises(psycopg.OperationalError):
                connection.commit()
        with connect(postgres_url) as connection:
            assert connection.execute("select count(*) from ambiguous").fetchone() == (0,)


def test_it_works_beside_a_running_loop(url, proxy):
    """A test on its own loop may drive it synchronously."""

    async def work():
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            proxy.swallow_commit()
            with pytest.raises(psycopg.OperationalError):
                await connection.execute("select perdure_commit(1)")

    asyncio.run(work())
    assert proxy.counts.commits_swallowed == 1


def test_other_protocols_pass_but_have_no_commits():
    """Without a marker it reads nothing, so it cannot know what a commit is."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        FaultProxy("127.0.0.1", server.getsockname()[1], marker=None) as proxy,
        socket.create_connection(("127.0.0.1", proxy.port)) as client,
        server.accept()[0] as there,
    ):
        client.sendall(b"\xff\xff")
        assert there.recv(9) == b"\xff\xff"
        client.shutdown(socket.SHUT_WR)
        assert there.recv(9) == b""
        there.sendall(b"bye")
        assert client.recv(9) == b"bye"
        with pytest.raises(InvalidSetting, match="marker"):
            proxy.swallow_commit()


def test_a_server_that_is_down_resets_its_clients(postgres_url):
    """The proxy itself stays up."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with FaultProxy("127.0.0.1", port, marker=b"perdure_commit") as proxy:
        for _ in range(2):
            with pytest.raises(psycopg.OperationalError):
                connect(proxy.url(postgres_url))
        assert proxy.counts.resets == 2
