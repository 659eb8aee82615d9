"""A user's SQL in our transaction: what it says is read as PostgreSQL reads it, and what it may not do is refused."""

from __future__ import annotations

import asyncio
from datetime import date

import psycopg
import pytest

from perdure.errors import StatementFailed
from perdure.store.contract import Statement, Transaction
from perdure.store.postgres import statements
from perdure.store.postgres.statements import translate
from tests.unit.postgres.nodes import ask_database, event, open_node, signal


def play(url, scenario):
    """A scenario with a node that has a run."""

    async def stage():
        async with open_node(url) as node:
            await node.begin("run_1")
            await scenario(node)

    asyncio.run(stage())


ORDINARY = [
    ("select 'it''s ? :x %' as a", (), "it's ? :x %"),
    ("select E'it\\'s ? \\\\' as a", (), "it's ? \\"),
    ("select $$ ? ' :x $$", (), " ? ' :x "),
    ("select $q$ $$ ? $$ $q$", (), " $$ ? $$ "),
    ("select 1 /* ? ' */ -- :x '\n", (), "1"),
    ("select '5'::int + ?::int", (2,), "7"),
    ("select (:a)::text || :b", {"a": "x", "b": "y"}, "xy"),
    ("select ?2::text || ?1::text", ("x", "y"), "yx"),
    ("select '{\"a\": 1}'::jsonb ?? 'a'", (), "true"),
    ("select '{\"a\": {\"b\": 7}}'::json #>> '{a,b}'", (), "7"),
    ("select 7 % 4", (), "3"),
    ("select 'a' like '%a%'", (), "true"),
    ('select "ü?" from (select 3 as "ü?") as t', (), "3"),
    ("select größe from (select 4 as größe) as t", (), "4"),
    ("select (array[1,2,3])[1:2]", (), "{1,2}"),
    ("with a as (select 1 as one) select one from a", (), "1"),
    ("select U&'\\0061'", (), "a"),
    ("values (1)", (), "1"),
    ("SELECT 1 AS Perfect", (), "1"),
    ("select e'' || 'x'", (), "x"),
    ("select 1.5e1", (), "15"),
    ("select temp from (select 20 as temp) as weather", (), "20"),
]


@pytest.mark.parametrize(("sql", "params", "wanted"), ORDINARY)
def test_ordinary_sql_means_what_it_says(postgres_url, sql, params, wanted):
    """Texts, comments, operators and names are PostgreSQL's; only `?` and `:name` outside of them are ours."""
    text, values = translate(Statement(sql, params))
    with psycopg.connect(postgres_url) as connection:
        [[found]] = connection.execute(text, values, binary=True).fetchall()
    said = {True: "true"}.get(found, found) if isinstance(found, bool) else found
    assert (f"{{{','.join(map(str, said))}}}" if isinstance(said, list) else f"{said}") in {wanted, f"{wanted}.0"}


