"""Sessions: one run at a time, and the state that its commits carry."""

from __future__ import annotations

from pathlib import Path

import pytest

from perdure.errors import AlreadyExists, SessionBusy
from perdure.store.contract import Transaction
from perdure.testing.store_conformance.bench import Bench, StoreTests
from perdure.values.runs import RunStatus


class SessionTests(StoreTests):
    """What holds for sessions."""

    @pytest.mark.parametrize("status", [RunStatus.RUNNING, RunStatus.WAITING, RunStatus.PAUSED, RunStatus.QUARANTINED])
    def test_a_session_has_one_run_that_has_begun(self, tmp_path: Path, status: RunStatus) -> None:
        """While it has not ended, no other can begin; then one can."""

        async def scenario(bench: Bench) -> None:
            await bench.begin("run_1", session="s", status=status)
            await bench.queue("run_2", session="s")
            begin = {"run_2": bench.update(RunStatus.RUNNING)}
            refusal = await bench.commit_one(events=[bench.event("run_2", 2, "run.started")], updates=begin)
            assert isinstance(refusal, SessionBusy)
            assert await bench.seqs("run_2") == [1]
            active = await bench.store.session_active("buyer", "s")
            assert active is not None
            assert active.id == "run_1"
            await bench.move("run_1", RunStatus.FAILED)
            assert await bench.store.session_active("buyer", "s") is None
            await bench.move("run_2", RunStatus.RUNNING)

        self.play(tmp_path, scenario)

    def test_runs_without_a_session_do_not_wait_for_each_other(self, tmp_path: Path) -> None:
        """Nor do sessions of the same name of two agents."""

        async def scenario(bench: Bench) -> None:
            await bench.begin("run_1")
            await bench.begin("run_2")
            await bench.begin("run_3", session="s")
            await bench.begin("run_4", session="s", agent="seller")
            assert len(await bench.store.active([bench.fence.shard])) == 4

        self.play(tmp_path, scenario)

    def test_a_session_that_must_be_free_refuses_what_has_not_ended(self, tmp_path: Path) -> None:
        """Queued and begun runs of the session refuse a new one; ended ones do not."""

        async def scenario(bench: Bench) -> None:
            async def try_new(id: str) -> object:
                run = bench.new_run(id, session="s")
                [outcome] = await bench.commit(Transaction(create=[bench.queued(run, session_must_be_free=True)]))
                return outcome

            assert await try_new("run_1") is None
            assert isinstance(await try_new("run_2"), SessionBusy)
            await bench.move("run_1", RunStatus.WAITING)
            assert isinstance(await try_new("run_3"), SessionBusy)
            await bench.move("run_1", RunStatus.CANCELLED)
            assert await try_new("run_4") is None

        self.play(tmp_path, scenario)

    def test_a_run_that_is_started_again_is_found_before_its_session_is_busy(self, tmp_path: Path) -> None:
        """The same id or idempotency key is refused as such, although the session is not free any more."""

        async def scenario(bench: Bench) -> None:
            async def try_new(id: str, key: str) -> object:
                run = bench.new_run(id, session="s", idempotency_key=key)
                [outcome] = await bench.commit(Transaction(create=[bench.queued(run, session_must_be_free=True)]))
                return outcome

            assert await try_new("run_1", "k") is None
            assert isinstance(await try_new("run_2", "k"), AlreadyExists)
            assert isinstance(await try_new("run_1", "other"), AlreadyExists)
            assert isinstance(await try_new("run_3", "other"), SessionBusy)

        self.play(tmp_path, scenario)

    def test_the_next_of_a_session_is_the_most_urgent_then_the_oldest(self, tmp_path: Path) -> None:
        """Only queued runs of that session count."""

        async def scenario(bench: Bench) -> None:
            assert await bench.store.session_next("buyer", "s") is None
            await bench.begin("run_1", session="s")
            await bench.queue("run_2", session="s")
            await bench.queue("run_3", session="s", priority=5)
            await bench.queue("run_4", session="s", priority=5)
            await bench.queue("run_5", session="t", priority=9)
            following = await bench.store.session_next("buyer", "s")
            assert following is not None
            assert following.id == "run_3"

        self.play(tmp_path, scenario)

    def test_state_is_kept_key_by_key(self, tmp_path: Path) -> None:
        """A change sets and deletes the keys it names and leaves the rest; sessions do not share."""

        async def scenario(bench: Bench) -> None:
            await bench.commit_one(state=("buyer", "s", {"a": "1", "b": '{"c": [2]}'}))
            await bench.commit_one(state=("buyer", "s", {"a": None, "d": "null", "never": None}))
            await bench.commit_one(state=("buyer", "t", {"a": "3"}))
            assert await bench.store.state("buyer", "s") == {"b": '{"c": [2]}', "d": "null"}
            assert await bench.store.state("buyer", "t") == {"a": "3"}
            assert await bench.store.state("seller", "s") == {}

        self.play(tmp_path, scenario)
