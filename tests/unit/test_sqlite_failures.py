"""Failures of SQLite and of the file system get the name of what they mean, and a remedy."""

from __future__ import annotations

import asyncio
import errno

import apsw
import pytest

from perdure.errors import StoreBroken, StoreBusy, StoreCorrupt, StoreError, StoreFull, StoreReadOnly
from perdure.store import SqliteStore
from perdure.store.contract import NewRun, Transaction
from perdure.store.sqlite import database
from perdure.store.sqlite.failures import store_error
from perdure.values.runs import Run, RunStatus


@pytest.mark.parametrize(
    ("error", "kind", "remedy"),
    [
        (apsw.BusyError("locked"), StoreBusy, "perdure doctor"),
        (apsw.FullError("full"), StoreFull, "Free some room"),
        (apsw.IOError("disk I/O error"), StoreBroken, "check the disk"),
        (apsw.ReadOnlyError("readonly"), StoreReadOnly, "--store"),
        (apsw.CantOpenError("cannot open"), StoreReadOnly, "--store"),
        (apsw.NotADBError("not a database"), StoreCorrupt, "perdure db backup"),
        (apsw.CorruptError("malformed"), StoreCorrupt, "perdure db check"),
        (apsw.MisuseError("?"), StoreError, "perdure db check"),
        (OSError(errno.ENOSPC, "No space left on device", "runs.db.nodes"), StoreFull, "Free some room"),
        (OSError(errno.EIO, "Input/output error", "runs.db"), StoreBroken, "check the disk"),
        (PermissionError(errno.EACCES, "Permission denied", "runs.db"), StoreReadOnly, "--store"),
    ],
)
def test_every_failure_is_named(error, kind, remedy):
    """The message names the file and what to do."""
    named = store_error(error, "runs.db")
    assert type(named) is kind
    assert "runs.db" in str(named)
    assert remedy in str(named)


def test_a_store_that_another_process_holds_is_busy(tmp_path, monkeypatch):
    """After its patience; the event loop goes on meanwhile, and afterwards everything works again."""
    monkeypatch.setattr(database, "_PATIENCE_MS", 20)

    async def scenario() -> None:
        store = SqliteStore(str(tmp_path / "runs.db"))
        await store.open()
        other = apsw.Connection(str(tmp_path / "runs.db"))
        other.execute("begin immediate")
        with pytest.raises(StoreBusy, match="another process"):
            await store.commit([create("run_1")])
        other.execute("rollback")
        other.close()
        assert await store.commit([create("run_1")]) == [None]
        await store.close()

    asyncio.run(scenario())


def create(id: str) -> Transaction:
    """A new run."""
    return Transaction(create=[NewRun(Run(id, "buyer", "v1", None, "buyer/1", RunStatus.QUEUED, 1, 1), [])])