HOSTILE = [
    "select * from perdure.runs",
    'select * from "perdure".runs',
    'select * from U&"\\0070erdure".runs',
    'select * from u&"p!0065rdure" uescape \'!\' .runs',
    "select 1 as a$b$, (select count(*) from perdure.runs) as c$b$",
    "select 1a$b$, (select count(*) from perdure.runs) as c$b$",
    "select 1e'\\' ' , (select count(*) from perdure.runs), '",
    "select $€$ ' $€$, (select count(*)::text from perdure.runs), '",
    "select E'a'\n'b\\'', (select count(*)::text from perdure.runs), '...'",
    "select E'a' -- and\n'b\\'', (select count(*)::text from perdure.runs), '...'",
    "select 1 /* /* */ ' */ , (select count(*) from perdure.runs) --'",
    "select 1 /* ' */ , (select count(*) from perdure.runs) /* ' */",
    "select 1 --\r, (select count(*) from perdure.runs)",
    "select null::perdure.runs",
    "select cast(null as perdure.runs)",
    "select perdure.now()",
    "select 1 operator(perdure.+) 2",
    "insert into mine select id from perdure.runs",
    "create function mine() returns void language sql as 'delete from perdure.runs'",
    "create or replace function mine() returns void language plpgsql as $$ begin delete from perdure.runs; end $$",
    "create procedure mine() language sql as 'commit'",
    "create trigger t after insert on mine execute function f()",
    "create rule r as on insert to mine do also select 1",
    "create event trigger e on ddl_command_end execute function f()",
    "create extension dblink",
    "create temp table mine (a int)",
    "create temporary view mine as select 1",
    "create local temp table mine (a int)",
    "create table pg_temp.mine (a int)",
    "select 1 as a into temp mine",
    "select 1 as a into local temporary mine",
    "create table mine as execute _pg3_0",
    "alter role current_user set search_path = mine",
    "alter user perdure superuser",
    "alter database postgres set jit = on",
    "alter system set fsync = off",
    "alter default privileges grant all on tables to public",
    "alter function mine() set search_path = x",
    "drop owned by perdure",
    "drop schema perdure cascade",
    "alter schema perdure rename to mine",
    "alter table mine set schema perdure",
    "comment on schema perdure is 'mine'",
    "select set_config('role', 'mine', false)",
    'select "set_config"(\'role\', \'mine\', false)',
    "select pg_catalog.set_config('role', 'mine', false)",
    "update pg_settings set setting = 'off' where name = 'jit'",
    "select setval('perdure.signals_id_seq', 1)",
    "select query_to_xml('delete from perdure.runs returning 1', true, true, '')",
    "select table_to_xml('perdure.runs', true, true, '')",
    "select database_to_xml(true, true, '')",
    "select dblink_exec('dbname=postgres', 'drop schema perdure')",
    "select ts_stat('select 1')",
    "select lo_import('/etc/passwd')",
    "select pg_read_file('/etc/passwd')",
    "select pg_terminate_backend(1)",
    "select pg_advisory_lock(1)",
    "select pg_try_advisory_lock_shared(1)",
    "set role mine",
    "reset all",
    "discard all",
    "do $$ begin end $$",
    "call mine()",
    "copy mine from program 'id'",
    "prepare q as select 1",
    "execute q",
    "listen mine",
    "notify perdure",
    "lock table mine",
    "explain analyze select 1",
    "grant all on schema perdure to public",
    "vacuum mine",
    "begin", "commit", "rollback", "savepoint x", "release part", "rollback to part", "end", "abort",
    "start transaction", "prepare transaction 'x'", "set transaction isolation level serializable",
    "select 'never ends",
    'select "never ends',
    "select $q$ never ends",
    "select 1 /* never ends",
    "select 1 */",
    'select ""',
    "", " ", ";", "-- nothing", "(", "?",
]  # fmt: skip


@pytest.mark.parametrize("sql", HOSTILE)
def test_what_a_step_may_not_do_is_refused_unsent(sql):
    """Our names however they are written, code, settings, sessions and transactions; and what could be read in two ways."""
    with pytest.raises(StatementFailed, match="The statement was"):
        translate(Statement(sql))


@pytest.mark.parametrize("sql", ["select 1; select 2", "select 1; commit", "select 1 where ? = 1", "select nothing"])
def test_the_server_refuses_the_rest(postgres_url, sql):
    """Two statements in one, a missing parameter, a wrong name: the step fails, its neighbours are written."""

    async def scenario(node):
        refused, accepted = await node.store.commit([node.execute(sql), node.append("run_1", 2)])
        assert isinstance(refused, StatementFailed)
        assert "\n" not in str(refused)
        assert accepted is None

    play(postgres_url, scenario)


def test_the_connection_is_clean_afterwards(postgres_url):
    """Whatever accepted, failed and refused statements tried: settings, role, locks and tables are as they were."""
    state = """
    select string_agg(name || '=' || setting, ' ' order by name) from pg_settings
    union all select current_user::text || session_user::text
    union all select count(*)::text from pg_class where relpersistence = 't'
    union all select count(*)::text from pg_locks where locktype = 'advisory'
    """

    async def scenario(node):
        committer = node.store._committer
        await node.store.commit([node.append("run_1", 2)])
        before = await committer._rows(state, ())
        outcomes = await node.store.commit(
            [
                node.execute("create table mine (a int)", "insert into mine values (1)"),
                node.execute("select pg_advisory_xact_lock(5)"),
                node.execute("select 1 / 0"),
                node.execute("set role nobody"),
            ]
        )
        assert [type(outcome) for outcome in outcomes] == [type(None), type(None), StatementFailed, StatementFailed]
        assert await committer._rows(state, ()) == before
        for seq in range(3, 21):  # often enough for statements that were prepared, ours and those in between
            work = node.execute("select 1") if seq % 3 == 0 else Transaction()
            assert await node.store.commit([node.append("run_1", seq), work]) == [None, None]
            assert await node.store.commit([Transaction(signals=[signal()])])

    play(postgres_url, scenario)


