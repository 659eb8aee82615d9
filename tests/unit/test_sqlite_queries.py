"""The SQL files: every query has a name and a purpose, is valid, and finds what it needs through an index."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

import perdure.store
from perdure.store import SqliteStore
from perdure.store.contract import RunFilter
from perdure.store.queries import load_migrations, load_queries
from perdure.store.sqlite import reads

FILES = ("commit", "read", "shards", "nodes", "quotas", "documents", "exchange", "moving", "check")

#: Values that were given, and the queues or sessions that a query itself found.
HARMLESS = re.compile(r"VIRTUAL|CONSTANT ROW|SCAN (queue|found|\(subquery-1\))$")

#: Tables so small, or questions so rare, that reading everything is right.
READS_ALL = {
    "runs",
    "asks",
    "event_types",
    "shards",
    "nodes",
    "dead_since",
    "drop_shares",
    "moved",
    "parcels",
    "backlog",
}


@pytest.fixture
def db(tmp_path) -> Iterator[apsw.Connection]:
    """A fresh store's database."""
    path = str(tmp_path / "runs.db")

    async def make() -> None:
        store = SqliteStore(path)
        await store.open()
        await store.close()

    asyncio.run(make())
    connection = apsw.Connection(path)
    yield connection
    connection.close()


def plan(db: apsw.Connection, sql: str) -> list[str]:
    """What SQLite would do, line by line."""
    names = dict.fromkeys(re.findall(r":(\w+)", sql))
    numbers = [int(number) for number in re.findall(r"\?(\d)", sql)] or [sql.count("?")]
    return [row[3] for row in db.execute(f"explain query plan {sql}", names or (None,) * max(numbers))]


def test_every_query_is_loaded():
    """The loader misses none: as many queries as there are names, each one statement with a purpose above it."""
    root = Path(perdure.store.__file__).parent / "sql" / "sqlite"
    assert {file.stem for file in root.glob("*.sql")} == set(FILES)
    for name in FILES:
        text = (root / f"{name}.sql").read_text()
        assert len(load_queries("sqlite", name)) == text.count("-- name: ") > 0
        assert len(re.findall(r"-- name: \w+\n-- \S", text)) == text.count("-- name: ")


def test_every_query_finds_its_rows_by_an_index(db):
    """No question that a kernel asks while it works reads a whole table."""
    for file in ("commit", "read", "shards", "nodes", "quotas", "documents", "exchange"):
        for name, sql in load_queries("sqlite", file).items():
            if name not in READS_ALL and not sql.startswith("pragma"):
                scans = [step for step in plan(db, sql) if step.startswith("SCAN") and not HARMLESS.search(step)]
                assert scans == [], name


@pytest.mark.parametrize(
    ("query", "index"),
    [("queues", "perdure_runs_queued"), ("ready", "perdure_runs_queued"), ("due", "perdure_runs_due"),
     ("next_due", "perdure_runs_due"), ("active", "perdure_runs_running"), ("session_active", "perdure_runs_active"),
     ("session_next", "perdure_runs_next"), ("sessions", "perdure_runs_session"), ("run_by_key", "perdure_runs_idempotent")],
)  # fmt: skip
def test_the_small_indexes_are_used(db, query, index):
    """Those that hold only what is queued, waiting or begun: ended runs cost nothing."""
    assert any(index in step for step in plan(db, load_queries("sqlite", "read")[query]))


def test_the_next_session_is_one_step_in_the_index(db):
    """From the agent and the session, or from the agent: what lies between is not passed over row by row."""
    steps = [step for step in plan(db, load_queries("sqlite", "read")["sessions"]) if "perdure_runs_session" in step]
    for condition in ("((agent,session)>(?,?))", "(agent=? AND session>?)", "(agent>?)", "(agent=? AND session=?)"):
        assert sum(step.endswith(f"perdure_runs_session {condition}") for step in steps) == 1, steps


def test_lists_use_what_they_are_narrowed_by(db):
    """A session, a parent, an idempotency key and open asks have indexes."""
    for wanted, index in (
        (RunFilter(agent="a", session="s"), "perdure_runs_session"),
        (RunFilter(parent="run_1"), "perdure_runs_children"),
    ):
        asked = {name: getattr(wanted, name) for name in reads._RUN_CONDITIONS if getattr(wanted, name)}
        sql, _ = reads._narrowed(load_queries("sqlite", "read")["runs"], reads._RUN_CONDITIONS, asked)
        assert any(index in step for step in plan(db, sql))
    sql, _ = reads._narrowed(load_queries("sqlite", "read")["asks"], reads._ASK_CONDITIONS, {"open": "open"})
    assert any("perdure_asks_open" in step for step in plan(db, sql))


def test_migrations_are_numbered_without_gaps():
    """Each file's number is the version it leads to."""
    versions = [version for version, _ in load_migrations("sqlite")]
    assert versions == list(range(1, len(versions) + 1))
