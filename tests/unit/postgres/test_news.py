"""News of commits: at once where the database tells, and within a bound where it cannot."""

from __future__ import annotations

import asyncio
from time import monotonic

import pytest

from perdure.store.contract import Transaction
from perdure.store.postgres import news
from tests.unit.postgres.nodes import ask_database, create, open_store, signal

LAST = "select max(state_change) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
LISTENERS = "select count(*) from pg_stat_activity where datname = current_database() and query = 'listen perdure'"
KILL = LISTENERS.replace("count(*)", "pg_terminate_backend(pid, 5000)")


async def listen(*stores):
    """They hear what is told from here on, and have taken note of what was before."""
    for store in stores:
        waiting = asyncio.create_task(store.wait_change())
        while not store._news._listening:
            await asyncio.to_thread(ask_database, store._connections.url, "select 1")
        await waiting
        store._news._changed.clear()


def deaf(store):
    """Nobody tells it anything."""
    return not store._news._listening


async def how_long(store):
    """How long it waits for news (seconds)."""
    started = monotonic()
    await store.wait_change()
    return monotonic() - started


@pytest.fixture
def patient(monkeypatch):
    """Stores that look by themselves only after a minute: what wakes them is news."""
    monkeypatch.setattr(news, "_LOOK_SECONDS", 60.0)


def test_a_commit_wakes_another_store(postgres_url, patient):
    """And a release, a drain and a leave do; within milliseconds, here with room for a machine that is busy."""

    async def scenario():
        async with open_store(postgres_url) as first, open_store(postgres_url) as second:
            await listen(second)
            for act in (
                lambda: first.commit([create("run_1")]),
                lambda: first.release("node_a", []),
                lambda: first.leave("node_a"),
            ):
                waiting = asyncio.create_task(how_long(second))
                await asyncio.sleep(0)
                await act()
                assert await waiting < 5.0

    asyncio.run(scenario())


def test_what_was_said_while_nobody_waited_is_heard(postgres_url, patient):
    """The next call returns at once, and the one after it waits."""

    async def scenario():
        async with open_store(postgres_url) as first, open_store(postgres_url) as second:
            await listen(second)
            await first.commit([create("run_1")])
            while not second._news._changed.is_set():
                await asyncio.to_thread(ask_database, postgres_url, "select 1")
            assert await how_long(second) < 5.0
            assert not second._news._changed.is_set()

    asyncio.run(scenario())


def test_a_store_is_not_woken_by_itself(postgres_url, patient, monkeypatch):
    """Its own commit is no news to it; somebody else's that came after it is."""

    async def scenario():
        async with open_store(postgres_url) as first, open_store(postgres_url) as second:
            await listen(first, second)
            heard = []
            changed, take, over = first._news._changed, first._news._hear, asyncio.Event()

            def hear(teller):
                changed.clear()
                take(teller)
                heard.append(changed.is_set())
                if teller == "the end":
                    over.set()

            monkeypatch.setattr(first._news, "_hear", hear)
            await first.commit([Transaction(signals=[signal()])])
            await second.wait_change()  # so it was told, and what is told now comes after it
            await asyncio.to_thread(ask_database, postgres_url, "select pg_notify('perdure', 'the end')")
            await over.wait()
            assert heard == [False, True]

    asyncio.run(scenario())


def test_without_news_a_store_looks_soon(postgres_url, monkeypatch):
    """The listener is killed and cannot come back: the wait is short, and longer again once it has."""
    monkeypatch.setattr(news, "_LOOK_SECONDS", 60.0)
    monkeypatch.setattr(news, "_LOOK_SECONDS_UNTOLD", 0.01)

    async def scenario():
        async with open_store(postgres_url) as store:
            await listen(store)
            connect = store._connections.connect
            gate = asyncio.Event()

            async def refused():
                if not gate.is_set():
                    raise ConnectionRefusedError
                return await connect()

            monkeypatch.setattr(store._connections, "connect", refused)
            await asyncio.to_thread(ask_database, postgres_url, KILL)
            while not deaf(store):
                await asyncio.to_thread(ask_database, postgres_url, "select 1")
            assert await how_long(store) < 5.0
            gate.set()
            while deaf(store):
                await store.wait_change()
            assert ask_database(postgres_url, LISTENERS) == [1]

    asyncio.run(scenario())


def test_a_burst_of_commits_is_told_in_few_words(postgres_url, monkeypatch):
    """The more is committed in quick succession, the more is told together; the last of it too."""
    monkeypatch.setattr(news, "_TELL_SECONDS_MOST", 1.0)

    async def scenario():
        async with open_store(postgres_url) as store:
            told = []
            fetch = store._connections.fetch

            async def count(sql, params=()):
                told.append(sql)
                return await fetch(sql, params)

            monkeypatch.setattr(store._connections, "fetch", count)
            for number in range(30):
                await store.commit([create(f"run_{number}")])
            many = len(told)
            await store._news.close()
            assert 1 <= many <= 10
            assert not store._news._untold

    asyncio.run(scenario())


def test_an_idle_store_asks_nothing(postgres_url, patient):
    """While it waits for news it sends no statement at all."""

    async def scenario():
        async with open_store(postgres_url) as store:
            await listen(store)
            waiting = asyncio.create_task(store.wait_change())
            before = ask_database(postgres_url, LAST)
            await asyncio.to_thread(ask_database, postgres_url, "select pg_sleep(0.5)")
            assert ask_database(postgres_url, LAST) == before
            waiting.cancel()

    asyncio.run(scenario())
