"""A slow disk or a busy file does not stop the event loop: writes move to a thread, in order, and reads go on."""

from __future__ import annotations

import asyncio
import threading

import apsw
import pytest

from perdure.store import SqliteStore
from perdure.store.contract import NewRun, RunFilter, Transaction
from perdure.values.clock import SystemClock
from perdure.values.events import Event
from perdure.values.runs import Run, RunStatus


class SlowDisk(SystemClock):
    """A clock by which every write takes `seconds`."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._monotonic = 0.0

    def monotonic(self) -> float:
        self._monotonic += self.seconds
        return self._monotonic


class ThreadWatch:
    """Tells on which thread each commit ran."""

    def __init__(self, store: SqliteStore) -> None:
        self.threads: list[bool] = []
        commit = store._committer.commit

        def watched(batch):
            self.threads.append(threading.current_thread() is not threading.main_thread())
            return commit(batch)

        store._committer.commit = watched  # type: ignore[method-assign, assignment]


def test_writes_move_to_a_thread_while_the_disk_is_slow(tmp_path):
    """And back when it is quick again; not for one slow commit among many."""

    async def scenario() -> None:
        disk = SlowDisk()
        store = SqliteStore(str(tmp_path / "runs.db"), clock=disk)
        await store.open()
        watch = ThreadWatch(store)
        for number, seconds in enumerate([0.0001] * 5 + [0.01] * 5 + [0.0001] * 20):
            disk.seconds = seconds
            await store.commit([create(number)])
        assert watch.threads[:7] == [False] * 7
        assert watch.threads[9]
        assert not watch.threads[-1]
        assert len(await store.runs(RunFilter())) == 30
        await store.close()

    asyncio.run(scenario())


def test_reads_and_more_writes_go_on_while_a_write_waits(tmp_path):
    """Reads see what is committed; the writes happen in the order they were asked for."""

    async def scenario() -> None:
        store, other = await store_and_its_lock(tmp_path)
        commits = [asyncio.create_task(store.commit([create(number)])) for number in range(1, 4)]
        await asyncio.sleep(0)
        assert [run.id for run in await store.runs(RunFilter())] == ["run_0"]
        assert [event.seq for event in await store.events("run_0")] == [1]
        assert await store.slots() == 16
        assert not any(commit.done() for commit in commits)
        other.execute("rollback")
        assert await asyncio.gather(*commits) == [[None]] * 3
        assert [run.id for run in await store.runs(RunFilter())] == ["run_3", "run_2", "run_1", "run_0"]
        other.close()
        await store.close()

    asyncio.run(scenario())


def test_who_stops_waiting_does_not_stop_the_write(tmp_path):
    """A cancelled commit still happens, whole, and closing waits for it."""

    async def scenario() -> None:
        store, other = await store_and_its_lock(tmp_path)
        commit = asyncio.create_task(store.commit([create(1)]))
        await asyncio.sleep(0)
        commit.cancel()
        with pytest.raises(asyncio.CancelledError):
            await commit
        other.execute("rollback")
        other.close()
        await store.close()
        await store.open()
        assert len(await store.runs(RunFilter())) == 2
        await store.close()

    asyncio.run(scenario())


async def store_and_its_lock(tmp_path):
    """A store with one run, and another connection that holds its write lock."""
    store = SqliteStore(str(tmp_path / "runs.db"))
    await store.open()
    await store.commit([create(0)])
    other = apsw.Connection(str(tmp_path / "runs.db"))
    other.execute("begin immediate")
    return store, other


def create(number: int) -> Transaction:
    """A new run with its first event."""
    run = Run(f"run_{number}", "buyer", "v1", None, "buyer/1", RunStatus.QUEUED, 1, 1)
    return Transaction(create=[NewRun(run, [Event(run.id, 1, "run.queued", 1, None, None, "{}")])])
