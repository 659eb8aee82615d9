"""Nodes and quotas in the stores of one machine: death is known at once, others hear, nothing is left behind."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys

import apsw
import pytest

from perdure.store import MemoryStore, SqliteStore
from perdure.store.contract import DEAD_KEPT_SECONDS, Node, QuotaWish, RateWish
from perdure.testing.clock import FakeClock, settle

#: Beats, takes the whole of a limit, says so, and waits to be killed.
HOLDER = """
import asyncio, sys
from perdure.store import SqliteStore
from perdure.store.contract import Node, QuotaWish

async def hold():
    store = SqliteStore(sys.argv[1])
    await store.open()
    await store.beat(Node("node_b", "here", 2, ()), 3600)
    print(await store.share("node_b", [QuotaWish("buyer", 5, 0, 5)]), flush=True)
    sys.stdin.read()

asyncio.run(hold())
"""

A, B = Node("node_a", "here", 1, ()), Node("node_b", "here", 2, ())
ALL = [QuotaWish("buyer", 5, 0, 5)]


def test_a_killed_node_is_dead_at_once(tmp_path):
    """What it held is free; a paused one keeps it, for it may wake up."""
    path = str(tmp_path / "runs.db")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "[5]\n"

        async def scenario() -> None:
            store = SqliteStore(path)
            await store.open()
            holder.send_signal(signal.SIGSTOP)
            assert [node.id for node in await store.beat(A, 10)] == ["node_a", "node_b"]
            assert await store.share("node_a", ALL) == [0]
            holder.kill()
            holder.wait()
            assert [(node.id, node.alive) for node in await store.nodes()] == [("node_a", True), ("node_b", False)]
            assert await store.share("node_a", ALL) == [5]
            await store.close()

        asyncio.run(scenario())


def test_a_buried_node_is_dead_at_once():
    """In memory it is the test that knows."""

    async def scenario() -> None:
        store = MemoryStore(clock=FakeClock())
        await store.beat(A, 10)
        await store.beat(B, 10)
        assert await store.share("node_b", ALL) == [5]
        store.bury("node_b")
        assert [node.alive for node in await store.nodes()] == [True, False]
        assert await store.share("node_a", ALL) == [5]

    asyncio.run(scenario())


def test_nothing_is_left_of_who_is_gone(tmp_path):
    """Neither of who left nor of who was forgotten, nor of buckets that are full again."""

    async def scenario() -> list[dict[str, int]]:
        clock = FakeClock()
        store = SqliteStore(str(tmp_path / "runs.db"), clock=clock)
        await store.open()
        for node in (A, B):
            await store.beat(node, 10)
            await store.share(node.id, [QuotaWish(node.id, 5, 0, 5)])
        await store.take([RateWish("buyer", 5, 10, 5)])
        await store.leave("node_a")
        left = [rows(tmp_path)]
        await clock.advance(10 + DEAD_KEPT_SECONDS)
        await store.beat(A, 10)
        await store.close()
        return [*left, rows(tmp_path)]

    assert asyncio.run(scenario()) == [{"node": 1, "quota": 1, "bucket": 1}, {"node": 1, "quota": 0, "bucket": 0}]


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_others_hear_of_what_they_may_ask_for(tmp_path, kind):
    """When somebody wants, or gives back; asking again for the same wakes nobody, or two nodes would never rest."""

    async def scenario() -> None:
        store, other = stores(tmp_path, kind, FakeClock())
        await store.open()
        await other.open()
        await store.beat(A, 10)
        await other.beat(B, 10)
        for wanted in (5, 3, 0):
            waiting = asyncio.create_task(wait_anew(other))
            await settle()
            assert not waiting.done()
            await store.share("node_a", [QuotaWish("buyer", 5, 0, wanted)])
            await asyncio.wait_for(waiting, 5)
            before = changes(other)
            await store.share("node_a", [QuotaWish("buyer", 5, 0, wanted)])
            await store.take([RateWish("empty", 5, 10, 0)])
            assert changes(other) == before
        await store.close()
        await other.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_clock_that_was_set_back_stops_no_rate(tmp_path, kind):
    """It goes on from the clock's new time, with no more than was there."""

    async def scenario() -> None:
        clock = FakeClock()
        [store, *_] = stores(tmp_path, kind, clock)
        await store.open()
        rate = RateWish("buyer", 5, 10, 5)
        assert await store.take([rate]) == [(5, 2.0)]
        await clock.advance(-365 * 86_400)
        assert await store.take([rate]) == [(0, 2.0)]
        await clock.advance(2)
        assert await store.take([rate]) == [(1, 2.0)]
        await store.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("wish", [QuotaWish("huge", 2**63, 0, 1), RateWish("huge", 2**40, 86_400, 1)])
def test_what_a_row_cannot_hold_is_refused_by_name(tmp_path, wish):
    """Not by the driver."""

    async def scenario() -> None:
        store = SqliteStore(str(tmp_path / "runs.db"))
        await store.open()
        await store.beat(A, 10)
        with pytest.raises(ValueError, match="huge"):
            await (store.share("node_a", [wish]) if isinstance(wish, QuotaWish) else store.take([wish]))
        await store.close()

    asyncio.run(scenario())


def stores(path, kind, clock):
    """Two processes on one store."""
    if kind == "memory":
        return [MemoryStore(clock=clock)] * 2
    return [SqliteStore(str(path / "runs.db"), clock=clock) for _ in range(2)]


async def wait_anew(store) -> None:
    """Until something happens that has not happened yet."""
    if isinstance(store, SqliteStore):
        store._changes_seen = store._database.changes()
    await store.wait_change()


def changes(store) -> int:
    """A number that differs when others should look again."""
    return store._version if isinstance(store, MemoryStore) else store._database.changes()


def rows(path) -> dict[str, int]:
    """How many rows each table has."""
    db = apsw.Connection(str(path / "runs.db"))
    try:
        tables = {"node": "perdure_nodes", "quota": "perdure_quotas", "bucket": "perdure_buckets"}
        return {name: db.execute(f"select count(*) from {table}").get for name, table in tables.items()}
    finally:
        db.close()
