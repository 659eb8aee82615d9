"""What makes a commit quick must not make it wrong: remembered ends of journals, room in the log, news of changes."""

from __future__ import annotations

import asyncio

import apsw
import pytest

from perdure.errors import Fenced
from perdure.store import SqliteStore
from perdure.store.contract import Fence, NewRun, RunUpdate, Signal, Transaction
from perdure.store.sqlite import journals, log
from perdure.store.sqlite import store as sqlite_store
from perdure.values.events import Event
from perdure.values.runs import Run, RunStatus


async def claimed_store(path) -> tuple[SqliteStore, Fence]:
    """An open store, and the fence of its shard `buyer/1`."""
    store = SqliteStore(str(path))
    await store.open()
    [lease] = await store.claim("node_a", ["buyer/1"], 60)
    return store, Fence(*lease)


def create(id: str) -> Transaction:
    """A new run with its first event."""
    run = Run(id, "buyer", "v1", None, "buyer/1", RunStatus.QUEUED, 1, 1)
    return Transaction(create=[NewRun(run, [event(id, 1)])])


def event(run: str, seq: int, raw: str = "{}") -> Event:
    """An event of any kind."""
    return Event(run, seq, "progress", 1, None, None, raw)


def test_more_journals_than_are_remembered(tmp_path, monkeypatch):
    """Their ends are read again: appends stay dense, within a batch and over many."""
    monkeypatch.setattr(journals, "_TAILS_MAX", 3)

    async def scenario() -> None:
        store, fence = await claimed_store(tmp_path / "runs.db")
        runs = [f"run_{number}" for number in range(10)]
        await store.commit([create(run) for run in runs])
        for seq in range(2, 6):
            batch = [Transaction(fence=fence, events=[event(run, seq)]) for run in runs]
            assert await store.commit(batch) == [None] * 10
        assert isinstance((await store.commit([Transaction(fence=fence, events=[event("run_0", 7)])]))[0], ValueError)
        assert await store.check() == []
        await store.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "unstorable",
    [
        {"events": [Event("run_1", 2, "custom.\ud800", 1, None, None, "{}")]},
        {"events": [Event("run_1", 2, "progress", 2**70, None, None, "{}")]},
        {"events": [Event("run_1", 2, "progress", 1, None, None, object())]},  # type: ignore[arg-type]
        {"updates": {"run_1": RunUpdate(RunStatus.RUNNING, 1)}, "state": ("buyer", "s", {"\ud800": "1"})},
        {
            "updates": {"run_1": RunUpdate(RunStatus.RUNNING, 1)},
            "signals": [Signal("b", "\ud800", None, "", "", "", 1)],
        },
    ],
)
def test_what_cannot_be_stored_is_refused_alone(tmp_path, unstorable):
    """Wherever in a transaction it is found: the transaction leaves no trace, and its neighbours are committed."""

    async def scenario() -> None:
        store, fence = await claimed_store(tmp_path / "runs.db")
        await store.commit([create("run_1"), create("run_2")])
        before = await store.run("run_1")
        outcomes = await store.commit(
            [
                Transaction(fence=fence, events=[event("run_2", 2)]),
                Transaction(fence=fence, **unstorable),
                Transaction(fence=fence, events=[event("run_2", 3)]),
            ]
        )
        assert [type(outcome) for outcome in outcomes] == [type(None), ValueError, type(None)]
        assert [found.seq for found in await store.events("run_2")] == [1, 2, 3]
        assert await store.run("run_1") == before
        assert await store.commit([Transaction(fence=fence, events=[event("run_1", 2)])]) == [None]
        assert await store.check() == []
        await store.close()

    asyncio.run(scenario())


def test_nothing_is_left_open_after_a_commit(tmp_path):
    """A question that was not read to its end would hold on to an old snapshot, and to the log."""

    async def scenario() -> None:
        store, fence = await claimed_store(tmp_path / "runs.db")
        await store.commit([create("run_1")])
        for seq in (3, 2):
            await store.commit([Transaction(fence=fence, events=[event("run_1", seq)])])
            await store.events("run_1")
            await store.run("run_1")
            await store.next_due(["buyer/1"])
            assert store._database.read(lambda db: db.txn_state()) == apsw.SQLITE_TXN_NONE
        await store.close()

    asyncio.run(scenario())


def test_the_log_is_emptied_again_and_again(tmp_path, monkeypatch):
    """It does not grow with the work, and the room that is made for it is zeros that nobody mistakes for data."""
    monkeypatch.setattr(log, "_PAGES_MAX", 10)
    monkeypatch.setattr(log, "_ROOM", 200_000)

    async def scenario() -> None:
        store, fence = await claimed_store(tmp_path / "runs.db")
        path = tmp_path / "runs.db-wal"
        # The set-up wrote more than that; from the first claim on it is as long as the room or longer.
        size = path.stat().st_size
        assert size >= 200_000
        await store.commit([create("run_1")])
        for seq in range(2, 200):
            await store.commit([Transaction(fence=fence, events=[event("run_1", seq, '"' + "x" * 3_000 + '"')])])
        assert path.stat().st_size <= size + 100_000
        other = SqliteStore(str(tmp_path / "runs.db"))
        await other.open()
        assert len(await other.events("run_1")) == 199
        await other.close()
        assert await store.check() == []
        await store.close()
        assert not path.exists()

    asyncio.run(scenario())


def test_its_own_commits_are_no_news(tmp_path, monkeypatch):
    """`wait_change` returns for another connection's commit, and only then."""
    looks = asyncio.Semaphore(0)
    monkeypatch.setattr(sqlite_store, "_LOOK_SECONDS", 0)

    async def scenario() -> None:
        store, fence = await claimed_store(tmp_path / "runs.db")
        changes = store._database.changes

        def counted() -> int:
            looks.release()
            return changes()

        monkeypatch.setattr(store._database, "changes", counted)
        waiting = asyncio.create_task(store.wait_change())
        for seq in range(1, 10):
            await store.commit(
                [create("run_1") if seq == 1 else Transaction(fence=fence, events=[event("run_1", seq)])]
            )
            await looks.acquire()
        assert not waiting.done()
        other = SqliteStore(str(tmp_path / "runs.db"))
        await other.open()
        await other.commit([create("run_2")])
        await asyncio.wait_for(waiting, 5)
        await other.close()
        await store.close()

    asyncio.run(scenario())


def test_a_store_that_lost_its_shard_while_it_slept(tmp_path):
    """What it remembers of a journal does not help it past the fence."""

    async def scenario() -> None:
        store, fence = await claimed_store(tmp_path / "runs.db")
        await store.commit([create("run_1")])
        assert await store.commit([Transaction(fence=fence, events=[event("run_1", 2)])]) == [None]
        other = SqliteStore(str(tmp_path / "runs.db"))
        await other.open()
        await store.release("node_a", [fence])  # type: ignore[list-item]
        [lease] = await other.claim("node_b", ["buyer/1"], 60)
        assert await other.commit([Transaction(fence=Fence(*lease), events=[event("run_1", 3)])]) == [None]
        [outcome] = await store.commit([Transaction(fence=fence, events=[event("run_1", 3)])])
        assert isinstance(outcome, Fenced)
        await other.close()
        await store.close()
        assert not list((tmp_path / "runs.db.nodes").iterdir())

    asyncio.run(scenario())
