"""The test bench: a store in use, with one claimed shard and short ways to write to it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from perdure.store.contract import Fence, NewRun, Node, RunUpdate, Signal, Store, Transaction
from perdure.testing.clock import FakeClock
from perdure.values.clock import Clock
from perdure.values.events import Event
from perdure.values.runs import Run, RunStatus

SHARD = "buyer/1"
LEASE_SECONDS = 10.0

Outcome = Exception | list[int] | None


class Bench:
    """One open store, whose shard `buyer/1` is claimed by `node_a`."""

    def __init__(self, store: Store, clock: FakeClock, fence: Fence, beside: Callable[[], Store]) -> None:
        self.store = store
        self.clock = clock
        self.fence = fence
        #: another store on the same data, as a second process would open it
        self.beside = beside

    async def commit(self, *batch: Transaction) -> list[Outcome]:
        """What became of each transaction."""
        return await self.store.commit(batch)

    async def commit_one(self, **parts: Any) -> Outcome:
        """What became of one transaction under our fence."""
        [outcome] = await self.store.commit([Transaction(fence=self.fence, **parts)])
        return outcome

    async def queue(self, id: str = "run_1", **fields: Any) -> Run:
        """A new run with its first event."""
        run = self.new_run(id, **fields)
        self.must([*await self.store.commit([Transaction(create=[self.queued(run)])])])
        return run

    async def begin(self, id: str = "run_1", status: RunStatus = RunStatus.RUNNING, **fields: Any) -> Run:
        """A run that has begun, with the events 1 and 2."""
        run = await self.queue(id, **fields)
        await self.append(id, 2, "run.started")
        await self.move(id, status)
        return run

    async def append(self, run: str, first: int, *types: str, **fields: Any) -> None:
        """Events of a run from `first` on."""
        events = [self.event(run, seq, kind, **fields) for seq, kind in enumerate(types, first)]
        self.must([await self.commit_one(events=events)])

    async def move(self, run: str, status: RunStatus, **fields: Any) -> None:
        """A run's new status."""
        self.must([await self.commit_one(updates={run: self.update(status, **fields)})])

    def new_run(self, id: str, **fields: Any) -> Run:
        """A queued run of our shard, not yet stored."""
        now = self.clock.now_us()
        defaults: dict[str, Any] = {
            "agent": "buyer", "version": "v1", "session": None, "shard": SHARD, "status": RunStatus.QUEUED,
            "created": now, "updated": now,
        }  # fmt: skip
        return Run(id=id, **defaults | fields)

    def queued(self, run: Run, *, session_must_be_free: bool = False) -> NewRun:
        """A run with its first event, as `create` takes it."""
        return NewRun(run, [self.event(run.id, 1, "run.queued")], session_must_be_free)

    def event(
        self, run: str, seq: int, type: str = "progress", *, step: int | None = None, raw: str = '{"a":1}'
    ) -> Event:
        """An event of now."""
        return Event(run, seq, type, self.clock.now_us(), step, None if step is None else 1, raw)

    def update(self, status: RunStatus, **fields: Any) -> RunUpdate:
        """New row values as of now."""
        return RunUpdate(status, self.clock.now_us(), **fields)

    async def signals(self, *shards: str) -> list[Signal]:
        """What waits for these shards, or for ours."""
        found, _ = await self.store.signals(shards or [SHARD])
        return found

    async def beat(self, *nodes: str) -> list[str]:
        """These nodes are there for a lease from now; who is alive then."""
        living: list[Node] = []
        for name in nodes:
            living = await self.store.beat(self.node(name), LEASE_SECONDS)
        return [node.id for node in living]

    def node(self, id: str, **fields: Any) -> Node:
        """What a node says of itself."""
        defaults: dict[str, Any] = {"place": f"host:{id}", "started": 1, "programs": ()}
        return Node(id, **defaults | fields)

    async def seqs(self, run: str = "run_1") -> list[int]:
        """The numbers of a run's events."""
        return [event.seq for event in await self.store.events(run)]

    @staticmethod
    def must(outcomes: Sequence[Outcome]) -> None:
        """Nothing was refused."""
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome


Scenario = Callable[[Bench], Awaitable[None]]


class StoreTests:
    """What the tests of every topic need."""

    def make_store(self, path: Path, clock: Clock) -> Store:
        """A store whose data lives below `path`, not yet open."""
        raise NotImplementedError

    def beside(self, store: Store, path: Path, clock: Clock) -> Store:
        """What a second process would use on the same data."""
        return self.make_store(path, clock)

    def play(self, path: Path, scenario: Scenario) -> None:
        """Run a scenario on a fresh store."""

        async def stage() -> None:
            clock = FakeClock()
            store = self.make_store(path, clock)
            await store.open()
            try:
                [lease] = await store.claim("node_a", [SHARD], LEASE_SECONDS)
                await scenario(Bench(store, clock, Fence(*lease), lambda: self.beside(store, path, clock)))
                assert await store.check() == []
            finally:
                await store.close()

        asyncio.run(stage())
