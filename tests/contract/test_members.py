"""Each store can be one of several databases, and hands its shards over to any other kind."""

from __future__ import annotations

from perdure.store import MemoryStore, SqliteStore
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
