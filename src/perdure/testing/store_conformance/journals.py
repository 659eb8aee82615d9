"""Journals: events append in order, come back as they were, and nobody but the fence's holder adds any."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from perdure.errors import AlreadySettled, Fenced, NotFound
from perdure.store.contract import Fence, Transaction
from perdure.testing.store_conformance.bench import SHARD, Bench, StoreTests
from perdure.values.events import Event
from perdure.values.runs import RunStatus


class JournalTests(StoreTests):
    """What holds for events."""

    def test_events_come_back_as_they_were_written(self, tmp_path: Path) -> None:
        """Every field survives, also text beyond ASCII and types of the user's own."""

        async def scenario(bench: Bench) -> None:
            await bench.queue()
            written = [
                Event("run_1", 2, "step.started", 1_763_000_000_000_001, 1, 1, '{"näme":"\\u0000 漢字 🙂"}'),
                Event("run_1", 3, "custom.thing", 1_763_000_000_000_002, None, None, "{}"),
                Event("run_1", 4, "step.completed", 1_763_000_000_000_003, 1, 7, '{"result":' + "9" * 20_000 + "}"),
            ]
            assert await bench.commit_one(events=written) is None
            assert await bench.store.events("run_1", after=1) == written

        self.play(tmp_path, scenario)

    def test_a_page_of_events_is_what_was_asked_for(self, tmp_path: Path) -> None:
        """`after` and `limit` cut exactly; beyond the end, or of an unknown run, there is nothing."""

        async def scenario(bench: Bench) -> None:
            await bench.queue()
            await bench.append("run_1", 2, *["progress"] * 8)
            assert [event.seq for event in await bench.store.events("run_1", after=3, limit=2)] == [4, 5]
            assert [event.seq for event in await bench.store.events("run_1", after=7)] == [8, 9]
            assert await bench.store.events("run_1", after=9) == []
            assert await bench.store.events("run_1", limit=0) == []
            assert await bench.store.events("run_2") == []

        self.play(tmp_path, scenario)

    def test_a_number_that_is_not_the_next_is_refused(self, tmp_path: Path) -> None:
        """A gap, a repetition and a step back are refused whole; the journal stays dense and goes on."""

        async def scenario(bench: Bench) -> None:
            await bench.queue()
            for seqs in ([3], [1], [2, 4], [2, 2], [0]):
                outcome = await bench.commit_one(events=[bench.event("run_1", seq) for seq in seqs])
                assert isinstance(outcome, ValueError)
                assert await bench.seqs() == [1]
            await bench.append("run_1", 2, "progress", "progress")
            assert await bench.seqs() == [1, 2, 3]

        self.play(tmp_path, scenario)

    def test_a_stale_epoch_writes_nothing(self, tmp_path: Path) -> None:
        """An older epoch, one that was never given and an unclaimed shard are Fenced."""

        async def scenario(bench: Bench) -> None:
            await bench.queue()
            for fence in (
                Fence(SHARD, bench.fence.epoch - 1),
                Fence(SHARD, bench.fence.epoch + 1),
                Fence("buyer/9", 1),
            ):
                [outcome] = await bench.commit(Transaction(fence=fence, events=[bench.event("run_1", 2)]))
                assert isinstance(outcome, Fenced)
            assert await bench.seqs() == [1]

        self.play(tmp_path, scenario)

    def test_a_fence_covers_its_own_shard_only(self, tmp_path: Path) -> None:
        """A run of another shard, or none at all, cannot be written."""

        async def scenario(bench: Bench) -> None:
            await bench.queue("run_2", shard="buyer/2")
            assert isinstance(await bench.commit_one(events=[bench.event("run_2", 2)]), ValueError)
            update = {"run_2": bench.update(RunStatus.RUNNING)}
            assert isinstance(await bench.commit_one(updates=update), ValueError)
            assert isinstance(await bench.commit_one(events=[bench.event("run_3", 1)]), NotFound)
            assert await bench.seqs("run_2") == [1]

        self.play(tmp_path, scenario)

    def test_without_a_fence_no_journal_is_written(self, tmp_path: Path) -> None:
        """Events, updates, consumption and state need a fence."""

        async def scenario(bench: Bench) -> None:
            await bench.queue()
            attempts: list[dict[str, Any]] = [
                {"events": [bench.event("run_1", 2)]},
                {"updates": {"run_1": bench.update(RunStatus.RUNNING)}},
                {"consume": [1]},
                {"state": ("buyer", "s", {"a": "1"})},
            ]
            for parts in attempts:
                [outcome] = await bench.commit(Transaction(**parts))
                assert isinstance(outcome, ValueError)
            assert await bench.seqs() == [1]

        self.play(tmp_path, scenario)

    def test_nothing_follows_the_end(self, tmp_path: Path) -> None:
        """The last event and the terminal status come in one transaction; after it every write is refused."""

        async def scenario(bench: Bench) -> None:
            await bench.begin()
            end = {"run_1": bench.update(RunStatus.SUCCEEDED)}
            assert await bench.commit_one(events=[bench.event("run_1", 3, "run.succeeded")], updates=end) is None
            late = await bench.commit_one(events=[bench.event("run_1", 4)])
            assert isinstance(late, AlreadySettled)
            late = await bench.commit_one(updates={"run_1": bench.update(RunStatus.CANCELLED)})
            assert isinstance(late, AlreadySettled)
            run = await bench.store.run("run_1")
            assert run is not None
            assert (run.status, run.seq) == (RunStatus.SUCCEEDED, 3)

        self.play(tmp_path, scenario)

    def test_another_node_goes_on_where_the_journal_ends(self, tmp_path: Path) -> None:
        """What this process remembers of a journal's end does not outlast its epoch."""

        async def scenario(bench: Bench) -> None:
            await bench.begin()
            other = bench.beside()
            await other.open()
            await bench.clock.advance(60)
            [theirs] = await other.claim("node_b", [SHARD], 10)
            [outcome] = await other.commit([Transaction(fence=Fence(*theirs), events=[bench.event("run_1", 3)])])
            assert outcome is None
            assert isinstance(await bench.commit_one(events=[bench.event("run_1", 3)]), Fenced)
            await bench.clock.advance(60)
            [ours] = await bench.store.claim("node_a", [SHARD], 10)
            [again, outcome] = await bench.commit(
                Transaction(fence=Fence(*ours), events=[bench.event("run_1", 3)]),
                Transaction(fence=Fence(*ours), events=[bench.event("run_1", 4)]),
            )
            assert isinstance(again, ValueError)
            assert outcome is None
            assert await bench.seqs() == [1, 2, 3, 4]
            if other is not bench.store:
                await other.close()

        self.play(tmp_path, scenario)
