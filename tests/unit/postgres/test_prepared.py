"""A statement that is prepared once: its values arrive as they are, and its errors are the driver's."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import psycopg
import pytest
from psycopg.types.json import Jsonb

from perdure.store.contract import Transaction
from perdure.store.postgres import failures
from perdure.store.postgres.prepared import Prepared, Value
from perdure.store.postgres.steady import SteadyConnection
from tests.unit.postgres.nodes import ask_database, event, open_node

ECHO = Prepared("echo", "select json_build_array(%s::text, %s::bigint, %b::text[], %s::bigint[], %s::jsonb)")
RAISE = Prepared("raise", "select public.refuse(%s, %s)")
REFUSE = (
    "create function public.refuse(code text, said text) returns text language plpgsql as $function$ "
    "begin raise exception 'no' using errcode = code, detail = said; end $function$"
)
#: What the server knows of ours on the connection that asks, and how often it was used since it was prepared.
KNOWN = "select name from pg_prepared_statements where name in ('echo', 'perdure_commit')"
USES = "select generic_plans + custom_plans from pg_prepared_statements where name = 'echo'"


@asynccontextmanager
async def connect(url):
    async with await SteadyConnection.connect(url, autocommit=True) as connection:
        yield connection


async def first(connection, sql):
    """The first column."""
    cursor = await connection.execute(sql)
    return [row[0] for row in await cursor.fetchall()]


@pytest.mark.parametrize(
    "texts",
    [
        [],
        [""],
        ["NULL", "null", "{}", '"', "\\", "a,b", " ", "'", "%s", "$1"],
        ["å", "漢字", "😀"],
        ["x" * 300_000] * 20,
    ],
    ids=str,
)
def test_values_arrive_as_they_are(postgres_url, texts):
    """Empty, long, and whatever means something in a list, in SQL or to the driver."""

    async def scenario():
        async with connect(postgres_url) as connection:
            for text in texts or [""]:
                answer = await ECHO.ask(connection, [text, -(2**63), texts, "{1,NULL}", Jsonb({"a": text})])
                assert json.loads(answer) == [text, -(2**63), texts, [1, None], {"a": text}]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("values", "error"),
    [
        (["a", 1, ["b", 2], "{}", Jsonb({})], TypeError),
        (["a", 1, "b", "{}", Jsonb({})], TypeError),
        (["a", 1, ["b", None], "{}", Jsonb({})], TypeError),
        (["a", 1, ["\ud800"], "{}", Jsonb({})], UnicodeEncodeError),
        (["a", 1, ["b"], "{}"], ValueError),
        (["a", 1, ["\0"], "{}", Jsonb({})], psycopg.DataError),
        (["a", 2**63, [], "{}", Jsonb({})], psycopg.DataError),
    ],
)
def test_values_that_do_not_fit(postgres_url, values, error):
    """They are refused, here or by the server, and the next ones are not."""

    async def scenario():
        async with connect(postgres_url) as connection:
            with pytest.raises(error):
                await ECHO.ask(connection, values)
            assert json.loads(await ECHO.ask(connection, ["a", 1, [], "{}", Jsonb({})])) == ["a", 1, [], [], {}]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("code", "error"), [("23505", psycopg.errors.UniqueViolation), ("PD005", psycopg.Error), ("40001", psycopg.Error)]
)
def test_errors_are_the_driver_s(postgres_url, code, error):
    """With their code, their details and their words: failures.py goes by them."""

    async def scenario():
        async with connect(postgres_url) as connection:
            await connection.execute(REFUSE)
            with pytest.raises(error) as caught:
                await RAISE.ask(connection, [code, "why"])
            assert caught.value.sqlstate == code
            assert (caught.value.diag.message_primary, caught.value.diag.message_detail) == ("no", "why")
            assert str(caught.value).startswith("no\n")
            assert failures.is_undone(caught.value) == (code == "40001")

    asyncio.run(scenario())


def test_a_statement_that_cannot_be_prepared(postgres_url):
    """It says so each time."""

    async def scenario():
        wrong = Prepared("wrong", "select nothing.of_the_kind(%s)")
        async with connect(postgres_url) as connection:
            for _ in range(2):
                with pytest.raises(psycopg.errors.InvalidSchemaName):
                    await wrong.ask(connection, ["a"])

    asyncio.run(scenario())


def test_it_is_prepared_once_and_again_when_it_was_forgotten(postgres_url):
    """The driver itself makes the server forget everything, when it sees a rollback or a table go."""

    async def scenario():
        values: list[Value] = ["a", 1, ["b"], "{}", Jsonb({})]
        async with connect(postgres_url) as connection:
            for _ in range(5):
                await ECHO.ask(connection, values)
            assert await first(connection, USES) == [5]
            await connection.execute("deallocate all")
            assert await first(connection, KNOWN) == []
            assert json.loads(await ECHO.ask(connection, values))[2] == ["b"]
            assert await first(connection, KNOWN) == ["echo"]

    asyncio.run(scenario())


def test_commits_go_this_way_also_after_one_that_was_refused(postgres_url):
    """The usual way is prepared; the careful way's rollbacks make the server forget, and nobody notices."""

    async def scenario():
        async with open_node(postgres_url) as node:
            await node.begin("run_1")
            for seq in range(2, 8, 2):
                assert await node.store.commit([node.append("run_1", seq)]) == [None]
                assert await first(node.store._committer._connection, KNOWN) == ["perdure_commit"]
                drop = node.execute(f"create table goods_{seq} ()", f"drop table goods_{seq}")
                outcomes = await node.store.commit([node.append("run_1", seq + 1), drop, node.append("run_1", 99)])
                assert outcomes[:2] == [None, None]
                assert isinstance(outcomes[2], ValueError)
            assert await node.seqs("run_1") == list(range(1, 8))

    asyncio.run(scenario())


@pytest.fixture
def latin_url(postgres_server):
    """A database in another encoding, and a URL that asks for it."""
    ask_database(postgres_server.url(), "create database latin encoding 'LATIN1' locale 'C' template template0")
    yield f"{postgres_server.url('latin')}?client_encoding=latin1"
    postgres_server.drop_database("latin")


def test_a_database_that_writes_in_another_way(latin_url):
    """What it can write comes back as it was, and what it cannot is refused alone."""

    async def scenario():
        async with open_node(latin_url) as node:
            await node.begin("run_1", "run_2")

            for seq, raw in enumerate(['"漢"', '"å"'], 2):
                work = Transaction(fence=node.fence, events=[event("run_1", 2, raw)])
                first, second = await node.store.commit([work, node.append("run_2", seq)])
                assert isinstance(first, ValueError) == (raw == '"漢"')
                assert second is None
            assert [found.raw for found in await node.store.events("run_1", after=1)] == ['"å"']

    asyncio.run(scenario())
