"""A store made of two databases keeps the contract, wherever its shards live."""

from __future__ import annotations

from typing import ClassVar
from weakref import WeakKeyDictionary

import pytest

from perdure.errors import AlreadyExists
from perdure.store import MemoryStore, SqliteStore
from perdure.store.contract import RunFilter, Transaction
from perdure.store.many import ManyStores
from perdure.store.postgres import PostgresStore
from perdure.testing.store_conformance import StoreConformance


class ManyConformance(StoreConformance):
    """All of it, but for the order in which one batch's runs arrive."""

    def test_ids_and_idempotency_keys_are_taken_once(self, tmp_path):
        """The second run with an id, or with a key of the same agent, is AlreadyExists, also within a batch.

        A run whose key lives in another database comes from there, a little later than its neighbours.
        """

        async def scenario(bench):
            await bench.queue("run_1", idempotency_key="k")
            outcomes = await bench.commit(
                Transaction(create=[bench.queued(bench.new_run("run_1"))]),
                Transaction(create=[bench.queued(bench.new_run("run_2", idempotency_key="k"))]),
                Transaction(create=[bench.queued(bench.new_run("run_3", idempotency_key="k", agent="seller"))]),
                Transaction(create=[bench.queued(bench.new_run("run_4", idempotency_key="l"))]),
                Transaction(create=[bench.queued(bench.new_run("run_5", idempotency_key="l"))]),
            )
            assert [isinstance(outcome, AlreadyExists) for outcome in outcomes] == [True, True, False, False, True]
            assert {run.id for run in await bench.store.runs(RunFilter())} == {"run_4", "run_3", "run_1"}

        self.play(tmp_path, scenario)


class TestManyMemoryStores(ManyConformance):
    """Another process is another ManyStores object on the same two."""

    members: ClassVar[WeakKeyDictionary[ManyStores, dict[str, MemoryStore]]] = WeakKeyDictionary()

    def make_store(self, path, clock):
        return self._on({"a": MemoryStore(clock=clock), "b": MemoryStore(clock=clock)}, clock)

    def beside(self, store, path, clock):
        return self._on(self.members[store], clock)

    def _on(self, members, clock):
        store = ManyStores(members, clock=clock)
        self.members[store] = members
        return store


class TestManySqliteStores(ManyConformance):
    """Another process opens the same two files."""

    def make_store(self, path, clock):
        return ManyStores({name: SqliteStore(str(path / f"{name}.db"), clock=clock) for name in "ab"}, clock=clock)


@pytest.mark.slow
class TestManyPostgresStores(ManyConformance):
    """Another process, perhaps of another machine, opens the same two databases."""

    @pytest.fixture(autouse=True)
    def _databases(self, postgres_databases):
        self.urls = {name: postgres_databases() for name in "ab"}

    def make_store(self, path, clock):
        return ManyStores({name: PostgresStore(url, clock=clock) for name, url in self.urls.items()}, clock=clock)
