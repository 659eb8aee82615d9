"""Each store can be one of several databases, and hands its shards over to any other kind."""

from __future__ import annotations

import pytest

from perdure.store import MemoryStore, SqliteStore
from perdure.store.postgres import PostgresStore
from perdure.testing.store_conformance.members import MemberConformance


class TestMemory(MemberConformance):
    """Both in memory."""

    def make_store(self, path, clock):
        return MemoryStore(clock=clock)


class TestSqlite(MemberConformance):
    """Two files."""

    def make_store(self, path, clock):
        return SqliteStore(str(path / "runs.db"), clock=clock)


class TestMemoryToSqlite(TestMemory):
    """Out of memory into a file."""

    def make_other(self, path, clock):
        return SqliteStore(str(path / "runs.db"), clock=clock)


class TestSqliteToMemory(TestSqlite):
    """Out of a file into memory."""

    def make_other(self, path, clock):
        return MemoryStore(clock=clock)


class TestPostgres(MemberConformance):
    """Two databases of one server."""

    @pytest.fixture(autouse=True)
    def _databases(self, postgres_databases):
        self.database = postgres_databases

    def make_store(self, path, clock):
        return PostgresStore(self.database(), clock=clock)


class TestPostgresToSqlite(TestPostgres):
    """Out of a server into a file."""

    def make_other(self, path, clock):
        return SqliteStore(str(path / "runs.db"), clock=clock)


class TestSqliteToPostgres(TestSqlite):
    """Out of a file into a server."""

    @pytest.fixture(autouse=True)
    def _databases(self, postgres_databases):
        self.database = postgres_databases

    def make_other(self, path, clock):
        return PostgresStore(self.database(), clock=clock)
