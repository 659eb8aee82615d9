"""The power fails at every moment of a store's work: nothing acknowledged is lost, nothing is half there."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from perdure.errors import Fenced
from perdure.store import SqliteStore
from perdure.store.contract import Fence, NewRun, RunFilter, RunUpdate, Signal, Store, Transaction
from perdure.store.sqlite import log
from perdure.testing.power import Blackout, Recorder, blackouts
from perdure.values.events import Event
from perdure.values.runs import Run, RunStatus

SHARD = "buyer/1"
NAME = "runs.db"

#: Cuts of one recorded piece of work; ten pieces of work make the 5,000 of the gate.
CUTS = 500


@pytest.fixture(autouse=True)
def _small_log(monkeypatch):
    """A few commits fill the log: it is copied, begun anew and outgrows its room again and again."""
    monkeypatch.setattr(log, "_PAGES_MAX", 15)
    monkeypatch.setattr(log, "_ROOM", 200_000)


@pytest.fixture
def disk() -> Iterator[Path]:
    """A directory in memory where the system has one: power cuts are simulated, real syncs would only be slow."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as directory:
        yield Path(directory)


@pytest.mark.parametrize(
    "seed", [pytest.param(0), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 10))]
)
def test_a_store_survives_power_cuts(disk, monkeypatch, seed):
    """After each cut the store holds what one of its commits left: the last acknowledged one, or the one under way."""
    dice = Random(seed)
    monkeypatch.setattr(log, "_PAGES_MAX", dice.choice([4, 15, 60]))
    work = asyncio.run(record(disk, dice))
    losses = asyncio.run(lose_power(disk, work, dice, CUTS))
    assert losses == []


@pytest.mark.slow
def test_a_store_survives_power_cuts_while_it_recovers(disk):
    """The second cut hits the first work after a cut: opening, claiming, appending, closing."""
    dice = Random(77)
    work = asyncio.run(record(disk, dice))
    losses = []
    for cut in dice.sample(list(blackouts(work.log, dice)), 20):
        again = asyncio.run(record_recovery(disk, work, cut))
        losses += asyncio.run(lose_power(disk, again, dice, 25, before=cut.files))
    assert losses == []


def test_the_cuts_find_a_store_that_syncs_too_little(disk):
    """With synchronous=NORMAL acknowledged commits are lost, and this test can see it; nothing is corrupt even then."""
    dice = Random(0)
    work = asyncio.run(record(disk, dice, synchronous="normal"))
    losses = asyncio.run(lose_power(disk, work, dice, CUTS))
    assert len(losses) > CUTS / 20
    assert all("lost" in loss for loss in losses)


