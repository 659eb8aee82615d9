"""Opening a file: made, migrated, or refused by name and left alone."""

from __future__ import annotations

import asyncio
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import apsw
import pytest

from perdure.errors import StoreCorrupt, StoreError, StoreNewer, StoreReadOnly
from perdure.store import SqliteStore
from perdure.store.contract import Document, Node, QuotaWish, RunFilter, SessionRow
from perdure.store.queries import load_migrations
from perdure.store.sqlite.schema import APPLICATION_ID


async def open_and_close(path: Path) -> None:
    """What the next process does first."""
    store = SqliteStore(str(path))
    await store.open()
    try:
        assert await store.check() == []
    finally:
        await store.close()


def schema_of(path: Path) -> Sequence[object]:
    """All tables, indexes and views, as they were made."""
    db = apsw.Connection(str(path))
    try:
        return db.execute("select type, name, tbl_name, sql from sqlite_schema order by name").fetchall()
    finally:
        db.close()


def test_a_new_store_is_ours_and_private(tmp_path):
    """It carries our mark and version, and only its owner may read it."""
    path = tmp_path / "runs.db"
    asyncio.run(open_and_close(path))
    db = apsw.Connection(str(path))
    assert db.pragma("application_id") == APPLICATION_ID
    assert db.pragma("user_version") == load_migrations("sqlite")[-1][0]
    assert db.pragma("journal_mode") == "wal"
    db.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_commits_are_synced(tmp_path):
    """At least FULL: NORMAL loses acknowledged commits with the power."""

    async def scenario() -> None:
        store = SqliteStore(str(tmp_path / "runs.db"))
        await store.open()
        assert store._database.read(lambda db: db.pragma("synchronous")) in {2, 3}
        await store.close()

    asyncio.run(scenario())


def test_directories_of_a_relative_path_are_made(tmp_path, monkeypatch):
    """The default store lives in a directory of its own below the current one."""
    monkeypatch.chdir(tmp_path)
    asyncio.run(open_and_close(Path("deep/.perdure/runs.db")))
    assert (tmp_path / "deep/.perdure/runs.db").is_file()


def test_an_impossible_path_is_named(tmp_path):
    """A missing directory of an absolute path, a file as a directory, a directory as a file."""
    (tmp_path / "file").write_text("")
    (tmp_path / "directory").mkdir()
    for path in (tmp_path / "missing/runs.db", tmp_path / "file/runs.db", tmp_path / "directory"):
        with pytest.raises(StoreReadOnly, match="--store"):
            asyncio.run(open_and_close(path))


