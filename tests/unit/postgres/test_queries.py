"""The SQL files: every query has a name and a purpose, and finds what it needs through an index, however much there is."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import psycopg
import pytest

import perdure.store
from perdure.store.contract import RunFilter
from perdure.store.postgres import copies, reads
from perdure.store.queries import load_queries
from tests.unit.postgres.nodes import open_store

FILES = {"commit", "read", "shards", "nodes", "quotas", "check", "facts", "exchange", "moving", "documents"}

#: A node's questions, each many times a second: answered from indexes, in the order of the index where there is a limit.
ASKED_OFTEN = {
    "run": "runs_id", "run_by_key": "runs_idempotent", "session_active": "runs_active", "session_next": "runs_next",
    "active": "runs_running", "queues": "runs_queued", "ready": "runs_queued", "due": "runs_due", "next_due": "runs_due",
    "sessions": "runs_session",
    "events": "events_pkey", "signals": "signals_pkey", "run_signals": "signals_run", "ask": "asks_id", "state": "state_pkey",
}  # fmt: skip

#: 100,000 runs of 20 agents with 16 shards each: most have ended, some wait, a few are queued. And what goes with them.
FILL = """
insert into perdure.shards (name, epoch)
select 'a' || a || ':' || s, 1 from generate_series(0, 19) a, generate_series(0, 15) s;
insert into perdure.runs (shard, id, agent, version, session, status, wake_at, created, updated, parent, priority,
    idempotency_key, attempt, strikes, seq, steps)
select 'a' || n % 20 || ':' || n % 16, 'run_' || n, 'a' || n % 20, 'v1', 's' || n,
    case when n % 100 < 90 then 'succeeded' when n % 100 < 97 then 'waiting' when n % 100 < 99 then 'queued'
        else 'running' end,
    case when n % 2 = 0 then n end, n, n, case when n % 10 = 0 then 'run_' || n / 10 end, 0,
    case when n % 5 = 0 then 'key' || n end, 1, 0, 2, 0
from generate_series(1, 100000) n;
insert into perdure.events (shard, run, seq, type, time, data)
select 'a' || n % 20 || ':' || n % 16, 'run_' || n, seq, 'progress', n, '{}'
from generate_series(1, 100000) n, generate_series(1, 2) seq;
insert into perdure.signals (shard, agent, session, run, kind, data, created)
select 'a' || n % 20 || ':' || n % 16, 'a' || n % 20, 's' || n, case when n % 2 = 0 then 'run_' || n end, 'message', '{}', n
from generate_series(1, 20000) n;
insert into perdure.asks (id, run, agent, shard, step, kind, title, detail, created, status)
select 'run_' || n || ':1', 'run_' || n, 'a', 'a0:0', 1, 'ask', '?', '{}', n,
    case when n % 50 = 0 then 'open' else 'answered' end
