"""The disk is full, or fails, at every single write and sync: named, nothing acknowledged lost, nothing half done."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from perdure.errors import StoreBroken, StoreError, StoreFull
from perdure.store import SqliteStore
from perdure.store.contract import Fence, Lease, NewRun, RunFilter, RunUpdate, Store, Transaction
from perdure.store.sqlite import log
from perdure.testing.disk import BadDisk
from perdure.values.events import Event
from perdure.values.runs import Run, RunStatus

SHARD = "buyer/1"
NAME = "runs.db"

Step = Callable[[Store], Awaitable[None]]


@pytest.fixture(autouse=True)
def _small_log(monkeypatch):
    """The log is copied and begun anew several times in a few commits."""
    monkeypatch.setattr(log, "_PAGES_MAX", 12)
    monkeypatch.setattr(log, "_ROOM", 100_000)


@pytest.fixture
def disk() -> Iterator[Path]:
    """A directory in memory where the system has one."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as directory:
        yield Path(directory)


@pytest.mark.slow
def test_a_full_disk_delays_work_and_loses_none(disk):
    """Wherever the disk fills up: StoreFull, and once there is room the same object does what it could not."""
    states, sites = asyncio.run(good_work(disk))
    for site in range(1, sites + 1):
        with BadDisk() as bad:
            bad.fill_at(site)
            failures = asyncio.run(work_until_done(SqliteStore(fresh(disk), vfs=bad.vfs), bad))
        assert {type(failure) for failure in failures} <= {StoreFull}, f"site {site}"
        assert asyncio.run(found(disk)) == states[-1], f"site {site}"


@pytest.mark.slow
def test_a_failed_disk_stops_the_store_and_loses_nothing(disk):
    """Wherever a write or sync fails: StoreBroken, for ever in that object; the next process finds what was told."""
    states, sites = asyncio.run(good_work(disk))
    stopped = 0
    for site in range(1, sites + 1):
        with BadDisk() as bad:
            bad.fail_at(site)
            acknowledged = asyncio.run(work_until_broken(SqliteStore(fresh(disk), vfs=bad.vfs)))
        stopped += acknowledged < len(states) - 1
        # A commit whose sync failed may be there whole; nobody was told that it is.
        assert asyncio.run(found(disk)) in states[acknowledged : acknowledged + 2], f"site {site}"
    assert stopped > sites / 2


def test_a_full_disk_is_named_and_overcome(disk):
    """The quick one of the above: the disk fills up in the middle of a commit."""
    states, sites = asyncio.run(good_work(disk))
    with BadDisk() as bad:
        bad.fill_at(sites // 2)
        failures = asyncio.run(work_until_done(SqliteStore(fresh(disk), vfs=bad.vfs), bad))
    assert [type(failure) for failure in failures] == [StoreFull]
    assert "Free some room" in str(failures[0])
    assert asyncio.run(found(disk)) == states[-1]


def test_a_failed_sync_is_not_tried_again(disk):
    """After StoreBroken the object refuses reads and writes, and leaves the files alone when it is closed."""
    _, sites = asyncio.run(good_work(disk))
    with BadDisk() as bad:
        bad.fail_at(sites // 2)
        asyncio.run(work_until_broken(SqliteStore(fresh(disk), vfs=bad.vfs)))
        assert bad.actions == sites // 2


async def good_work(disk: Path) -> tuple[list[Any], int]:
    """What a store holds after each step on a good disk, and how many writes and syncs that took."""
    with BadDisk() as good:
        store = SqliteStore(fresh(disk), vfs=good.vfs)
        states: list[Any] = [EMPTY]
        for step in STEPS:
            await step(store)
            states.append(await contents(store))
        await store.close()
        assert await found(disk) == states[-1]
        return states, good.actions


async def work_until_done(store: SqliteStore, bad: BadDisk) -> list[StoreError]:
    """Do every step; where it fails, make room and do it again."""
    failures = []
    for step in STEPS:
        try:
            await step(store)
        except StoreError as failure:
            failures.append(failure)
            bad.free()
            await step(store)
    await store.close()
    return failures


async def work_until_broken(store: SqliteStore) -> int:
    """Do the steps until one fails; how many were acknowledged."""
    acknowledged = 0
    for step in STEPS:
        try:
            await step(store)
        except StoreBroken:
            for refused in (store.runs(RunFilter()), store.commit([]), store.claim("node_b", ["buyer/2"], 1)):
                with pytest.raises(StoreBroken, match="disk failed"):
                    await refused
            break
        acknowledged += 1
    await store.close()
    return acknowledged


async def found(disk: Path) -> Any:
    """What the next process finds, on a disk that is good again."""
    store = SqliteStore(str(disk / NAME))
    await store.open()
    try:
        assert await store.check() == []
        return await contents(store)
    finally:
        await store.close()


async def contents(store: Store) -> Any:
    """All that a store says about its runs."""
    runs = await store.runs(RunFilter())
    owners = [(shard.name, shard.epoch) for shard in await store.shards()]
    return runs, [await store.events(run.id) for run in runs], owners


def fresh(disk: Path) -> str:
    """The path of a store that does not exist."""
    for path in disk.iterdir():
        if path.is_file():
            path.unlink()
    return str(disk / NAME)


async def begin(store: Store) -> None:
    """A step: open it."""
    await store.open()


async def claim(store: Store) -> None:
    """A step: own the shard."""
    assert await store.claim("node_a", [SHARD], 60) == [Lease(SHARD, 1)]


def commit(number: int) -> Step:
    """A step: a new run, and for every run so far an event of 5 KB and a new status."""
    fence = Fence(SHARD, 1)
    runs = [f"run_{index}" for index in range(number)]
    row = Run(f"run_{number}", "buyer", "v1", None, SHARD, RunStatus.QUEUED, 1, 1)
    queued = Event(row.id, 1, "run.queued", 1, None, None, "{}")
    raw = '{"a":"' + "x" * 5_000 + '"}'
    appends = [
        Transaction(
            fence=fence,
            events=[Event(run, number - index + 1, "progress", number, None, None, raw)],
            updates={run: RunUpdate(RunStatus.WAITING, number)},
        )
        for index, run in enumerate(runs)
    ]

    async def step(store: Store) -> None:
        outcomes = await store.commit([Transaction(create=[NewRun(row, [queued])]), *appends])
        assert outcomes == [None] * len(outcomes)

    return step


EMPTY: Any = ([], [], [])
STEPS: list[Step] = [begin, claim, *(commit(number) for number in range(6))]
