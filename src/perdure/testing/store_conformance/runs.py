"""Runs: their rows, their names and the lists of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from perdure.errors import AlreadyExists
from perdure.store.contract import RunFilter, Transaction
from perdure.testing.store_conformance.bench import Bench, StoreTests
from perdure.values.runs import RunStatus


class RunTests(StoreTests):
    """What holds for rows of runs."""

    def test_a_run_comes_back_as_it_was_created(self, tmp_path: Path) -> None:
        """Every field of the row survives."""

        async def scenario(bench: Bench) -> None:
            run = await bench.queue(
                session="s", parent="run_0", parent_step=7, priority=-3, concurrency_key="c", idempotency_key="k",
                attempt=2, strikes=1, reason="because", wait={"kind": "timer", "due": [1, None]}, wake_at=99,
            )  # fmt: skip
            assert await bench.store.run("run_1") == replace(run, seq=1)
            assert await bench.store.run_by_key("buyer", "k") == replace(run, seq=1)
            assert await bench.store.run("run_2") is None
            assert await bench.store.run_by_key("seller", "k") is None

        self.play(tmp_path, scenario)

    def test_an_update_writes_everything_as_given(self, tmp_path: Path) -> None:
        """None clears reason, wait and wake_at; it keeps attempt and strikes."""

        async def scenario(bench: Bench) -> None:
            await bench.begin()
            wait = {"kind": "timer"}
            await bench.move("run_1", RunStatus.WAITING, reason="r", wait=wait, wake_at=5, attempt=3, strikes=2)
            run = await bench.store.run("run_1")
            assert run is not None
            assert (run.status, run.reason, run.wait, run.wake_at) == (RunStatus.WAITING, "r", wait, 5)
            assert (run.attempt, run.strikes) == (3, 2)
            await bench.move("run_1", RunStatus.RUNNING)
            run = await bench.store.run("run_1")
            assert run is not None
            assert (run.reason, run.wait, run.wake_at, run.attempt, run.strikes) == (None, None, None, 3, 2)

        self.play(tmp_path, scenario)

    def test_a_listed_run_is_up_to_date_with_its_journal(self, tmp_path: Path) -> None:
        """`seq`, `steps` and `updated` count events after the last update of the row, and those before."""

        async def scenario(bench: Bench) -> None:
            await bench.begin()
            await bench.append("run_1", 3, "step.started", step=5)
            await bench.move("run_1", RunStatus.WAITING)
            await bench.clock.advance(1)
            await bench.append("run_1", 4, "step.completed", "progress", step=2)
            run = await bench.store.run("run_1")
            assert run is not None
            assert (run.seq, run.steps, run.updated) == (5, 5, bench.clock.now_us())
            assert await bench.store.runs(RunFilter()) == [run]
            await bench.append("run_1", 6, "step.started", step=9)
            run = await bench.store.run("run_1")
            assert run is not None
            assert (run.seq, run.steps) == (6, 9)

        self.play(tmp_path, scenario)

    def test_ids_and_idempotency_keys_are_taken_once(self, tmp_path: Path) -> None:
        """The second run with an id, or with a key of the same agent, is AlreadyExists, also within a batch."""

        async def scenario(bench: Bench) -> None:
            await bench.queue("run_1", idempotency_key="k")
            outcomes = await bench.commit(
                Transaction(create=[bench.queued(bench.new_run("run_1"))]),
                Transaction(create=[bench.queued(bench.new_run("run_2", idempotency_key="k"))]),
                Transaction(create=[bench.queued(bench.new_run("run_3", idempotency_key="k", agent="seller"))]),
                Transaction(create=[bench.queued(bench.new_run("run_4", idempotency_key="l"))]),
                Transaction(create=[bench.queued(bench.new_run("run_5", idempotency_key="l"))]),
            )
            refused = [isinstance(outcome, AlreadyExists) for outcome in outcomes]
            assert refused == [True, True, False, False, True]
            assert [run.id for run in await bench.store.runs(RunFilter())] == ["run_4", "run_3", "run_1"]

        self.play(tmp_path, scenario)

    def test_filters_narrow_the_list(self, tmp_path: Path) -> None:
        """Each condition works alone and together with others; newest first."""

        async def scenario(bench: Bench) -> None:
            await bench.begin("run_1", session="s")
            await bench.clock.advance(1)
            later = bench.clock.now_us()
            await bench.queue("run_2", session="s", parent="run_1")
            await bench.queue("run_3", agent="seller", shard="seller/0")
            await bench.begin("run_4x", session="t", status=RunStatus.PAUSED)
            expected: dict[RunFilter, list[str]] = {
                RunFilter(): ["run_4x", "run_3", "run_2", "run_1"],
                RunFilter(agent="buyer"): ["run_4x", "run_2", "run_1"],
                RunFilter(agent="buyer", session="s"): ["run_2", "run_1"],
                RunFilter(session="t"): ["run_4x"],
                RunFilter(statuses=(RunStatus.QUEUED, RunStatus.PAUSED)): ["run_4x", "run_3", "run_2"],
                RunFilter(parent="run_1"): ["run_2"],
                RunFilter(since=later): ["run_4x", "run_3", "run_2"],
                RunFilter(until=later): ["run_1"],
                RunFilter(ids=("run_3", "run_1", "nobody")): ["run_3", "run_1"],
                RunFilter(ids=("run_3", "run_1"), statuses=(RunStatus.RUNNING,)): ["run_1"],
                RunFilter(before="run_3"): ["run_2", "run_1"],
                RunFilter(before="run_3", limit=1): ["run_2"],
                RunFilter(before="nobody"): [],
                RunFilter(suffix="4x"): ["run_4x"],
                RunFilter(suffix="_%"): [],
                RunFilter(limit=2): ["run_4x", "run_3"],
                RunFilter(agent="buyer", statuses=(RunStatus.RUNNING,), since=later): [],
            }
            for wanted, ids in expected.items():
                assert [run.id for run in await bench.store.runs(wanted)] == ids, wanted

        self.play(tmp_path, scenario)
