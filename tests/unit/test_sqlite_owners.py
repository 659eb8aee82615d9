"""Who owns a shard when processes die, pause or leave: locks tell at once, leases tell in the end."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys

import pytest

from perdure.store import SqliteStore
from perdure.store.contract import Lease
from perdure.store.sqlite.node_locks import NodeLocks
from perdure.testing.clock import FakeClock

#: Claims `buyer/1`, says so, and waits to be killed.
OWNER = """
import asyncio, sys
from perdure.store import SqliteStore

async def own():
    store = SqliteStore(sys.argv[1])
    await store.open()
    print(await store.claim("node_b", ["buyer/1"], 3600), flush=True)
    sys.stdin.read()

asyncio.run(own())
"""


def test_a_killed_owners_shards_are_free_at_once(tmp_path):
    """A paused one's are not: it may wake up, so only time and the epoch take its shards away."""
    path = str(tmp_path / "runs.db")
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        assert "epoch=1" in owner.stdout.readline()

        async def scenario() -> None:
            store = SqliteStore(path)
            await store.open()
            assert await store.claim("node_a", ["buyer/1"], 10) == []
            owner.send_signal(signal.SIGSTOP)
            assert await store.claim("node_a", ["buyer/1"], 10) == []
            assert [shard.alive for shard in await store.shards()] == [True]
            owner.kill()
            owner.wait()
            assert [shard.alive for shard in await store.shards()] == [False]
            assert await store.claim("node_a", ["buyer/1"], 10) == [Lease("buyer/1", 2)]
            assert names(tmp_path) == ["node_a.lock"]
            await store.close()

        asyncio.run(scenario())


def test_a_closed_stores_shards_are_free_at_once(tmp_path):
    """Also when it did not release them; its lock file goes with it."""

    async def scenario() -> None:
        clock = FakeClock()
        first, second = (SqliteStore(str(tmp_path / "runs.db"), clock=clock) for _ in range(2))
        await first.open()
        await second.open()
        assert await first.claim("node_a", ["buyer/1"], 10) == [Lease("buyer/1", 1)]
        assert await second.claim("node_b", ["buyer/1"], 10) == []
        await first.close()
        assert names(tmp_path) == []
        assert await second.claim("node_b", ["buyer/1"], 10) == [Lease("buyer/1", 2)]
        await second.close()

    asyncio.run(scenario())


def test_a_file_that_nobody_locks_is_cleared_away(tmp_path):
    """It is what a killed process leaves; a file that somebody locks stays."""
    ours, theirs = NodeLocks(str(tmp_path / "runs.db")), NodeLocks(str(tmp_path / "runs.db"))
    theirs.hold("node_b")
    (tmp_path / "runs.db.nodes/node_c.lock").touch()
    assert [ours.dead(node) for node in ("node_b", "node_c", "node_d")] == [False, True, True]
    assert names(tmp_path) == ["node_b.lock"]
    theirs.drop()
    assert ours.dead("node_b")


def test_a_nodes_name_is_never_a_way_out_of_the_directory(tmp_path):
    """Whatever a tampered file names as an owner, nothing outside is touched."""
    (tmp_path / "precious.lock").touch()
    assert NodeLocks(str(tmp_path / "runs.db")).dead("../precious")
    assert (tmp_path / "precious.lock").exists()


@pytest.mark.parametrize("expired", [False, True])
def test_one_of_two_claimers_wins(tmp_path, expired):
    """Two processes that see the same free shard do not both get it."""

    async def scenario() -> None:
        clock = FakeClock()
        stores = [SqliteStore(str(tmp_path / "runs.db"), clock=clock) for _ in range(2)]
        for store in stores:
            await store.open()
        if expired:
            await stores[0].claim("node_z", ["buyer/1"], 0)
        claims = [await store.claim(f"node_{number}", ["buyer/1"], 10) for number, store in enumerate(stores)]
        assert [len(claim) for claim in claims] == [1, 0]
        for store in stores:
            await store.close()

    asyncio.run(scenario())


def names(path) -> list[str]:
    """The lock files beside the store."""
    return [file.name for file in (path / "runs.db.nodes").iterdir()]
