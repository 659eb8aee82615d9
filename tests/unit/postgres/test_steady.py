"""A connection whose socket stays watched: the loop is told once, and whatever ends a wait leaves nothing behind."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest

from perdure.store.postgres.steady import SteadyConnection
from tests.unit.postgres.nodes import ask_database

SLEEPS = "select count(*) from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'"
KILL = "select pg_terminate_backend(%s, 5000)"


@asynccontextmanager
async def connect(url, *, autocommit=True):
    async with await SteadyConnection.connect(url, autocommit=autocommit) as connection:
        yield connection


async def ask(connection, sql, *values):
    cursor = await connection.execute(sql, values)
    [[answer]] = await cursor.fetchall()
    return answer


async def until_asleep(url):
    """Somebody's request is under way at the server."""
    while await asyncio.to_thread(ask_database, url, SLEEPS) == [0]:
        pass


async def kill(url, connection):
    """The server ends a connection by itself."""
    assert await asyncio.to_thread(ask_database, url, KILL, connection.info.backend_pid) == [True]


def count_files():
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def watching(monkeypatch):
    """Every time that the loop is told to watch a socket for us."""
    told = []
    add = asyncio.SelectorEventLoop.add_reader

    def note(loop, file, heard, *given):
        told.append(heard.__name__)
        return add(loop, file, heard, *given)

    monkeypatch.setattr(asyncio.SelectorEventLoop, "add_reader", note)
    return told


def test_the_loop_is_told_once(postgres_url, watching):
    """For requests, transactions and prepared statements alike: a driver that waits in another way would show here."""

    async def scenario():
        async with connect(postgres_url) as connection:
            watching.clear()
            for number in range(30):
                assert await ask(connection, "select %s::int", number) == number
                await asyncio.sleep(0)  # the loop looks again before the next request
            async with connection.transaction():
                await ask(connection, "select 1")
            await ask(connection, "select pg_sleep(0.01)::text")
            assert watching == ["_hear"]

    asyncio.run(scenario())


def test_what_is_larger_than_the_socket_takes(postgres_url):
    """Twenty megabytes there and back, alone and after the word that begins a transaction; then something small."""

    async def scenario():
        text = "å" * 10_000_000
        for autocommit in (True, False):
            async with connect(postgres_url, autocommit=autocommit) as connection:
                assert await ask(connection, "select %s::text", text) == text
                assert await ask(connection, "select 1") == 1

    asyncio.run(scenario())


def test_a_caller_who_gives_up(postgres_url):
    """The server is told, the request ends there, and the connection is as good as new."""

    async def scenario():
        async with connect(postgres_url) as connection:
            await ask(connection, "select 1")
            for _ in range(2):
                task = asyncio.create_task(ask(connection, "select pg_sleep(60)::text"))
                await until_asleep(postgres_url)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert await asyncio.to_thread(ask_database, postgres_url, SLEEPS) == [0]
                assert await ask(connection, "select 2") == 2

    asyncio.run(scenario())


def test_a_server_that_leaves_while_nobody_waits(postgres_url):
    """The loop stops watching, and does not turn for it; the next request hears of it; the next connection is sound."""

    async def scenario():
        async with connect(postgres_url) as connection:
            await ask(connection, "select 1")
            await kill(postgres_url, connection)
            while connection._watched is not None:
                await asyncio.to_thread(ask_database, postgres_url, "select 1")
            with pytest.raises(psycopg.OperationalError):
                await ask(connection, "select 1")
            async with connect(postgres_url) as other:
                assert await ask(other, "select 3") == 3

    asyncio.run(scenario())


def test_a_server_that_leaves_while_somebody_waits(postgres_url):
    """He hears so; neither file nor watch is left."""

    async def scenario():
        async with connect(postgres_url) as connection:
            task = asyncio.create_task(ask(connection, "select pg_sleep(60)::text"))
            await until_asleep(postgres_url)
            await kill(postgres_url, connection)
            with pytest.raises(psycopg.OperationalError):
                await task
            assert connection._watched is None

    asyncio.run(scenario())


def test_close_while_somebody_waits(postgres_url):
    """He hears that it is closed, at once and not after his time limit."""

    async def scenario():
        async with connect(postgres_url) as connection:
            task = asyncio.create_task(ask(connection, "select pg_sleep(60)::text"))
            await until_asleep(postgres_url)
            await connection.close()
            with pytest.raises(psycopg.OperationalError):
                await task

    asyncio.run(scenario())


def test_what_is_told_while_nobody_waits_is_heard_later(postgres_url):
    """Notifications come in between requests, and while somebody waits for them."""

    async def scenario():
        async with connect(postgres_url) as connection:
            await connection.execute("listen news")
            await asyncio.to_thread(ask_database, postgres_url, "select pg_notify('news', 'one')")
            while connection._watched is not None:
                await asyncio.to_thread(ask_database, postgres_url, "select 1")
            heard = connection.notifies()
            assert (await anext(heard)).payload == "one"
            waiting = asyncio.ensure_future(anext(heard))
            await asyncio.sleep(0)
            await asyncio.to_thread(ask_database, postgres_url, "select pg_notify('news', 'two')")
            assert (await waiting).payload == "two"
            await heard.aclose()
            assert [told async for told in connection.notifies(timeout=0)] == []
            assert await ask(connection, "select 1") == 1

    asyncio.run(scenario())


def test_no_file_is_left(postgres_url):
    """Opened, used, given up and closed many times over: as many files as before."""

    async def scenario():
        counts = []
        for _ in range(5):
            async with connect(postgres_url) as connection:
                await ask(connection, "select 1")
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await ask(connection, "select pg_sleep(60)::text")
            counts.append(count_files())
        assert counts[1:] == counts[:-1]

    asyncio.run(scenario())