def test_a_function_of_the_database_may_change_settings_for_nobody_else(postgres_url):
    """What its owner allowed a user to call, and what that leaves to the session, ends with the batch."""
    ask_database(
        postgres_url,
        "create function public.unruly() returns void language plpgsql as $$ begin "
        "perform set_config('search_path', 'nowhere', false), pg_advisory_lock(7); "
        "create temp table text (a int); end $$",
    )

    async def scenario(node):
        assert await node.store.commit([node.execute("select unruly()")]) == [None]
        found = await node.store._committer._rows(
            "select current_setting('search_path') || (select count(*) from pg_locks where locktype = 'advisory')", ()
        )
        assert found == [('"$user", public0',)]
        assert await node.store.commit([node.append("run_1", 2)]) == [None]

    play(postgres_url, scenario)


def test_values_arrive_as_what_they_are(postgres_url):
    """Numbers, texts, truth, nothing, dates and JSON, in columns of their types."""

    async def scenario(node):
        columns = "i bigint, f float, s text, b bool, n text, d date, t timestamptz, l jsonb, o json, m numeric"
        make = f"create table kept ({columns})"
        values = (
            2**40, 1.5, "ü", True, None, "2026-01-02", "2026-01-02T03:04:05Z", [1, {"a": None}], {"b": [True]}, 2**70,
        )  # fmt: skip
        add = Statement("insert into kept values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
        named = Statement("insert into kept (i, s) values (:i, :s)", {"i": 1, "s": "x"})
        work = Transaction(fence=node.fence, statements=[Statement(make), add, named])
        assert await node.store.commit([work]) == [None]
        with psycopg.connect(postgres_url) as connection:
            [row] = connection.execute("select * from kept where f is not null").fetchall()
        assert row[:6] == (2**40, 1.5, "ü", True, None, date(2026, 1, 2))
        assert (row[7], row[8], row[9]) == ([1, {"a": None}], {"b": [True]}, 2**70)

    play(postgres_url, scenario)


@pytest.mark.parametrize("value", ["\ud800", "a\0b", object(), float, 2**5000])
def test_a_value_that_cannot_be_stored_is_refused_alone(postgres_url, value):
    """The step fails, and its neighbours are written."""

    async def scenario(node):
        work = Transaction(fence=node.fence, statements=[Statement("select ?::text::int", (value,))])
        refused, accepted = await node.store.commit([work, node.append("run_1", 2)])
        assert isinstance(refused, (StatementFailed, ValueError))
        assert accepted is None

    play(postgres_url, scenario)


def test_a_constraint_that_is_checked_at_the_end_refuses_its_own_step(postgres_url):
    """A deferred one may be broken between the statements of a step; at its end it counts, and for that step alone."""

    async def scenario(node):
        key = "create table child (id int primary key, of_ int references child deferrable initially deferred)"
        outcomes = await node.store.commit(
            [
                node.execute(key),
                node.execute("insert into child values (1, 2)", "insert into child values (2, 2)"),
                node.execute("insert into child values (3, 4)", events=[event("run_1", 2)]),
                node.execute("insert into child values (5, 6)", "insert into child values (6, 6)"),
                node.append("run_1", 2),
            ]
        )
        assert [type(outcome) for outcome in outcomes] == [type(None)] * 2 + [StatementFailed] + [type(None)] * 2
        assert ask_database(postgres_url, "select id from child order by id") == [1, 2, 5, 6]

    play(postgres_url, scenario)


@pytest.mark.parametrize("sql", ["select pg_sleep(60)", "update busy set a = 1"])
def test_sql_that_takes_too_long_fails_its_step_only(postgres_url, monkeypatch, sql):
    """It sleeps, or waits for a lock of somebody who does not let go: the node's other commits go on."""
    monkeypatch.setattr(statements, "STATEMENTS_SECONDS", 0.1)
    ask_database(postgres_url, "create table busy (a int)")
    ask_database(postgres_url, "insert into busy values (0)")

    async def scenario(node):
        async with await psycopg.AsyncConnection.connect(postgres_url) as other:
            await other.execute("update busy set a = 2")
            refused, accepted = await node.store.commit([node.execute(sql), node.append("run_1", 2)])
        assert isinstance(refused, StatementFailed)
        assert "timeout" in str(refused)
        assert accepted is None

    play(postgres_url, scenario)


def test_a_database_with_other_ideas_of_a_backslash_runs_no_statements(postgres_url):
    """Where a backslash hides a quote in every text, what was read here is not what would run."""
    name = ask_database(postgres_url, "select current_database()")[0]
    ask_database(postgres_url, f"alter database {name} set standard_conforming_strings = off")
    try:

        async def scenario(node):
            refused, accepted = await node.store.commit([node.execute("select 1"), node.append("run_1", 2)])
            assert isinstance(refused, StatementFailed)
            assert accepted is None

        play(postgres_url, scenario)
    finally:
        ask_database(postgres_url, f"alter database {name} reset standard_conforming_strings")
