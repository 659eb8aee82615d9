"""Checks find what is wrong inside a file; backups are whole or not there."""

from __future__ import annotations

import asyncio
import stat

import apsw
import pytest

from perdure.errors import InvalidSetting, StoreReadOnly
from perdure.store import SqliteStore
from perdure.store.contract import Fence, NewRun, RunFilter, RunUpdate, Transaction
from perdure.values.events import Event
from perdure.values.runs import Run, RunStatus


async def filled_store(path) -> SqliteStore:
    """A store with two runs: one waiting in session s, one that has succeeded."""
    store = SqliteStore(str(path))
    await store.open()
    [lease] = await store.claim("node_a", ["buyer/1"], 60)
    for number, end, status in ((1, "message.awaited", RunStatus.WAITING), (2, "run.succeeded", RunStatus.SUCCEEDED)):
        run = Run(f"run_{number}", "buyer", "v1", f"s{number}", "buyer/1", RunStatus.QUEUED, 1, 1)
        events = [Event(run.id, seq, name, 1, None, None, "{}") for seq, name in enumerate(["run.queued", end], 1)]
        outcomes = await store.commit(
            [
                Transaction(create=[NewRun(run, events[:1])]),
                Transaction(fence=Fence(*lease), events=events[1:], updates={run.id: RunUpdate(status, 2)}),
            ]
        )
        assert outcomes == [None, None]
    return store


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        ("delete from perdure_events where seq = 1 and run = 1", "run run_1: 1 events, but they are numbered 2 to 2"),
        ("update perdure_events set seq = 7 where seq = 2 and run = 1", "run run_1: 2 events, but they are numbered"),
        ("delete from perdure_runs where id = 'run_1'", "events of an unknown run"),
        ("delete from perdure_events where run = 1", "run run_1: it has no events"),
        ("insert into perdure_events values (99, 2, 3, 'progress', 1, null, null, '{}')", "run.succeeded at 2 is not"),
        (
            "drop index perdure_runs_active; update perdure_runs set status = 'running', session = 's'",
            "session buyer/s: 2 active runs",
        ),
    ],
)
def test_a_check_finds_broken_promises(tmp_path, damage, problem):
    """What pages and indexes cannot tell: gaps, orphans, events after the end, two active runs of a session."""

    async def scenario() -> None:
        store = await filled_store(tmp_path / "runs.db")
        assert await store.check() == []
        other = apsw.Connection(str(tmp_path / "runs.db"))
        for _ in other.execute(damage):
            pass
        other.close()
        found = await store.check()
        assert any(problem in line for line in found), found
        await store.close()

    asyncio.run(scenario())


def test_a_backup_is_a_store(tmp_path):
    """Made while work goes on, complete as of one commit, private, and without leftovers."""

    async def scenario() -> None:
        store = await filled_store(tmp_path / "runs.db")
        await store.backup(str(tmp_path / "copy.db"))
        assert stat.S_IMODE((tmp_path / "copy.db").stat().st_mode) == 0o600
        copy = SqliteStore(str(tmp_path / "copy.db"))
        await copy.open()
        assert await copy.check() == []
        assert await copy.runs(RunFilter()) == await store.runs(RunFilter())
        assert await copy.events("run_1") == await store.events("run_1")
        await copy.close()
        await store.close()
        assert not list(tmp_path.glob("*.part*"))

    asyncio.run(scenario())


def test_a_backup_overwrites_nothing(tmp_path):
    """A file that exists stays as it is; a directory that does not is named."""

    async def scenario() -> None:
        store = await filled_store(tmp_path / "runs.db")
        (tmp_path / "precious").write_text("mine")
        with pytest.raises(InvalidSetting, match="never overwrites"):
            await store.backup(str(tmp_path / "precious"))
        assert (tmp_path / "precious").read_text() == "mine"
        with pytest.raises(StoreReadOnly, match="nowhere"):
            await store.backup(str(tmp_path / "nowhere" / "copy.db"))
        await store.close()

    asyncio.run(scenario())
