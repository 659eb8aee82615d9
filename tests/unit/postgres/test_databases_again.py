"""Databases that tests use one after the other: what one left does not reach the next."""

from __future__ import annotations

import asyncio

import pytest

from perdure.store.contract import Transaction
from tests.postgres import Databases
from tests.unit.postgres.nodes import ask_database, open_node, signal

SCHEMAS = (
    "select nspname::text from pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema' order by 1"
)
TABLES = "select relname::text from pg_class where relnamespace = 'perdure'::regnamespace and relkind = 'r'"


@pytest.fixture(scope="module")
def databases(postgres_server):
    """Those of a collection of its own."""
    return Databases(postgres_server, "again")


def test_an_empty_store_is_handed_out_again(databases):
    """The same database, without a row, its numbers beginning anew, and without what a tool made."""

    async def work():
        async with open_node(url) as node:
            await node.begin("run_1")
            await node.store.commit([Transaction(signals=[signal()])])

    with databases.lend() as take:
        url = take()
        asyncio.run(work())
        ask_database(url, "create table public.bookings (a int)")
        ask_database(url, "create schema mine create table mine.own (a int)")
    with databases.lend() as take:
        assert take() == url
        assert ask_database(url, SCHEMAS) == ["perdure", "public"]
        assert ask_database(url, "select to_regclass('public.bookings')::text") == [None]
        for table in ask_database(url, TABLES):
            assert ask_database(url, f"select count(*) from perdure.{table}") == [2 if table == "meta" else 0]
        asyncio.run(work())
        assert ask_database(url, "select key from perdure.runs") == [1]


@pytest.mark.parametrize(
    "change",
    [
        "alter table perdure.runs add column mine int",
        "alter table perdure.runs alter column reason set not null",
        "alter table perdure.runs set (fillfactor = 50)",
        "alter table perdure.runs rename column reason to motive",
        "drop index perdure.runs_due",
        "create table perdure.mine (a int)",
        "create rule mine as on insert to perdure.asks do instead nothing",
        "create or replace function perdure.now() returns bigint language sql as 'select 1::bigint'",
        "grant select on perdure.runs to public",
        "grant usage on schema perdure to public",
        "update perdure.meta set value = '99'",
        "insert into perdure.meta values ('mine', '1')",
        "drop schema perdure cascade",
    ],
)
def test_a_schema_that_was_changed_is_not(databases, change):
    """It is dropped, and its database is for those who want none."""
    with databases.lend() as take:
        url = take()
        ask_database(url, change)
    with databases.lend() as take:
        assert take() != url
        assert take(bare=True) == url
        assert ask_database(url, SCHEMAS) == ["public"]