@pytest.fixture
def foreign_directory() -> Iterator[Path]:
    """A directory that this test may read and not write, with a store in it; root becomes nobody meanwhile."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        asyncio.run(open_and_close(directory / "runs.db"))
        (directory / "runs.db").chmod(0o444)
        directory.chmod(0o555)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        yield directory
        if root:
            os.seteuid(0)
        directory.chmod(0o755)


@pytest.mark.parametrize("name", ["runs.db", "new.db"])
def test_what_may_not_be_written_is_named(foreign_directory, name):
    """A store that is there and one that is not: with what to check."""
    with pytest.raises(StoreReadOnly, match="may write"):
        asyncio.run(open_and_close(foreign_directory / name))


@pytest.mark.parametrize("version", [version for version, _ in load_migrations("sqlite")])
def test_a_migrated_store_equals_a_fresh_one(tmp_path, version):
    """From every version there ever was, and again when it is opened once more."""
    asyncio.run(open_and_close(tmp_path / "fresh.db"))
    old = tmp_path / "old.db"
    db = apsw.Connection(str(old))
    for number, script in load_migrations("sqlite"):
        if number <= version:
            for _ in db.execute(script):
                pass
            db.pragma("user_version", number)
    db.pragma("application_id", APPLICATION_ID)
    db.close()
    for _ in range(2):
        asyncio.run(open_and_close(old))
        assert schema_of(old) == schema_of(tmp_path / "fresh.db")


def test_a_store_of_the_first_version_goes_on_with_what_it_has(tmp_path):
    """What was in it is there after the migration, and what came since works."""
    path = tmp_path / "old.db"
    db = apsw.Connection(str(path))
    for _ in db.execute(load_migrations("sqlite")[0][1]):
        pass
    db.execute("insert into perdure_meta (name, value) values ('slots', '3')")
    db.execute(
        "insert into perdure_runs (id, agent, version, session, shard, status, created, updated, priority, attempt, strikes, "
        "seq, steps) values ('run_1', 'buyer', 'v1', 's', 'buyer:0', 'waiting', 3, 5, 0, 1, 0, 0, 0)"
    )
    db.execute("insert into perdure_events values (1, 1, 1, 1, 3, null, null, '{}')")
    db.execute("insert into perdure_state (agent, session, name, value) values ('buyer', 's', 'spent', '12')")
    db.pragma("user_version", 1)
    db.pragma("application_id", APPLICATION_ID)
    db.close()

    async def scenario() -> None:
        store = SqliteStore(str(path))
        await store.open()
        assert await store.slots() == 3
        assert await store.state("buyer", "s") == {"spent": "12"}
        assert await store.sessions() == [SessionRow("buyer", "s", 5, "run_1")]
        assert await store.put_document(Document("key", "a", "{}")) == Document("key", "a", "{}", 1)
        [node] = await store.beat(Node("node_a", "here", 1, ()), 10)
        assert await store.share(node.id, [QuotaWish("buyer", 5, 0, 9)]) == [5]
        await store.close()

    asyncio.run(scenario())


def test_a_newer_store_is_left_alone(tmp_path):
    """The error says which version it has and what to upgrade."""
    path = tmp_path / "runs.db"
    asyncio.run(open_and_close(path))
    db = apsw.Connection(str(path))
    db.pragma("user_version", 99)
    db.close()
    before = path.read_bytes()
    with pytest.raises(StoreNewer, match=r"version 99.*upgrade perdure"):
        asyncio.run(open_and_close(path))
    assert path.read_bytes() == before


def test_another_programs_database_is_left_alone(tmp_path):
    """Even without an application id of its own: its tables say that it is not empty."""
    path = tmp_path / "theirs.db"
    for pragma, value in (("user_version", 0), ("user_version", 3), ("application_id", 7)):
        path.unlink(missing_ok=True)
        db = apsw.Connection(str(path))
        db.execute("create table account (id)")
        db.pragma(pragma, value)
        db.close()
        before = path.read_bytes()
        with pytest.raises(StoreCorrupt, match="not a Perdure store"):
            asyncio.run(open_and_close(path))
        assert path.read_bytes() == before


def test_what_is_no_database_is_left_alone(tmp_path):
    """A text file is named as such, with the ways out."""
    path = tmp_path / "notes.txt"
    path.write_text("Dear diary, " * 1000)
    with pytest.raises(StoreCorrupt, match=r"perdure db check.*backup"):
        asyncio.run(open_and_close(path))
    assert path.read_text() == "Dear diary, " * 1000


def test_an_interrupted_set_up_is_repeated(tmp_path):
    """An empty file, as a crash before the first migration leaves it, becomes a store."""
    path = tmp_path / "runs.db"
    path.touch()
    asyncio.run(open_and_close(path))


def test_a_damaged_page_is_named(tmp_path):
    """Not a driver's error, when a read meets it; `check` finds it too."""
    path = tmp_path / "runs.db"
    asyncio.run(open_and_close(path))
    db = apsw.Connection(str(path))
    root = db.execute("select rootpage from sqlite_schema where name = 'perdure_runs'").get
    db.close()
    with path.open("r+b") as file:
        file.seek((root - 1) * 8192)
        file.write(b"\xff" * 8192)

    async def scenario() -> None:
        store = SqliteStore(str(path))
        await store.open()
        with pytest.raises(StoreCorrupt, match="damaged"):
            await store.runs(RunFilter())
        assert await store.check() != []
        await store.close()

    asyncio.run(scenario())


def test_a_closed_store_says_so(tmp_path):
    """Closing twice is fine; using it afterwards is a StoreError; opening it again works."""

    async def scenario() -> None:
        store = SqliteStore(str(tmp_path / "runs.db"))
        with pytest.raises(StoreError, match="closed"):
            await store.commit([])
        for _ in range(2):
            await store.open()
            await store.commit([])
            await store.close()
            await store.close()
            with pytest.raises(StoreError, match="closed"):
                await store.run("run_1")

    asyncio.run(scenario())
