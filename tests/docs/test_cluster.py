"""docs/cluster.md says what roles need and how a database is brought back to a moment: both are done here, as written."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from pathlib import Path

import psycopg
import pytest

from perdure import Context, Runtime, agent, current_step, tool
from perdure.errors import StoreReadOnly
from perdure.store.contract import Document
from perdure.testing.servers.cluster import run_as
from perdure.testing.servers.postgres import PostgresServer
from perdure.testing.servers.process import temporary_directory, unprivileged_account

PAGE = (Path(__file__).parent.parent.parent / "docs" / "cluster.md").read_text(encoding="utf-8")
ROLES = ("shop_owner", "shop_worker", "shop_monitor")


def blocks(language: str) -> list[str]:
    """What the page shows in a language, in order."""
    return re.findall(rf"^ *```{language}\n(.*?)^ *```$", PAGE, flags=re.MULTILINE | re.DOTALL)


@tool(effect="transaction")
async def book(item: str) -> str:
    """Writes into a table of the user's, in the step's own commit."""
    current_step().execute("insert into public.bookings values (?)", (item,))
    return item


@agent
async def booker(ctx: Context, item: str) -> str:
    """State, an event, and SQL of its own."""
    ctx.state["last"] = item
    await ctx.emit("progress", {"item": item})
    return await book(item)


@pytest.fixture
def as_role(postgres_server):
    """The page's roles and database, as its administrator makes them; the URL of each role."""
    administrator = psycopg.connect(postgres_server.url(), autocommit=True)
    try:
        for statement in blocks("sql administrator")[0].split(";\n"):
            if statement.strip():
                administrator.execute(statement.encode())
        yield lambda role: postgres_server.url("shop").replace("perdure@", f"{role}@")
    finally:
        administrator.execute("drop database if exists shop with (force)")
        for role in ROLES:
            administrator.execute(f"drop role if exists {role}".encode())
        administrator.close()


def grant(url: str) -> None:
    """What the owner of the schema types, after its first migration."""
    with psycopg.connect(url) as connection:
        connection.execute(blocks("sql owner")[0].encode())


async def use(url: str, item: str) -> str:
    """A node that runs one agent, and a message for its session."""
    async with Runtime(url, agents=[booker]) as runtime:
        await runtime.send("s", "word", item, agent=booker.name)
        assert await runtime.store.put_document(Document("key", item, "{}")) is not None
        return await (await runtime.start(booker, item, session="s")).result()


async def migrate(url: str) -> None:
    """What `perdure db migrate` does."""
    async with Runtime(url, work=False):
        pass


def test_the_roles_of_the_page_are_enough_and_no_more(as_role):
    """The owner migrates, the worker works but changes no table, the monitor reads; each refusal names the remedy."""
    worker, monitor, owner = as_role("shop_worker"), as_role("shop_monitor"), as_role("shop_owner")
    with pytest.raises(StoreReadOnly, match="perdure db migrate"):
        asyncio.run(migrate(worker))
    asyncio.run(migrate(owner))
    grant(owner)
    with psycopg.connect(owner) as connection:
        connection.execute("create table public.bookings (item text); grant insert on public.bookings to shop_worker")

    assert asyncio.run(use(worker, "pen")) == "pen"
    with psycopg.connect(monitor) as connection:
        assert connection.execute("select status from perdure.runs").fetchall() == [("succeeded",)]
    for forbidden in ("delete from perdure.runs", "select data from perdure.documents"):
        with psycopg.connect(monitor) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(forbidden.encode())
    for forbidden in (
        "drop table perdure.runs",
        "update perdure.meta set value = '9'",
        "create table perdure.mine (x text)",
    ):
        with psycopg.connect(worker) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(forbidden.encode())


def test_the_settings_for_a_pooled_role_are_taken(as_role):
    """An administrator may give them; the server knows each."""
    with psycopg.connect(as_role("perdure")) as connection:
        connection.execute(blocks("sql administrator")[1].encode())


@pytest.mark.slow
def test_a_database_is_brought_back_to_a_moment(archive):
    """Base backup and archived log as the page has them: what was acknowledged until then is there, what came later not."""
    log = next(block for block in blocks("ini") if "archive_command" in block)
    with PostgresServer(settings=settings(log, archive)) as server:
        url = server.create_database("shop")
        with psycopg.connect(url) as connection:
            connection.execute("create table public.bookings (item text)")
        asyncio.run(use(url, "before the backup"))
        base = ("-D", archive / "base", "-c", "fast", "-X", "stream", "-d", server.url())
        run_as(server.account, server.programs / "pg_basebackup", *base)
        asyncio.run(use(url, "until the moment"))
        with psycopg.connect(url, autocommit=True) as connection:
            [[moment]] = connection.execute("select clock_timestamp()::text").fetchall()
            asyncio.run(use(url, "after it"))
            await_archived(connection)

    recovery = next(block for block in blocks("ini") if "recovery_target_time" in block)
    (archive / "base" / "recovery.signal").touch()
    with (archive / "base" / "postgresql.auto.conf").open("a") as file:
        for name, value in {
            **settings(recovery, archive),
            "recovery_target_time": moment,
            "archive_mode": "off",
        }.items():
            file.write(f"{name} = '{value}'\n")
    with PostgresServer(archive / "base") as restored:
        url = restored.url("shop")
        with psycopg.connect(url, autocommit=True) as connection:
            while connection.execute("select pg_is_in_recovery(), pg_sleep(0.02)").fetchall()[0][0]:
                pass
        assert asyncio.run(booked(url)) == (["before the backup", "until the moment"], [])
        assert asyncio.run(use(url, "afterwards")) == "afterwards"


@pytest.fixture
def archive():
    """A directory that the server may write to."""
    account = unprivileged_account()
    directory = temporary_directory("archive", account)
    (directory / "wal").mkdir()
    if account is not None:
        os.chown(directory / "wal", *account)
    yield directory
    shutil.rmtree(directory)


def settings(block: str, archive: Path) -> dict[str, str]:
    """The lines of a block as name -> value, with our place for the log."""
    lines = re.findall(r"^ *(\w+) = (.*)$", block.replace("/var/backups", str(archive)), flags=re.MULTILINE)
    return {name: value.strip("'") for name, value in lines}


def await_archived(connection: psycopg.Connection) -> None:
    """Have the log up to here archived."""
    [[segment]] = connection.execute("select pg_walfile_name(pg_switch_wal())").fetchall()
    archived = "select coalesce(last_archived_wal, '') >= %s, pg_sleep(0.02) from pg_stat_archiver"
    while not connection.execute(archived, [segment]).fetchall()[0][0]:
        pass


async def booked(url: str) -> tuple[list[str], list[str]]:
    """What the runs' journals hold, and what is wrong with the store."""
    async with Runtime(url, work=False) as runtime:
        runs = await runtime.runs()
        items = [(await runtime.journal(run.id))[-1].data["result"] for run in reversed(runs)]
        return items, await runtime.store.check()
