"""Signals of nodes that overtake each other: a reader that goes on from where it was misses none."""

from __future__ import annotations

import asyncio

import psycopg

from perdure.store.contract import Transaction
from tests.unit.postgres.nodes import SHARD, ask_database, open_node, signal

PUT = """
insert into perdure.signals (shard, agent, session, kind, data, created) values ('buyer:1', 'buyer', 's', 'message', %s, 1)
"""


async def put(url, data):
    """A signal in a transaction that is still open."""
    connection = await psycopg.AsyncConnection.connect(url)
    await connection.execute(PUT, [data])
    return connection


async def commit(connection):
    """It becomes visible."""
    await connection.commit()
    await connection.close()


async def read(node, cursor, limit=1000):
    """What is new, and the next cursor."""
    found, cursor = await node.store.signals([SHARD], cursor, limit)
    return [one.data for one in found], cursor


def test_commits_that_overtake_each_other(postgres_url):
    """Number 1 becomes visible after number 2 was read: it is read then."""

    async def scenario():
        async with open_node(postgres_url) as node:
            first, second = await put(postgres_url, "1"), await put(postgres_url, "2")
            await commit(second)
            seen, cursor = await read(node, None)
            assert seen == ["2"]
            assert await read(node, cursor) == ([], cursor)
            await commit(first)
            assert (await read(node, cursor))[0] == ["1"]

    asyncio.run(scenario())


def test_a_signal_that_comes_late_while_pages_are_turned(postgres_url):
    """Its number is among those of a page that was read before: it comes in the next look."""

    async def scenario():
        async with open_node(postgres_url) as node:
            late = await put(postgres_url, "late")
            await node.store.commit([Transaction(signals=[signal(str(number)) for number in range(5)])])
            page, cursor = await read(node, None, 2)
            assert page == ["0", "1"]
            await commit(late)
            await node.store.commit([Transaction(signals=[signal("5")])])
            pages = []
            for _ in range(4):
                page, cursor = await read(node, cursor, 2)
                pages += page
            assert set(pages) == {"2", "3", "4", "5", "late"}

    asyncio.run(scenario())


def test_every_order_of_three_commits(postgres_url):
    """Whenever each becomes visible, and whatever was read in between, all are read."""

    async def scenario():
        async with open_node(postgres_url) as node:
            for order in ("012", "021", "102", "120", "201", "210"):
                for limit in (1, 2, 1000):
                    _, cursor = await read(node, None)
                    open_ones = [await put(postgres_url, f"{order}{limit}:{number}") for number in range(3)]
                    seen = []
                    for number in order:
                        await commit(open_ones[int(number)])
                        page, cursor = await read(node, cursor, limit)
                        seen += page
                    while (look := await read(node, cursor, limit))[0]:
                        seen, cursor = seen + look[0], look[1]
                    assert {f"{order}{limit}:{number}" for number in range(3)} <= set(seen)
                    ask_database(postgres_url, "delete from perdure.signals")

    asyncio.run(scenario())


def test_what_was_read_is_not_read_again_for_ever(postgres_url):
    """A reader that has seen all gets nothing, while a transaction of somebody else stays open for hours."""

    async def scenario():
        async with open_node(postgres_url) as node:
            old = await put(postgres_url, "old")
            await node.store.commit([Transaction(signals=[signal(str(number)) for number in range(10)])])
            seen, cursor = await read(node, None, 3)
            while (look := await read(node, cursor, 3))[0]:
                seen, cursor = seen + look[0], look[1]
                assert len(seen) <= 10
            await commit(old)
            assert (await read(node, cursor))[0] == ["old"]

    asyncio.run(scenario())


def test_a_part_of_a_batch_that_was_undone_leaves_no_signal(postgres_url):
    """Those of its neighbours come in the order in which they were put, though they were written in parts."""

    async def scenario():
        async with open_node(postgres_url) as node:
            await node.begin("run_1")
            _, cursor = await read(node, None)
            await node.store.commit(
                [
                    Transaction(signals=[signal("1")]),
                    node.append("run_1", 9, signals=[signal("never")]),
                    Transaction(signals=[signal("2")]),
                ]
            )
            assert (await read(node, cursor))[0] == ["1", "2"]

    asyncio.run(scenario())
