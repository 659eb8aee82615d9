"""The store in a SQLite file keeps the contract."""

from __future__ import annotations

from perdure.store import SqliteStore
from perdure.testing.store_conformance import StoreConformance


class TestSqliteStore(StoreConformance):
    """A second process opens the same file."""

    def make_store(self, path, clock):
        return SqliteStore(str(path / "runs.db"), clock=clock)
