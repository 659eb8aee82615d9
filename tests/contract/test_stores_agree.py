"""Stores that share no logic are asked the same things: they accept, refuse and answer alike."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from perdure.errors import PerdureError
from perdure.store import MemoryStore, SqliteStore
from perdure.store.contract import (
    Ask,
    AskClose,
    Document,
    Fence,
    NewRun,
    Node,
    Queue,
    QuotaWish,
    RateWish,
    RunFilter,
    RunUpdate,
    Signal,
    Statement,
    Store,
    Transaction,
)
from perdure.store.postgres import PostgresStore
from perdure.testing.clock import FakeClock
from perdure.values.events import Event
from perdure.values.runs import Run, RunStatus

SHARDS = ["a/0", "a/1", "b/0"]
AGENTS = ["a", "b"]
#: A session lives in one shard.
SESSIONS = {"a/0": "s", "a/1": "t", "b/0": "s"}
NODES = ["node_a", "node_b"]


@pytest.fixture
def disk() -> Iterator[Path]:
    """A directory in memory where the system has one."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as directory:
        yield Path(directory)


@pytest.mark.parametrize("block", [0, *(pytest.param(block, marks=pytest.mark.slow) for block in range(1, 4))])
def test_memory_and_sqlite_agree(disk, block):
    """Twenty seeds of sixty calls each, right and wrong ones mixed."""
    accepted = 0
    for seed in range(block * 20, block * 20 + 20):
        accepted += asyncio.run(compare(lambda clock: SqliteStore(str(disk / f"{seed}.db"), clock=clock), Random(seed)))  # noqa: B023
    assert accepted > 20 * 20


@pytest.mark.slow
@pytest.mark.parametrize("block", range(4))
def test_memory_and_postgres_agree(postgres_databases, block):
    """Eight seeds of sixty calls each, right and wrong ones mixed."""
    accepted = 0
    for seed in range(block * 8, block * 8 + 8):
        make = partial(PostgresStore, postgres_databases())
        accepted += asyncio.run(compare(lambda clock: make(clock=clock), Random(seed), one_by_one=False))  # noqa: B023
    assert accepted > 8 * 20


class Numbered:
    """A store whose signals have numbers of its own (refused ones may use some up), seen with those of another store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        #: the other store's number -> ours
        self.own: dict[int, int] = {}

    async def commit(self, batch: list[Transaction]) -> list[Any]:
        """What became of each, in our numbers."""
        return await self.store.commit(
            [replace(work, consume=[self.own.get(id, id) for id in work.consume]) for work in batch]
        )

    def learn(self, outcomes: list[Any], ours: list[Any]) -> None:
        """The other store gave these numbers where we gave those."""
        for theirs, own in zip(outcomes, ours, strict=True):
            if isinstance(theirs, list) and isinstance(own, list):
                self.own.update(zip(theirs, own, strict=True))

    def named(self, signals: list[Signal]) -> list[Signal]:
        """Signals with the other store's numbers."""
        theirs = {own: their for their, own in self.own.items()}
        return [replace(signal, id=theirs[signal.id]) for signal in signals]


async def compare(make: Callable[[FakeClock], Store], dice: Random, *, one_by_one: bool = True) -> int:
    """Do the same to one in memory and to this one; how many transactions were accepted."""
    clock = FakeClock()
    both = [Numbered(MemoryStore(clock=clock)), Numbered(make(clock))]
    stores = [one.store for one in both]
    for store in stores:
        await store.open()
    client = Client(dice, clock)
    for shard in SHARDS:
        await client.own(stores, "claim", shard)
    accepted = 0
    for _ in range(60):
        await clock.advance(dice.choice([0, 0, 0, 1, 20]))
        if dice.random() < 1 / 4:
            await client.meet(stores)
        elif dice.random() < 1 / 5:
            await client.own(stores, dice.choice(["claim"] * 3 + ["renew", "release"]), dice.choice(SHARDS))
        else:
            batch = [client.transaction() for _ in range(dice.randint(1, 4))]
            outcomes = [await one.commit(batch) for one in both]
            views = [[seen(outcome, one_by_one=one_by_one) for outcome in ours] for ours in outcomes]
            assert views[0] == views[1], outcomes
            for one, ours in zip(both, outcomes, strict=True):
                one.learn(outcomes[0], ours)
            accepted += sum(not isinstance(outcome, Exception) for outcome in outcomes[0])
            for transaction, outcome in zip(batch, outcomes[0], strict=True):
                client.learn(transaction, outcome)
        first, second = [await answers(one, client) for one in both]
        assert first == second
    for store in stores:
        assert await store.check() == []
        await store.close()
    return accepted


