"""Forks: a run that shares the beginning of another's journal, without a copy."""

from __future__ import annotations

from pathlib import Path

from perdure.errors import NotFound
from perdure.store.contract import NewRun, Transaction
from perdure.testing.store_conformance.bench import Bench, StoreTests
from perdure.values.runs import RunStatus


class ForkTests(StoreTests):
    """What holds for shared prefixes."""

    def test_a_fork_shares_the_prefix_in_its_own_name(self, tmp_path: Path) -> None:
        """Events up to the fork are the parent's, those after are its own; the parent's later ones are not."""

        async def scenario(bench: Bench) -> None:
            await _fork_chain(bench)
            fork = await bench.store.events("fork")
            assert [(event.run, event.seq, event.type) for event in fork] == [
                ("fork", 1, "run.queued"),
                ("fork", 2, "run.started"),
                ("fork", 3, "step.started"),
                ("fork", 4, "run.forked"),
                ("fork", 5, "message.awaited"),
            ]
            assert [event.seq for event in await bench.store.events("fork", after=2, limit=2)] == [3, 4]
            assert [event.seq for event in await bench.store.events("fork", after=4)] == [5]
            run = await bench.store.run("fork")
            assert run is not None
            assert (run.seq, run.steps, run.forked_from) == (5, 4, ("run_1", 3))

        self.play(tmp_path, scenario)

    def test_a_fork_of_a_fork_reaches_back_through_both(self, tmp_path: Path) -> None:
        """Also when the second fork lies before the first."""

        async def scenario(bench: Bench) -> None:
            await _fork_chain(bench)
            for name, at, types in (
                ("late", 4, ["run.queued", "run.started", "step.started", "run.forked", "run.forked"]),
                ("early", 2, ["run.queued", "run.started", "run.forked"]),
            ):
                await _fork(bench, name, "fork", at)
                events = await bench.store.events(name)
                assert [event.type for event in events] == types
                assert [event.seq for event in events] == list(range(1, len(types) + 1))
                run = await bench.store.run(name)
                assert run is not None
                assert (run.seq, run.steps) == (len(types), 4 if name == "late" else 0)

        self.play(tmp_path, scenario)

    def test_a_fork_begins_where_the_journal_has_been(self, tmp_path: Path) -> None:
        """Of an unknown run, or beyond the parent's end, there is nothing to share."""

        async def scenario(bench: Bench) -> None:
            await bench.begin()
            for origin in (("run_1", 3), ("nobody", 1)):
                run = bench.new_run("fork", forked_from=origin)
                event = bench.event("fork", origin[1] + 1, "run.forked")
                [outcome] = await bench.commit(Transaction(create=[NewRun(run, [event])]))
                assert isinstance(outcome, NotFound)
            run = bench.new_run("fork", forked_from=("run_1", 2))
            [outcome] = await bench.commit(Transaction(create=[NewRun(run, [bench.event("fork", 2, "run.forked")])]))
            assert isinstance(outcome, ValueError)
            assert await bench.store.run("fork") is None

        self.play(tmp_path, scenario)


async def _fork_chain(bench: Bench) -> None:
    await bench.begin()
    await bench.append("run_1", 3, "step.started", step=4)
    await bench.append("run_1", 4, "step.completed", step=6)
    await _fork(bench, "fork", "run_1", 3)
    await bench.append("fork", 5, "message.awaited")
    await bench.append("run_1", 5, "progress")
    await bench.move("fork", RunStatus.WAITING)


async def _fork(bench: Bench, name: str, origin: str, at: int) -> None:
    run = bench.new_run(name, forked_from=(origin, at))
    [outcome] = await bench.commit(Transaction(create=[NewRun(run, [bench.event(name, at + 1, "run.forked")])]))
    assert outcome is None
