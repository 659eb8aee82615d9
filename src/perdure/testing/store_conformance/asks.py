"""Asks: questions and approvals that can be listed, and settled once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from perdure.errors import AlreadyExists, AlreadySettled
from perdure.store.contract import Ask, AskClose, Signal, Transaction
from perdure.testing.store_conformance.bench import SHARD, Bench, StoreTests

ASK = Ask("run_1:1", "run_1", "buyer", "s", SHARD, 1, "ask", "Spend it?", '{"type":"object"}', "finance", 5, 9)
APPROVAL = Ask("run_2:1", "run_2", "buyer", None, SHARD, 1, "approval", "order", "{}", None, 6)


class AskTests(StoreTests):
    """What holds for asks."""

    def test_an_ask_comes_back_as_it_was_opened(self, tmp_path: Path) -> None:
        """Every field survives; an unknown id is None."""

        async def scenario(bench: Bench) -> None:
            assert await bench.commit_one(open_asks=[ASK]) is None
            assert await bench.commit_one(open_asks=[APPROVAL]) is None
            assert await bench.store.ask("run_1:1") == ASK
            assert await bench.store.ask("run_2:1") == APPROVAL
            assert await bench.store.ask("run_3:1") is None
            assert isinstance(await bench.commit_one(open_asks=[ASK]), AlreadyExists)

        self.play(tmp_path, scenario)

    def test_asks_are_listed_oldest_first_by_run_addressee_and_status(self, tmp_path: Path) -> None:
        """The default is what is open, for whomever."""

        async def scenario(bench: Bench) -> None:
            third = replace(ASK, id="run_1:2", to=None)
            await bench.commit_one(open_asks=[ASK, APPROVAL, third])
            await bench.commit(Transaction(close_asks=[AskClose("run_2:1", "rejected", 8, by="ann", note="no")]))
            assert await bench.store.asks() == [ASK, third]
            assert await bench.store.asks(to="finance") == [ASK]
            assert await bench.store.asks(run="run_2") == []
            assert [ask.id for ask in await bench.store.asks(status=None)] == ["run_1:1", "run_2:1", "run_1:2"]
            assert [ask.id for ask in await bench.store.asks(status="rejected", run="run_2")] == ["run_2:1"]
            assert await bench.store.asks(limit=1) == [ASK]

        self.play(tmp_path, scenario)

    def test_an_ask_is_settled_once(self, tmp_path: Path) -> None:
        """Anybody may close it, together with the signal that tells the run.

        Whoever comes second is refused whole, unless lenient: then the ask stays as it was settled.
        """

        async def scenario(bench: Bench) -> None:
            await bench.queue("run_1", session="s")
            await bench.commit_one(open_asks=[ASK])
            signal = Signal("buyer", "s", "run_1", "answer", "{}", SHARD, 7)
            close = AskClose("run_1:1", "answered", 7, answer='{"approved":true}', by="ann", note="fine")
            first, second = await bench.commit(
                Transaction(close_asks=[close], signals=[signal]), Transaction(close_asks=[close], signals=[signal])
            )
            assert isinstance(first, list)
            assert isinstance(second, AlreadySettled)
            assert len(await bench.signals()) == 1
            closed = replace(ASK, status="answered", closed=7, answer='{"approved":true}', by="ann", note="fine")
            assert await bench.store.ask("run_1:1") == closed
            lenient = replace(close, lenient=True)
            assert await bench.commit(Transaction(close_asks=[lenient])) == [None]
            [unknown] = await bench.commit(Transaction(close_asks=[AskClose("run_9:1", "expired", 7)]))
            assert isinstance(unknown, AlreadySettled)

        self.play(tmp_path, scenario)
