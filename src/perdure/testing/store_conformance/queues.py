"""Queues: which runs are ready, which are due, and which a dead owner left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from perdure.store.contract import Backlog, Queue, Signal, Transaction
from perdure.testing.store_conformance.bench import SHARD, Bench, StoreTests
from perdure.values.runs import RunStatus

OTHER = "buyer/2"
#: the highest priority that a store can hold
MOST = 2**63 - 1


class QueueTests(StoreTests):
    """What holds for the questions a shard's owner asks."""

    def test_queues_come_by_priority_then_tenant(self, tmp_path: Path) -> None:
        """One for each tenant and priority in which an agent has queued runs, in whatever shards, from any of them on."""

        async def scenario(bench: Bench) -> None:
            store = bench.store
            assert await store.queues("buyer", 10) == []
            rows = [("b", 0), ("a", 0), (None, 0), ("", 0), ("b", 7), ("é", 7), ("Z", -1), ("a", 0)]
            rows += [(None, MOST), ("d", -MOST)]
            for number, (tenant, priority) in enumerate(rows):
                shard = (SHARD, OTHER)[number % 2]
                await bench.queue(f"run_{number}", concurrency_key=tenant, priority=priority, shard=shard)
            await bench.queue("run_x", agent="seller", concurrency_key="c")
            await bench.begin("run_y", concurrency_key="y", priority=9)
            places = [(MOST, ""), (7, "b"), (7, "é"), (0, ""), (0, "a"), (0, "b"), (-1, "Z"), (-MOST, "d")]
            queues = [Queue("buyer", *place) for place in places]
            assert await store.queues("buyer", 10) == queues
            assert await store.queues("buyer", 4) == queues[:4]
            for number, queue in enumerate(queues):
                assert await store.queues("buyer", 2, after=queue) == queues[number + 1 : number + 3]
            assert await store.queues("buyer", 9, after=Queue("buyer", 3, "gone")) == queues[3:]

        self.play(tmp_path, scenario)

    def test_of_each_queue_come_the_oldest(self, tmp_path: Path) -> None:
        """So many of each, however long another one is; of the shards that are asked for, and no others."""

        async def scenario(bench: Bench) -> None:
            for number in range(1, 7):
                await bench.queue(f"run_{number}", concurrency_key="long", shard=(SHARD, OTHER)[number % 2])
            await bench.queue("run_7")
            await bench.queue("run_8", priority=1)
            await bench.queue("run_9", concurrency_key="long", shard="buyer/3")
            await bench.begin("run_10")
            assert await _ready(bench, [SHARD, OTHER], 2) == [["run_8"], ["run_7"], ["run_1", "run_2"]]
            assert await _ready(bench, [OTHER], 2) == [[], [], ["run_1", "run_3"]]
            assert await _ready(bench, [], 2) == [[], [], []]
            plain, long = Queue("buyer", 0, ""), Queue("buyer", 0, "long")
            pages = await bench.store.ready([SHARD, OTHER], {long: None, Queue("seller", 0, ""): None, plain: None}, 1)
            assert [page.queue for page in pages] == [long, Queue("seller", 0, ""), plain]
            assert [[run.id for run in page.runs] for page in pages] == [["run_1"], [], ["run_7"]]
            assert await bench.store.ready([SHARD], {}, 5) == []

        self.play(tmp_path, scenario)

    def test_a_busy_session_has_nothing_ready(self, tmp_path: Path) -> None:
        """A free one has the run that goes next, and only that."""

        async def scenario(bench: Bench) -> None:
            await bench.begin("run_1", session="busy", status=RunStatus.WAITING)
            await bench.queue("run_2", session="busy", priority=9)
            await bench.queue("run_3", session="free")
            await bench.queue("run_4", session="free", priority=1)
            await bench.queue("run_5")
            assert await _ready(bench, [SHARD]) == [[], ["run_4"], ["run_5"]]
            await bench.move("run_1", RunStatus.SUCCEEDED)
            assert await _ready(bench, [SHARD]) == [["run_2"], ["run_4"], ["run_5"]]

        self.play(tmp_path, scenario)

    def test_a_paused_run_is_not_ready(self, tmp_path: Path) -> None:
        """However many there are: those behind them are."""

        async def scenario(bench: Bench) -> None:
            for number in (1, 2, 3):
                await bench.queue(f"run_{number}")
            for run in ("run_1", "run_2"):
                await bench.move(run, RunStatus.QUEUED, reason="why", wait={"kind": "pause"})
            assert await _ready(bench, [SHARD], 1) == [["run_3"]]

        self.play(tmp_path, scenario)

    def test_a_queue_is_read_on_from_where_its_last_page_ended(self, tmp_path: Path) -> None:
        """To its end, over all shards, whatever became of its runs meanwhile; nothing comes twice and nothing is missed."""

        async def scenario(bench: Bench) -> None:
            queue, shards = Queue("buyer", 0, "t"), [SHARD, OTHER]
            for number in range(1, 8):
                shard = (SHARD, OTHER)[number in {2, 5, 6}]
                await bench.queue(f"run_{number}", concurrency_key="t", shard=shard)
            [page] = await bench.store.ready(shards, {queue: None}, 3)
            assert [run.id for run in page.runs] == ["run_1", "run_2", "run_3"]
            for run in ("run_1", "run_3"):
                await bench.move(run, RunStatus.WAITING)
            [page] = await bench.store.ready(shards, {queue: page.after}, 3)
            assert [run.id for run in page.runs] == ["run_4", "run_5", "run_6"]
            await bench.queue("run_8", concurrency_key="t", shard=OTHER)
            [page] = await bench.store.ready(shards, {queue: page.after}, 3)
            assert ([run.id for run in page.runs], page.after) == (["run_7", "run_8"], None)

        self.play(tmp_path, scenario)

    def test_runs_that_the_owner_cannot_run_do_not_hide_others(self, tmp_path: Path) -> None:
        """Queued ones are given until their row says why they wait, due ones never."""

        async def scenario(bench: Bench) -> None:
            ours = [("buyer", "v1"), ("seller", "v2")]
            for number, version in enumerate(("v2", "v2", "v1", "v1"), 1):
                await bench.queue(f"run_{number}", version=version)
            assert await _ready(bench, [SHARD], 3, programs=ours) == [["run_1", "run_2", "run_3"]]
            for run in ("run_1", "run_2", "run_3"):
                await bench.move(run, RunStatus.QUEUED, reason="why", wait={"kind": "worker"})
            assert await _ready(bench, [SHARD], 3, programs=ours) == [["run_3", "run_4"]]
            assert await _ready(bench, [SHARD], 3) == [["run_1", "run_2", "run_3"]]
            for moment, run in enumerate(("run_1", "run_2", "run_3", "run_4"), 1):
                await bench.move(run, RunStatus.WAITING, wake_at=moment)
            due = await bench.store.due([SHARD], 9, 1, programs=ours)
            assert [run.id for run in due] == ["run_3"]
            assert await bench.store.next_due([SHARD], programs=ours) == 3
            assert await bench.store.next_due([SHARD], programs=[]) is None
            assert await bench.store.due([SHARD], 9, 1, programs=[]) == []

        self.play(tmp_path, scenario)

    def test_active_runs_are_those_that_were_running(self, tmp_path: Path) -> None:
        """Not the waiting, paused or ended ones."""

        async def scenario(bench: Bench) -> None:
            await bench.begin("run_1")
            await bench.begin("run_2", status=RunStatus.WAITING)
            await bench.begin("run_3", status=RunStatus.PAUSED)
            await bench.begin("run_4", status=RunStatus.FAILED)
            await bench.begin("run_5")
            assert [run.id for run in await bench.store.active([SHARD, OTHER])] == ["run_1", "run_5"]
            assert await bench.store.active([OTHER]) == []

        self.play(tmp_path, scenario)

    def test_due_runs_come_earliest_first(self, tmp_path: Path) -> None:
        """Only waiting runs with a timer that is due at that moment, to the microsecond."""

        async def scenario(bench: Bench) -> None:
            for run, wake_at in (("run_1", 300), ("run_2", 100), ("run_3", 301), ("run_4", None), ("run_5", 100)):
                await bench.begin(run)
                await bench.move(run, RunStatus.WAITING, wake_at=wake_at)
            await bench.begin("run_6")
            await bench.move("run_6", RunStatus.PAUSED, wake_at=1)
            assert await _due(bench, 300) == ["run_2", "run_5", "run_1"]
            assert await _due(bench, 300, limit=2) == ["run_2", "run_5"]
            assert await _due(bench, 99) == []
            assert await bench.store.due([OTHER], 300, 10) == []
            assert await bench.store.next_due([OTHER, SHARD]) == 100
            assert await bench.store.next_due([OTHER]) is None
            await bench.move("run_2", RunStatus.WAITING)
            await bench.move("run_5", RunStatus.RUNNING)
            assert await bench.store.next_due([SHARD]) == 300

        self.play(tmp_path, scenario)

    def test_the_backlog_counts_what_owners_have_yet_to_do(self, tmp_path: Path) -> None:
        """Runs that could begin, timers that are due, word for runs that could take it; each with its oldest."""

        async def scenario(bench: Bench) -> None:
            store, now = bench.store, bench.clock.now_us()
            assert await store.backlog(now) == []
            await bench.begin("run_1", session="busy", status=RunStatus.WAITING)
            await bench.queue("run_2", session="busy")
            await bench.queue("run_3")
            await bench.move("run_3", RunStatus.QUEUED, wait={"kind": "pause"})
            assert await store.backlog(now) == []
            await bench.clock.advance(1)
            await bench.queue("run_4", shard=OTHER, wait={"kind": "worker"})
            await bench.queue("run_5", shard=OTHER, session="free")
            await bench.move("run_1", RunStatus.WAITING, wake_at=now)
            signals = [Signal("buyer", "busy", run, "cancel", "{}", SHARD, now + 7) for run in ("run_1", "run_3", None)]
            bench.must(await bench.commit(Transaction(signals=signals)))
            [ours, others] = await store.backlog(now)
            assert ours == Backlog(SHARD, 0, None, 1, now, 1, now + 7)
            assert others == Backlog(OTHER, 2, now + 1_000_000, 0, None, 0, None)
            assert [row.due for row in await store.backlog(now - 1)] == [0, 0]
            await bench.move("run_1", RunStatus.PAUSED, wake_at=now)
            assert await store.backlog(now) == [others]

        self.play(tmp_path, scenario)


async def _ready(bench: Bench, shards: list[str], each: int = 10, **narrower: Any) -> list[list[str]]:
    """Of each queue of the buyer what is ready."""
    queues = await bench.store.queues("buyer", 100)
    pages = await bench.store.ready(shards, dict.fromkeys(queues), each, **narrower)
    return [[run.id for run in page.runs] for page in pages]


async def _due(bench: Bench, until: int, limit: int = 10) -> list[str]:
    return [run.id for run in await bench.store.due([SHARD, OTHER], until, limit)]