from generate_series(1, 50000) n;
insert into perdure.state (agent, session, name, value, shard)
select 'a' || n % 20, 's' || n, 'k', '1', 'a0:0' from generate_series(1, 50000) n;
analyze perdure.runs, perdure.events, perdure.signals, perdure.asks, perdure.state, perdure.shards;
"""


async def make_store(url):
    """A store that nobody has used."""
    async with open_store(url):
        pass


async def fill(url):
    """A store that has been in use."""
    await make_store(url)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(FILL)


@pytest.fixture(scope="module")
def full(postgres_server):
    """A database with 100,000 runs, asked as a node asks: with plans that know no values."""
    url = postgres_server.create_database("full")
    asyncio.run(fill(url))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("set plan_cache_mode = force_generic_plan")
        connection.execute("set jit = off")
        yield connection
    postgres_server.drop_database("full")


@pytest.fixture
def fresh(postgres_url):
    """A database in which nothing is yet, and of which the planner knows nothing."""
    asyncio.run(make_store(postgres_url))
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("set plan_cache_mode = force_generic_plan")
        yield connection


def plan(connection, sql):
    """What PostgreSQL would do, line by line, whatever the values."""
    names = list(dict.fromkeys(re.findall(r"%\((\w+)\)[sb]", sql)))
    for number, name in enumerate(names, 1):
        sql = re.sub(rf"%\({name}\)[sb]", f"${number}", sql)
    many = len(names)
    while re.search(r"%[sb]", sql):
        many += 1
        sql = re.sub(r"%[sb]", f"${many}", sql, count=1)
    connection.execute(f"prepare asked as {sql.replace('%%', '%')}")
    try:
        values = f"({', '.join(['null'] * many)})" if many else ""
        return [line for (line,) in connection.execute(f"explain execute asked{values}")]
    finally:
        connection.execute("deallocate asked")


def test_every_query_is_loaded():
    """The loader misses none: as many queries as there are names, each one statement with a purpose above it."""
    root = Path(perdure.store.__file__).parent / "sql" / "postgres"
    assert {file.stem for file in root.glob("*.sql")} == FILES
    for name in FILES:
        text = (root / f"{name}.sql").read_text()
        queries = load_queries("postgres", name)
        assert len(queries) == text.count("-- name: ") > 0
        assert len(re.findall(r"-- name: \w+\n-- \S", text)) == text.count("-- name: ")
        assert not any("--" in sql for sql in queries.values()), "on one line it would hide the rest"


@pytest.mark.slow
@pytest.mark.parametrize(("query", "index"), ASKED_OFTEN.items())
def test_what_a_node_asks_often_is_found_by_an_index(full, query, index):
    """No table that grows is read as a whole."""
    steps = plan(full, load_queries("postgres", "read")[query])
    assert [step for step in steps if re.search(r"Seq Scan on (?!shards)", step)] == []
    assert any(re.search(rf"\b{index}\b", step) for step in steps), steps


@pytest.mark.parametrize("query", ["run", "events", "run_signals", "signals", "ask", "sessions"])
def test_a_plan_that_was_made_while_there_was_nothing_is_good_when_there_is_much(fresh, query):
    """A connection keeps its plans: what it planned in its first second must not read whole tables an hour later."""
    steps = plan(fresh, load_queries("postgres", "read")[query])
    assert [step for step in steps if re.search(r"Seq Scan|Hash|Merge", step)] == []


@pytest.mark.slow
def test_signals_are_read_from_where_the_last_look_ended(full):
    """What was seen before is not gone through again: the index begins at the oldest transaction that was under way."""
    steps = plan(full, load_queries("postgres", "read")["signals"])
    [condition] = [step for step in steps if "Index Cond" in step]
    assert "put_in >=" in condition


@pytest.mark.slow
def test_commits_find_their_rows_by_indexes(full):
    """Whatever a batch asks beside its one statement; tables that stay small may be read as a whole."""
    for name, sql in load_queries("postgres", "commit").items():
        if not name.startswith(("forget_", "write", "commit")):
            assert [step for step in plan(full, sql) if re.search(r"Seq Scan on (?!writers|shards)", step)] == [], name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (RunFilter(), "runs_newest"),
        (RunFilter(agent="a1", session="s1"), "runs_session"),
        (RunFilter(parent="run_1"), "runs_children"),
        (RunFilter(before="run_1"), "runs_newest"),
    ],
)
def test_lists_use_what_they_are_narrowed_by(full, wanted, index):
    """The newest of all, of a session, of a parent, and the next page."""
    asked = {name: getattr(wanted, name) for name in reads._RUN_CONDITIONS if getattr(wanted, name)}
    sql, _ = reads._narrowed(load_queries("postgres", "read")["runs"], reads._RUN_CONDITIONS, asked)
    assert any(f"using {index}" in step or f"on {index}" in step for step in plan(full, sql))


@pytest.mark.slow
def test_open_asks_are_found_among_many(full):
    """By the index that holds no others."""
    sql, _ = reads._narrowed(load_queries("postgres", "read")["asks"], reads._ASK_CONDITIONS, {"open": "open"})
    assert any("asks_open" in step for step in plan(full, sql))


@pytest.mark.slow
def test_a_full_check_may_take_longer_than_a_request(full, monkeypatch):
    """It finds what is wrong among 200,000 events, whatever the limit of a single statement is."""
    url = full.info.dsn
    full.execute("alter database full set statement_timeout = '1ms'".replace("database full", 'database "full"'))
    full.execute("update perdure.events set data = 'no json' where run = 'run_5' and seq = 2")
    full.execute("delete from perdure.events where run = 'run_7' and seq = 1")
    try:

        async def scenario():
            async with open_store(url, slots=16) as store:
                return await copies.find_problems(store._connections)

        assert asyncio.run(scenario()) == [
            "run run_7: 1 events, but they are numbered 2 to 2",
            "run run_5: event 2 is unreadable",
        ]
    finally:
        full.execute('alter database "full" reset statement_timeout')