class Work:
    """A recording, and what the store held after each of its commits."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.log = recorder.log
        self.states: list[Any] = []

    async def acknowledge(self, store: Store) -> None:
        """The last commit returned."""
        self.states.append(await contents(store))
        self.recorder.mark(len(self.states) - 1)


async def record(disk: Path, dice: Random, synchronous: str = "extra") -> Work:
    """Forty commits of all kinds, closing and opening the store in between."""
    (disk / "work").mkdir()
    path = str(disk / "work" / NAME)
    with Recorder() as recorder:
        work = Work(recorder)
        plan = Plan(dice)
        for _ in range(2):
            store = SqliteStore(path, vfs=recorder.vfs)
            await store.open()
            store._database._usable().pragma("synchronous", synchronous)
            await work.acknowledge(store)
            [lease] = await store.claim("node_a", [SHARD], 60)
            await work.acknowledge(store)
            for _ in range(20):
                outcomes = await store.commit(plan.batch(Fence(*lease)))
                assert not [
                    outcome
                    for outcome in outcomes
                    if isinstance(outcome, Exception) and not isinstance(outcome, Fenced)
                ]
                await work.acknowledge(store)
            await store.release("node_a", [lease])
            await work.acknowledge(store)
            await store.close()
    return work


async def record_recovery(disk: Path, before: Work, cut: Blackout) -> Work:
    """The first work after a cut."""
    directory = disk / "recovery"
    directory.mkdir(exist_ok=True)
    cut.write_to(directory)
    with Recorder() as recorder:
        work = Work(recorder)
        store = SqliteStore(str(directory / NAME), vfs=recorder.vfs)
        await store.open()
        await work.acknowledge(store)
        leases = await store.claim("node_b", [SHARD], 60)
        await work.acknowledge(store)
        for number in range(3):
            await store.commit([Transaction(create=[new_run(f"run_after_{number}")])])
            await work.acknowledge(store)
        await store.release("node_b", leases)
        await work.acknowledge(store)
        await store.close()
    assert work.states[0] in before.states
    return work


async def lose_power(
    disk: Path, work: Work, dice: Random, cuts: int, before: dict[str, bytes] | None = None
) -> list[str]:
    """Cut the power that often, at moments all over the recording; what was found wrong afterwards."""
    losses: list[str] = []
    (disk / "cut").mkdir(exist_ok=True)
    done = 0
    while done < cuts:
        for cut in blackouts(work.log, dice, before):
            if dice.random() < cuts / len(work.log) and done < cuts:
                cut.write_to(disk / "cut")
                losses += [
                    f"moment {cut.moment}: {loss}" for loss in await losses_after(cut, work, disk / "cut" / NAME)
                ]
                done += 1
    return losses


async def losses_after(cut: Blackout, work: Work, path: Path) -> list[str]:
    """What is wrong with the store that comes up again."""
    store = SqliteStore(str(path))
    await store.open()
    try:
        problems = await store.check()
        found = await contents(store)
    finally:
        await store.close()
    if problems:
        return [f"corrupt: {problems}"]
    if found not in work.states:
        return ["half done: the store never held this"]
    newest = len(work.states) - 1 - work.states[::-1].index(found)
    told = -1 if cut.told is None else cut.told
    return [f"lost: back at commit {newest}, {told} was acknowledged"] if newest < told else []


async def contents(store: Store) -> Any:
    """All that a store says about its runs."""
    runs = await store.runs(RunFilter(limit=1000))
    return (
        runs,
        [await store.events(run.id) for run in runs],
        await store.signals([SHARD]),
        await store.state("buyer", "s"),
        [(shard.owner, shard.epoch) for shard in await store.shards()],
    )


class Plan:
    """Batches that a kernel might commit, by the dice."""

    def __init__(self, dice: Random) -> None:
        self._dice = dice
        self._ends: dict[str, int] = {}
        self._now = 1_000

    def batch(self, fence: Fence) -> list[Transaction]:
        """One to six transactions; one may be refused."""
        transactions = [self._transaction(fence) for _ in range(self._dice.randint(1, 6))]
        if self._dice.random() < 1 / 4:
            stale = Transaction(fence=Fence(SHARD, 0), state=("buyer", "s", {"stale": "1"}))
            transactions.insert(self._dice.randint(0, len(transactions)), stale)
        return transactions

    def _transaction(self, fence: Fence) -> Transaction:
        self._now += 1
        if len(self._ends) < 2 or self._dice.random() < 1 / 5:
            run = f"run_{len(self._ends)}"
            self._ends[run] = 1
            return Transaction(create=[new_run(run)])
        run = self._dice.choice(list(self._ends))
        events = [self._event(run) for _ in range(self._dice.randint(1, 3))]
        work = Transaction(fence=fence, events=events)
        if self._dice.random() < 1 / 3:
            status = self._dice.choice([RunStatus.RUNNING, RunStatus.WAITING])
            work.updates = {run: RunUpdate(status, self._now, wake_at=self._now + 50)}
        if self._dice.random() < 1 / 3:
            work.signals = [Signal("buyer", "s", run, "message", "{}", SHARD, self._now)]
        if self._dice.random() < 1 / 3:
            work.state = ("buyer", "s", {f"key_{self._dice.randint(0, 3)}": str(self._now)})
        return work

    def _event(self, run: str) -> Event:
        self._ends[run] += 1
        size = self._dice.choice([10, 100, 1_000, 20_000])
        return Event(run, self._ends[run], "progress", self._now, None, None, '{"a":"' + "x" * size + '"}')


def new_run(id: str) -> NewRun:
    """A run with its first event."""
    run = Run(id, "buyer", "v1", None, SHARD, RunStatus.QUEUED, 1, 1)
    return NewRun(run, [Event(id, 1, "run.queued", 1, None, None, "{}")])