def seen(outcome: object, *, one_by_one: bool) -> object:
    """Whether signals were put, or the kind of a refusal: each store may use its own numbers and words.

    Of a transaction with two faults a store that does not look at its parts `one_by_one` may name either.
    """
    if isinstance(outcome, list):
        return [bool(id) for id in outcome]
    if isinstance(outcome, Exception):
        return type(outcome) if one_by_one else "refused"
    return outcome


async def answers(one: Numbered, client: Client) -> list[Any]:
    """What a store says to every question."""
    store, until = one.store, client.clock.now_us()
    found: list[Any] = [await store.run(run) for run in client.ends]
    found += [await store.events(run) for run in client.ends]
    found += [one.named(await store.run_signals(run)) for run in client.ends]
    for agent in AGENTS:
        for session in ("s", "t"):
            found += [await store.session_active(agent, session), await store.session_next(agent, session)]
            found += [await store.state(agent, session), await store.runs(RunFilter(agent=agent, session=session))]
        found += [await store.run_by_key(agent, "key"), await store.queues(agent, 2)]
        found.append(await store.queues(agent, 2, after=Queue(agent, 1, "t")))
    queues = [queue for agent in AGENTS for queue in await store.queues(agent, 99)]
    for shards in (SHARDS, SHARDS[:1], []):
        found += [await store.active(shards), await store.due(shards, until, 3)]
        pages = await store.ready(shards, dict.fromkeys(queues), 2, programs=[("a", "v1")])
        more = {page.queue: page.after for page in pages if page.after is not None}
        found += [page.runs for page in [*pages, *await store.ready(shards, more, 2)]]
        found += [await store.next_due(shards), one.named((await store.signals(shards, limit=3))[0])]
    found += [await store.runs(RunFilter(limit=5)), await store.asks(), await store.asks(to="ann", status=None)]
    found += [await store.shards(), await store.nodes(), await store.backlog(until)]
    found += [await store.sessions(), await store.sessions(agent="b"), await store.sessions(after=("a", "s"), limit=1)]
    found += [
        await store.documents("key"),
        await store.documents("key", after="x", limit=1),
        await store.document("key", "y"),
    ]
    return found


