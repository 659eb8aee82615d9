"""Batches: transactions share a commit, and nothing else."""

from __future__ import annotations

from pathlib import Path

from perdure.errors import AlreadyExists, AlreadySettled, Fenced
from perdure.store.contract import AskClose, Fence, Signal, Transaction
from perdure.testing.store_conformance.bench import SHARD, Bench, StoreTests
from perdure.values.runs import RunStatus


class BatchTests(StoreTests):
    """What holds for several transactions at once."""

    def test_a_refused_transaction_does_not_disturb_its_neighbours(self, tmp_path: Path) -> None:
        """First, middle and last of a batch are refused for different reasons; the others count."""

        async def scenario(bench: Bench) -> None:
            await bench.queue()
            outcomes = await bench.commit(
                Transaction(fence=Fence(SHARD, 99), events=[bench.event("run_1", 2)]),
                Transaction(fence=bench.fence, events=[bench.event("run_1", 2)]),
                Transaction(create=[bench.queued(bench.new_run("run_1"))]),
                Transaction(create=[bench.queued(bench.new_run("run_2"))]),
                Transaction(fence=bench.fence, events=[bench.event("run_1", 3), bench.event("run_1", 5)]),
                Transaction(fence=bench.fence, events=[bench.event("run_1", 3), bench.event("run_2", 2)]),
                Transaction(fence=bench.fence, events=[bench.event("run_1", 9)]),
            )
            kinds = [Fenced, None, AlreadyExists, None, ValueError, None, ValueError]
            assert [None if outcome is None else type(outcome) for outcome in outcomes] == kinds
            assert await bench.seqs("run_1") == [1, 2, 3]
            assert await bench.seqs("run_2") == [1, 2]

        self.play(tmp_path, scenario)

    def test_a_refused_transaction_changes_nothing(self, tmp_path: Path) -> None:
        """Whatever it did before its refusal is undone: events, rows, signals, asks, state and consumption."""

        async def scenario(bench: Bench) -> None:
            await bench.begin(session="s")
            [ids] = await bench.commit(Transaction(signals=[_signal()]))
            assert isinstance(ids, list)
            before = await _everything(bench)
            outcome = await bench.commit_one(
                events=[bench.event("run_1", 3)],
                updates={"run_1": bench.update(RunStatus.WAITING, reason="r", wait={"kind": "timer"}, wake_at=5)},
                create=[bench.queued(bench.new_run("run_2"))],
                signals=[_signal()],
                consume=ids,
                close_asks=[AskClose("run_1:1", "answered", 1)],
                state=("buyer", "s", {"a": "1"}),
            )
            assert isinstance(outcome, AlreadySettled)
            outcome = await bench.commit_one(
                consume=ids,
                create=[bench.queued(bench.new_run("run_2")), bench.queued(bench.new_run("run_1"))],
                signals=[_signal()],
                state=("buyer", "s", {"a": "1"}),
            )
            assert isinstance(outcome, AlreadyExists)
            assert await _everything(bench) == before
            await bench.append("run_1", 3, "progress")

        self.play(tmp_path, scenario)

    def test_transactions_see_what_those_before_them_did(self, tmp_path: Path) -> None:
        """A batch may create a run, begin it, end it, and refuse what comes too late."""

        async def scenario(bench: Bench) -> None:
            run = bench.new_run("run_1", session="s")
            outcomes = await bench.commit(
                Transaction(create=[bench.queued(run)]),
                Transaction(
                    fence=bench.fence,
                    events=[bench.event("run_1", 2, "run.started", step=3)],
                    updates={"run_1": bench.update(RunStatus.RUNNING)},
                ),
                Transaction(fence=bench.fence, events=[bench.event("run_1", 3)], state=("buyer", "s", {"a": "1"})),
                Transaction(
                    fence=bench.fence,
                    events=[bench.event("run_1", 4, "run.succeeded")],
                    updates={"run_1": bench.update(RunStatus.SUCCEEDED)},
                ),
                Transaction(fence=bench.fence, events=[bench.event("run_1", 5)]),
            )
            assert outcomes[:4] == [None] * 4
            assert isinstance(outcomes[4], AlreadySettled)
            stored = await bench.store.run("run_1")
            assert stored is not None
            assert (stored.seq, stored.steps, stored.status) == (4, 3, RunStatus.SUCCEEDED)
            assert await bench.store.state("buyer", "s") == {"a": "1"}

        self.play(tmp_path, scenario)

    def test_an_empty_batch_is_fine(self, tmp_path: Path) -> None:
        """Nothing in, nothing out; a transaction without content is accepted."""

        async def scenario(bench: Bench) -> None:
            assert await bench.commit() == []
            assert await bench.commit(Transaction(), Transaction(fence=bench.fence)) == [None, None]

        self.play(tmp_path, scenario)

    def test_what_is_committed_is_there_for_the_next_process(self, tmp_path: Path) -> None:
        """A store opened afterwards on the same data sees it all."""

        async def scenario(bench: Bench) -> None:
            await bench.begin(session="s")
            await bench.commit_one(state=("buyer", "s", {"a": '"b"'}), signals=[_signal()])
            other = bench.beside()
            await other.open()
            assert await other.events("run_1") == await bench.store.events("run_1")
            assert await other.run("run_1") == await bench.store.run("run_1")
            assert await other.state("buyer", "s") == {"a": '"b"'}
            assert (await other.signals([SHARD]))[0] == await bench.signals()
            if other is not bench.store:
                await other.close()

        self.play(tmp_path, scenario)


def _signal() -> Signal:
    return Signal("buyer", "s", "run_1", "message", '{"topic":"go"}', SHARD, 5)


async def _everything(bench: Bench) -> list[object]:
    store = bench.store
    return [
        await store.run("run_1"),
        await store.run("run_2"),
        await store.events("run_1"),
        await store.events("run_2"),
        (await store.signals([SHARD]))[0],
        await store.asks(status=None),
        await store.state("buyer", "s"),
        await store.due([SHARD], 2**60, 10),
    ]
