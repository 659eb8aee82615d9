"""Members: what a store must do to be one of several databases (`perdure.store.member.Member`).

class TestMyStoreAsMember(MemberConformance):
    def make_store(self, path: Path, clock: Clock) -> Member:
        return MyStore(path / "runs.db", clock=clock)
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from perdure.errors import AlreadyExists, AlreadySettled, Fenced, ShardMoved
from perdure.store.contract import Ask, AskClose, Cursor, Fence, NewRun, RunFilter, Signal, Transaction
from perdure.store.exchange import Delivery, Exchange, Note, Parcel
from perdure.store.member import Member
from perdure.testing.clock import FakeClock
from perdure.testing.store_conformance.bench import LEASE_SECONDS, SHARD, Bench
from perdure.values.clock import Clock
from perdure.values.runs import RunStatus

OTHER = "buyer/2"
ASK = Ask("run_1:1", "run_1", "buyer", "s", SHARD, 1, "ask", "Spend it?", "{}", "finance", 5, 9)

Scenario = Callable[[Bench, Member, Member], Awaitable[None]]


class MemberConformance:
    """All of it. `bench` writes to the first of two new stores, which owns `buyer/1` there."""

    def make_store(self, path: Path, clock: Clock) -> Member:
        """A store whose data lives below `path`, not yet open."""
        raise NotImplementedError

    def make_other(self, path: Path, clock: Clock) -> Member:
        """The store that shards are moved to; of another kind if you like."""
        return self.make_store(path, clock)

    def test_a_note_is_written_only_over_what_it_was(self, tmp_path: Path) -> None:
        """Compare and set, once each; refused, its whole transaction changes nothing."""

        async def scenario(bench: Bench, here: Member, _: Member) -> None:
            first, second = await _exchange(here, *(Exchange(notes=[Note("k", "n", text)]) for text in "ab"))
            assert first is None
            assert isinstance(second, AlreadyExists)
            assert await here.notes("k") == {"n": "a"}
            both = Exchange(notes=[Note("k", "m", "x"), Note("k", "n", "b", was="z")])
            assert isinstance((await _exchange(here, both))[0], AlreadyExists)
            assert await here.notes("k") == {"n": "a"}
            await _exchange(here, Exchange(notes=[Note("k", "n", "b", was="a"), Note("k", "o", "c")]))
            assert await here.notes("k") == {"n": "b", "o": "c"}
            assert await here.notes("k", "o") == {"o": "c"}
            await _exchange(here, Exchange(notes=[Note("k", "n", None, was="b")]))
            assert await here.notes("k", "n") == {}
            assert await here.notes("other") == {}
            await bench.queue("run_1")
            taken = Transaction(
                create=[bench.queued(bench.new_run("run_1"))], exchange=Exchange(notes=[Note("k", "p", "1")])
            )
            assert isinstance((await here.commit([taken]))[0], AlreadyExists)
            assert await here.notes("k", "p") == {}

        self.play(tmp_path, scenario)

    def test_parcels_wait_in_order_until_they_are_taken_out_once(self, tmp_path: Path) -> None:
        """Numbers grow, also after all were taken out; what goes with a refused transaction is not posted."""

        async def scenario(bench: Bench, here: Member, _: Member) -> None:
            post = Exchange(post=[Parcel(OTHER, SHARD, "one"), Parcel(OTHER, "", "two")])
            assert await _exchange(here, post) == [None]
            stale = Transaction(fence=Fence(SHARD, 99), exchange=post)
            assert isinstance((await here.commit([stale]))[0], Fenced)
            first, second = await here.parcels()
            assert [(parcel.shard, parcel.sender, parcel.body) for parcel in (first, second)] == [
                (OTHER, SHARD, "one"), (OTHER, "", "two"),
            ]  # fmt: skip
            assert 0 < first.number < second.number
            assert await here.parcels(limit=1) == [first]
            taken, again = await _exchange(here, *[Exchange(unpost=[(OTHER, first.number)])] * 2)
            assert taken is None
            assert isinstance(again, AlreadySettled)
            await _exchange(here, Exchange(unpost=[(OTHER, second.number)]))
            assert await here.parcels() == []
            await _exchange(here, post)
            assert (await here.parcels())[0].number > second.number
            assert await bench.seqs() == []

        self.play(tmp_path, scenario)

    def test_a_parcel_is_delivered_once_and_none_after_a_later_one(self, tmp_path: Path) -> None:
        """By sender and shard; a signal for a run that has not come yet waits for it."""

        async def scenario(bench: Bench, here: Member, _: Member) -> None:
            early = Signal("buyer", None, "run_1", "message", "{}", SHARD, 5)
            kinds = []
            for delivery in (Delivery("x", SHARD, 3), Delivery("x", SHARD, 3), Delivery("x", SHARD, 2),
                             Delivery("y", SHARD, 2), Delivery("x", OTHER, 1), Delivery("x", SHARD, 4)):  # fmt: skip
                [outcome] = await here.commit([Transaction(signals=[early], exchange=Exchange(deliver=delivery))])
                kinds.append(type(outcome))
            assert kinds == [list, AlreadySettled, AlreadySettled, list, list, list]
            await bench.queue("run_1")
            assert len(await here.run_signals("run_1")) == 4

        self.play(tmp_path, scenario)

    def test_a_frozen_shard_does_not_change(self, tmp_path: Path) -> None:
        """Its owner is fenced, nobody can claim it, and what comes from elsewhere is refused; other shards go on."""

        async def scenario(bench: Bench, here: Member, _: Member) -> None:
            await _live(bench)
            epoch = await here.freeze_shard(SHARD, 1)
            assert epoch > bench.fence.epoch
            assert isinstance(await bench.commit_one(events=[bench.event("run_1", 4)]), Fenced)
            refused = await here.commit([
                Transaction(create=[bench.queued(bench.new_run("run_9"))]),
                Transaction(signals=[Signal("buyer", "s", None, "message", "{}", SHARD, 5)]),
                Transaction(close_asks=[AskClose("run_1:1", "answered", 7)]),
                Transaction(exchange=Exchange(notes=[Note("key", "n", "v", shard=SHARD)])),
            ])  # fmt: skip
            assert [(type(outcome), getattr(outcome, "shard", None)) for outcome in refused] == [
                (ShardMoved, SHARD)
            ] * 4
            await bench.queue("run_8", shard=OTHER)
            await bench.clock.advance(10 * LEASE_SECONDS)
            assert await here.claim("node_b", [SHARD], 10) == []
            await here.thaw_shard(SHARD, 1, epoch + 5)
            [lease] = await here.claim("node_b", [SHARD], 10)
            assert lease.epoch > epoch + 5
            [outcome] = await here.commit([Transaction(fence=Fence(*lease), events=[bench.event("run_1", 4)])])
            assert outcome is None

        self.play(tmp_path, scenario)

    def test_only_the_last_move_goes_on(self, tmp_path: Path) -> None:
        """Whoever was asleep meanwhile can neither freeze, add, drop nor open, even after the shard was opened."""

        async def scenario(bench: Bench, here: Member, _: Member) -> None:
            await _live(bench)
            await here.freeze_shard(SHARD, 2)
            await here.freeze_shard(SHARD, 3)
            page, _cursor = await here.export_shard(SHARD)
            late: list[Callable[[], Awaitable[Any]]] = [
                lambda: here.freeze_shard(SHARD, 2),
                lambda: here.import_shard(SHARD, 2, page),
                lambda: here.drop_shard(SHARD, 2),
                lambda: here.thaw_shard(SHARD, 2, 0),
            ]
            for call in late:
                with pytest.raises(ShardMoved):
                    await call()
            await here.thaw_shard(SHARD, 3, 0)
            for call in late:
                with pytest.raises(ShardMoved):
                    await call()
            assert await bench.seqs() == [1, 2, 3]

        self.play(tmp_path, scenario)

    @pytest.mark.parametrize("limit", [1, 3, 500])
    def test_a_shard_is_the_same_elsewhere(self, tmp_path: Path, limit: int) -> None:
        """Runs, journals, signals, asks, state and notes arrive as they were, page by page; other shards stay."""

        async def scenario(bench: Bench, here: Member, there: Member) -> None:
            await _live(bench)
            before = await _world(here)
            await here.freeze_shard(SHARD, 1)
            await _copy(here, there, limit)
            await here.drop_shard(SHARD, 1)
            assert await _world(there) == before
            assert await _world(here) == [[], {}, [], [], {}]
            assert [run.id for run in await here.runs(RunFilter())] == ["run_3"]
            await there.thaw_shard(SHARD, 1, 7)
            [lease] = await there.claim("node_b", [SHARD], 10)
            [outcome] = await there.commit([Transaction(fence=Fence(*lease), events=[bench.event("run_1", 4)])])
            assert outcome is None
            again = Exchange(deliver=Delivery("x", SHARD, 3))
            assert isinstance((await _exchange(there, again))[0], AlreadySettled)
            await bench.queue("run_4", shard=OTHER)
            assert [run.id for run in await here.runs(RunFilter(before="run_4"))] == ["run_3"]
            assert await here.held() == [SHARD, OTHER]
            assert await there.held() == [SHARD]
            assert [*await here.check(), *await there.check()] == []

        self.play(tmp_path, scenario)

    def test_forks_keep_their_past_wherever_they_are(self, tmp_path: Path) -> None:
        """One that stays has what it shared with a run that left, and one that leaves what it shared with one that stays."""

        async def scenario(bench: Bench, here: Member, there: Member) -> None:
            await bench.begin("run_1")
            await bench.append("run_1", 3, "step.started", step=4)
            await bench.queue("run_2", shard=OTHER)
            for name, origin, shard in (
                ("stays", "run_1", OTHER),
                ("follows", "stays", OTHER),
                ("leaves", "run_2", SHARD),
            ):
                at = 1 if origin == "run_2" else 3
                run = bench.new_run(name, shard=shard, forked_from=(origin, at))
                bench.must(
                    await bench.commit(Transaction(create=[NewRun(run, [bench.event(name, at + 1, "run.forked")])]))
                )
            journals = {name: await here.events(name) for name in ("run_1", "stays", "follows", "leaves")}
            await here.freeze_shard(SHARD, 1)
            await _copy(here, there, 500)
            await here.drop_shard(SHARD, 1)
            for name, journal in journals.items():
                assert await (here if name in {"stays", "follows"} else there).events(name) == journal
            stays = await here.run("stays")
            assert stays is not None
            assert (stays.seq, stays.steps) == (4, 4)
            assert [*await here.check(), *await there.check()] == []

        self.play(tmp_path, scenario)

    def play(self, path: Path, scenario: Scenario) -> None:
        """Run a scenario on two fresh stores."""

        async def stage() -> None:
            clock = FakeClock()
            for folder in ("here", "there"):
                (path / folder).mkdir()
            here, there = self.make_store(path / "here", clock), self.make_other(path / "there", clock)
            await here.open()
            await there.open()
            try:
                [lease] = await here.claim("node_a", [SHARD], LEASE_SECONDS)
                await scenario(Bench(here, clock, Fence(*lease), lambda: here), here, there)
            finally:
                await here.close()
                await there.close()

        asyncio.run(stage())


async def _exchange(store: Member, *exchanges: Exchange) -> list[Exception | list[int] | None]:
    return await store.commit([Transaction(exchange=exchange) for exchange in exchanges])


async def _live(bench: Bench) -> None:
    """A shard with something of everything in it, and a neighbour."""
    await bench.begin("run_1", session="s", idempotency_key="k", status=RunStatus.WAITING)
    await bench.append("run_1", 3, "step.started", step=2)
    await bench.queue("run_2")
    await bench.queue("run_3", shard=OTHER, session="t")
    await bench.commit_one(open_asks=[ASK], state=("buyer", "s", {"a": "1", "b": '"x"'}))
    note = Note("key", "n", "run_1", shard=SHARD)
    bench.must(
        await bench.commit(
            Transaction(signals=[Signal("buyer", "s", run, "message", "{}", SHARD, 5) for run in ("run_1", None)]),
            Transaction(signals=[Signal("buyer", "t", None, "message", "{}", OTHER, 6)]),
            Transaction(exchange=Exchange(deliver=Delivery("x", SHARD, 3), notes=[note])),
        )
    )


async def _copy(here: Member, there: Member, limit: int) -> None:
    await there.freeze_shard(SHARD, 1)
    at: Cursor = None
    while True:
        page, at = await here.export_shard(SHARD, at, limit)
        await there.import_shard(SHARD, 1, page)
        if at is None:
            return


async def _world(store: Member) -> list[Any]:
    """What belongs to the shard, without the ids of signals."""
    runs = [run for run in await store.runs(RunFilter()) if run.shard == SHARD]
    signals, _ = await store.signals([SHARD])
    return [
        runs,
        {run.id: await store.events(run.id) for run in runs},
        [(signal.run, signal.session, signal.kind, signal.data, signal.created) for signal in signals],
        await store.asks(status=None),
        await store.state("buyer", "s") | await store.notes("key"),
    ]