class Client:
    """Makes calls by the dice, knowing enough to make most of them right."""

    def __init__(self, dice: Random, clock: FakeClock) -> None:
        self.dice = dice
        self.clock = clock
        #: run -> number of its last event
        self.ends: dict[str, int] = {}
        self.shard_of: dict[str, str] = {}
        self.epochs: dict[str, int] = dict.fromkeys(SHARDS, 0)
        self.owners: dict[str, str] = {}
        self.signals: list[int] = []
        self.asks: list[str] = []

    async def own(self, stores: list[Store], kind: str, shard: str) -> None:
        """Claim, renew or release, on all stores."""
        node, held = self.dice.choice(NODES), self.epochs[shard]
        results: list[Any] = []
        for store in stores:
            if kind == "claim":
                results.append(await store.claim(node, [shard], 30))
            elif kind == "renew":
                results.append(await store.renew(node, [_lease(shard, held)], 30))
            else:
                await store.release(node, [_lease(shard, held)])
                results.append([])
        assert results[0] == results[1]
        for name, epoch in results[0]:
            self.epochs[name] = epoch

    async def meet(self, stores: list[Store]) -> None:
        """Something that nodes do among themselves, on all stores."""
        node = self.dice.choice(NODES)
        match self.dice.choice(
            ["beat"] * 2 + ["share"] * 2 + ["take"] * 2 + ["put"] * 3 + ["drop", "leave", "ask_drain"]
        ):
            case "beat":
                said = Node(node, "here", 1, (("a", "v1"),), self.dice.random() < 1 / 4)
                results: list[Any] = [await store.beat(said, 30) for store in stores]
            case "share":
                using, wanted = self.dice.randint(0, 3), self.dice.randint(0, 6)
                wishes = [QuotaWish(name, self.dice.choice([5, 5, 2]), using, wanted) for name in AGENTS]
                results = [await store.share(node, wishes) for store in stores]
            case "take":
                rates = [
                    RateWish("a", self.dice.choice([3, 3, 4]), 7.0, self.dice.randint(0, 4)),
                    RateWish("b", 5, 30, 2),
                ]
                results = [await store.take(rates) for store in stores]
            case "put":
                expires = self.dice.choice([None, self.now() + 5_000_000])
                kept = Document("key", self.dice.choice("xyz"), "{}", self.dice.randint(0, 2), expires)
                results = [await store.put_document(kept) for store in stores]
            case "drop":
                meant = self.dice.choice("xyz"), self.dice.choice([None, 1, 2])
                results = [await store.drop_document("key", *meant) for store in stores]
            case "leave":
                results = [await store.leave(node) for store in stores]  # type: ignore[func-returns-value]
            case _:
                results = [await _refusal(store.ask_drain(node)) for store in stores]
        assert results[0] == results[1]

    def transaction(self) -> Transaction:
        """One to three things at once."""
        shard = self.dice.choice(SHARDS)
        epoch = self.epochs[shard] - (self.dice.random() < 0.05)
        work = Transaction(fence=None if self.dice.random() < 0.05 else Fence(shard, epoch))
        for _ in range(self.dice.randint(1, 3)):
            self.dice.choice([self.create, self.append, self.append, self.move, self.move, self.tell, self.ask])(
                work, shard
            )
        if self.dice.random() < 0.1:
            work.state = (self.dice.choice(AGENTS), "s", {self.dice.choice("xy"): self.dice.choice([None, "1", "2"])})
        if self.dice.random() < 0.05:
            work.statements = [
                Statement(self.dice.choice(["create table t (a integer unique)", "insert into t values (1)"]))
            ]
        return work

    def create(self, work: Transaction, shard: str) -> None:
        run, agent = f"run_{self.dice.randint(0, 12)}", shard[0]
        fork = self.dice.choice(list(self.ends)) if self.ends and self.dice.random() < 0.2 else None
        shared = self.dice.randint(1, self.ends[fork] + (self.dice.random() < 0.1)) if fork else 0
        row = Run(
            run, agent, "v1", self.dice.choice([SESSIONS[shard], None]), shard,
            self.dice.choice([RunStatus.QUEUED] * 5 + [RunStatus.PAUSED]), self.now(), self.now(),
            priority=self.dice.randint(0, 2), concurrency_key=self.dice.choice([None, None, "t"]),
            idempotency_key="key" if self.dice.random() < 0.1 else None,
            forked_from=(fork, shared) if fork else None,
        )  # fmt: skip
        must_be_free = self.dice.random() < 0.2
        work.create = [*work.create, NewRun(row, [self.event(run, shared + 1)], must_be_free)]

    def append(self, work: Transaction, shard: str) -> None:
        run = self.some_run(shard)
        planned = sum(event.run == run for event in work.events)
        gap = self.dice.random() < 0.03
        work.events = [*work.events, self.event(run, self.ends.get(run, 0) + planned + 1 + gap)]

    def move(self, work: Transaction, shard: str) -> None:
        status = self.dice.choice([*RunStatus, RunStatus.RUNNING, RunStatus.WAITING, RunStatus.WAITING])
        wake_at = self.dice.choice([None, self.now(), self.now() + 10_000_000])
        work.updates = {
            **work.updates,
            self.some_run(shard): RunUpdate(
                status,
                self.now(),
                "why",
                {"kind": self.dice.choice(["x", "pause"])},
                wake_at,
                self.dice.choice([None, 2]),
            ),
        }

    def tell(self, work: Transaction, shard: str) -> None:
        if self.signals and self.dice.random() < 1 / 2:
            work.consume = [*work.consume, self.dice.choice(self.signals)]
        else:
            run = self.dice.choice([None, self.some_run(shard)])
            signal = Signal(shard[0], SESSIONS[shard], run, "message", "{}", shard, self.now())
            work.signals = [*work.signals, signal]

    def ask(self, work: Transaction, shard: str) -> None:
        if self.asks and self.dice.random() < 1 / 2:
            close = AskClose(
                self.dice.choice(self.asks), "answered", self.now(), "1", lenient=self.dice.random() < 1 / 4
            )
            work.close_asks = [*work.close_asks, close]
        else:
            run = self.some_run(shard)
            ask = Ask(
                f"{run}:{self.dice.randint(1, 3)}", run, shard[0], None, shard, 1, "ask", "?", "{}", "ann", self.now()
            )
            work.open_asks = [*work.open_asks, ask]

    def learn(self, work: Transaction, outcome: Any) -> None:
        """Remember what was accepted."""
        if isinstance(outcome, Exception):
            return
        self.signals += [signal for signal in outcome or [] if signal]
        self.asks += [ask.id for ask in work.open_asks]
        for event in work.events:
            self.ends[event.run] = event.seq
        for new in work.create:
            self.ends[new.run.id] = new.events[-1].seq
            self.shard_of[new.run.id] = new.run.shard

    def some_run(self, shard: str) -> str:
        """Mostly one of the shard."""
        runs = [run for run in self.ends if self.shard_of[run] == shard]
        return self.dice.choice(runs) if runs and self.dice.random() < 0.95 else f"run_{self.dice.randint(0, 12)}"

    def event(self, run: str, seq: int) -> Event:
        step = self.dice.choice([None, None, 1, 2, 5])
        return Event(run, seq, self.dice.choice(["progress", "custom.x"]), self.now(), step, step and 1, "{}")

    def now(self) -> int:
        return self.clock.now_us()


async def _refusal(call: Awaitable[None]) -> type[PerdureError] | None:
    try:
        await call
    except PerdureError as error:
        return type(error)
    return None


def _lease(shard: str, epoch: int) -> Any:
    return Fence(shard, epoch)
