"""Signals: what reaches a run from outside, once, in order."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from perdure.errors import AlreadySettled
from perdure.store.contract import Signal, Transaction
from perdure.testing.store_conformance.bench import SHARD, Bench, StoreTests

TO_RUN = Signal("buyer", "s", "run_1", "message", '{"n":1}', SHARD, 5)
TO_SESSION = Signal("buyer", "s", None, "message", '{"n":2}', SHARD, 6)
TO_OTHERS = Signal("buyer", "t", None, "message", "{}", "buyer/2", 7)


class SignalTests(StoreTests):
    """What holds for signals and for the news that something changed."""

    def test_signals_get_growing_ids_and_come_in_order(self, tmp_path: Path) -> None:
        """Anybody may put them, several in a transaction; the owner of a shard reads from where it was."""

        async def scenario(bench: Bench) -> None:
            await bench.queue("run_1", session="s")
            outcomes = await bench.commit(Transaction(signals=[TO_RUN, TO_OTHERS]), Transaction(signals=[TO_SESSION]))
            [[first, second], [third]] = outcomes  # type: ignore[misc]
            assert first < second < third
            assert await bench.signals() == [replace(TO_RUN, id=first), replace(TO_SESSION, id=third)]
            assert [signal.id for signal in await bench.signals(SHARD, "buyer/2")] == [first, second, third]
            assert await bench.signals("buyer/3") == []

        self.play(tmp_path, scenario)

    def test_a_reader_goes_on_where_it_was(self, tmp_path: Path) -> None:
        """Page by page until one is empty, and later from there; one that begins anew finds all that is left."""

        async def scenario(bench: Bench) -> None:
            shards = [SHARD, "buyer/2"]
            _, cursor = await bench.store.signals(shards)
            for number in range(5):
                await bench.commit(
                    Transaction(signals=[replace(TO_OTHERS if number == 0 else TO_SESSION, created=number)])
                )
            found: list[int] = []
            page = [TO_OTHERS]
            while page:
                page, cursor = await bench.store.signals(shards, cursor, 2)
                assert len(page) <= 2
                found += [signal.created for signal in page]
            assert list(dict.fromkeys(found)) == [0, 1, 2, 3, 4]
            await bench.commit(Transaction(signals=[TO_OTHERS, replace(TO_SESSION, created=5)]))
            later, _ = await bench.store.signals([SHARD], cursor)
            assert [signal.created for signal in later][-1:] == [5]
            assert [signal.created for signal in await bench.signals()] == [1, 2, 3, 4, 5]

        self.play(tmp_path, scenario)

    def test_a_run_hears_what_is_for_it_and_for_its_session(self, tmp_path: Path) -> None:
        """Not what is for another run of the session, nor, without a session, for a session."""

        async def scenario(bench: Bench) -> None:
            await bench.queue("run_1", session="s")
            await bench.queue("run_2", session="s")
            await bench.queue("run_3")
            await bench.commit(Transaction(signals=[TO_RUN, TO_OTHERS, TO_SESSION]))
            assert [signal.data for signal in await bench.store.run_signals("run_1")] == ['{"n":1}', '{"n":2}']
            assert [signal.data for signal in await bench.store.run_signals("run_2")] == ['{"n":2}']
            assert await bench.store.run_signals("run_3") == []

        self.play(tmp_path, scenario)

    def test_a_signal_to_a_run_is_kept_with_that_run(self, tmp_path: Path) -> None:
        """Under its shard and session, whatever the sender thought they were; the run may be of the same batch."""

        async def scenario(bench: Bench) -> None:
            astray = Signal("seller", "t", "run_1", "cancel", "{}", "", 5)
            [created, ids] = await bench.commit(
                Transaction(create=[bench.queued(bench.new_run("run_1", session="s"))]), Transaction(signals=[astray])
            )
            assert created is None
            assert isinstance(ids, list)
            kept = Signal("buyer", "s", "run_1", "cancel", "{}", SHARD, 5, ids[0])
            assert await bench.signals() == await bench.store.run_signals("run_1") == [kept]

        self.play(tmp_path, scenario)

    def test_a_signal_to_no_run_is_dropped(self, tmp_path: Path) -> None:
        """Its id is 0, and what else the transaction does is done."""

        async def scenario(bench: Bench) -> None:
            [ids] = await bench.commit(Transaction(signals=[TO_RUN, TO_SESSION]))
            assert isinstance(ids, list)
            assert ids[0] == 0
            assert await bench.signals() == [replace(TO_SESSION, id=ids[1])]

        self.play(tmp_path, scenario)

    def test_a_signal_is_consumed_once(self, tmp_path: Path) -> None:
        """With the event that journals it; a second transaction that consumes it is refused whole."""

        async def scenario(bench: Bench) -> None:
            await bench.begin(session="s")
            [ids] = await bench.commit(Transaction(signals=[TO_RUN]))
            received = [bench.event("run_1", 3, "message.received")]
            assert await bench.commit_one(events=received, consume=ids) is None
            again = await bench.commit_one(events=[bench.event("run_1", 4, "message.received")], consume=ids)
            assert isinstance(again, AlreadySettled)
            assert await bench.signals() == []
            assert await bench.seqs() == [1, 2, 3]

        self.play(tmp_path, scenario)

    def test_the_id_of_a_consumed_signal_never_comes_back(self, tmp_path: Path) -> None:
        """Whoever reads `after` an id misses nothing, also when the store was empty in between."""

        async def scenario(bench: Bench) -> None:
            await bench.queue("run_1", session="s")
            [first] = await bench.commit(Transaction(signals=[TO_RUN]))
            await bench.commit_one(consume=first)
            [second] = await bench.commit(Transaction(signals=[TO_RUN]))
            assert isinstance(first, list)
            assert isinstance(second, list)
            assert second[0] > first[0]

        self.play(tmp_path, scenario)

    def test_another_process_hears_of_a_commit(self, tmp_path: Path) -> None:
        """Whatever was committed after the last wait ends the next one, also while nobody waited."""

        async def scenario(bench: Bench) -> None:
            other = bench.beside()
            await other.open()

            async def wait_twice() -> None:
                await other.wait_change()
                first_change.set()
                await second_commit.wait()
                await other.wait_change()

            first_change, second_commit = asyncio.Event(), asyncio.Event()
            waiting = asyncio.create_task(wait_twice())
            await asyncio.sleep(0)
            await bench.queue("run_1")
            await asyncio.wait_for(first_change.wait(), 5)
            await bench.queue("run_2")
            second_commit.set()
            await asyncio.wait_for(waiting, 5)
            if other is not bench.store:
                await other.close()

        self.play(tmp_path, scenario)
