"""Statements: a user's SQL commits with the step, and cannot reach what is not the user's."""

from __future__ import annotations

from pathlib import Path

import pytest

from perdure.errors import StatementFailed
from perdure.store.contract import Statement, Transaction
from perdure.testing.store_conformance.bench import Bench, StoreTests

MAKE = Statement("create table account (id text primary key, cents integer not null)")


class StatementTests(StoreTests):
    """What holds for SQL in a transaction. Tables of one test are made by itself."""

    def test_statements_commit_with_their_events(self, tmp_path: Path) -> None:
        """Parameters go by position or by name; what a later transaction reads is what an earlier one wrote."""

        async def scenario(bench: Bench) -> None:
            await bench.begin()
            add = Statement("insert into account (id, cents) values (?, ?)", ("a", 5))
            double = Statement("update account set cents = cents * :factor", {"factor": 2})
            # A null is refused: accepted means that the row is there, and doubled.
            proof = Statement("insert into account values ('b', (select cents from account where cents = 10))")
            disproof = Statement("insert into account values ('c', (select cents from account where cents = 5))")
            outcomes = await bench.commit(
                Transaction(fence=bench.fence, statements=[MAKE]),
                Transaction(fence=bench.fence, statements=[add, double], events=[bench.event("run_1", 3)]),
                Transaction(fence=bench.fence, statements=[proof]),
                Transaction(fence=bench.fence, statements=[disproof]),
            )
            assert outcomes[:3] == [None, None, None]
            assert isinstance(outcomes[3], StatementFailed)
            assert await bench.seqs() == [1, 2, 3]

        self.play(tmp_path, scenario)

    def test_a_failed_statement_undoes_its_transaction_only(self, tmp_path: Path) -> None:
        """Its events and its other statements go with it; its neighbours stay, even if the SQL says `or rollback`."""

        async def scenario(bench: Bench) -> None:
            await bench.begin()
            add = Statement("insert into account values ('a', 1)")
            for repeat in ("insert into account values ('a', 1)", "insert or rollback into account values ('a', 1)"):
                first, second, third = await bench.commit(
                    Transaction(fence=bench.fence, statements=[Statement("drop table if exists account"), MAKE, add]),
                    Transaction(
                        fence=bench.fence,
                        statements=[Statement("update account set cents = 7"), Statement(repeat)],
                        events=[bench.event("run_1", len(await bench.seqs()) + 1)],
                    ),
                    Transaction(
                        fence=bench.fence,
                        statements=[Statement("insert into account select 'b', 1 from account where cents = 1")],
                        events=[bench.event("run_1", len(await bench.seqs()) + 1)],
                    ),
                )
                assert first is None
                assert isinstance(second, StatementFailed)
                assert third is None
            assert await bench.seqs() == [1, 2, 3, 4]

        self.play(tmp_path, scenario)

    @pytest.mark.parametrize(
        "sql",
        [
            "delete from perdure_signals",
            "delete from perdure_signals where id = ?",
            "select * from Perdure_Runs",
            'update "PERDURE_STATE" set value = 1',
            "create table perdure_mine (a)",
            "create temp table perdure_runs (a)",
            "create trigger t after insert on perdure_events begin select 1; end",
            "create view v as select * from perdure_runs; select * from v",
            "create index i on perdure_runs (agent)",
            "alter table perdure_runs add column a",
            "drop table perdure_runs",
            "attach ':memory:' as other",
            "detach main",
            "pragma synchronous = off",
            "commit",
            "rollback",
            "begin",
            "savepoint mine",
            "vacuum",
            "insert into nowhere values (1)",
            "no sql at all",
            "select ?1, ?2",
        ],
    )
    def test_statements_keep_to_the_users_own(self, tmp_path: Path, sql: str) -> None:
        """Our tables, other files, settings and the transaction itself are out of reach, as is bad SQL."""

        async def scenario(bench: Bench) -> None:
            await bench.begin()
            refused, accepted = await bench.commit(
                Transaction(fence=bench.fence, statements=[Statement(sql, ("1",) if "?" in sql else ())]),
                Transaction(fence=bench.fence, events=[bench.event("run_1", 3)]),
            )
            assert isinstance(refused, StatementFailed)
            assert accepted is None
            assert await bench.seqs() == [1, 2, 3]

        self.play(tmp_path, scenario)
