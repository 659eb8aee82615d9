"""The schema: made once however many begin, refused when it is newer or somebody else's, used by roles with few rights."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from perdure.errors import StoreCorrupt, StoreError, StoreNewer, StoreReadOnly
from perdure.store.contract import Document, QuotaWish, RateWish, RunFilter, RunUpdate, Transaction
from perdure.store.contract import Node as Entry
from perdure.store.postgres import PostgresStore, schema
from perdure.store.postgres.connections import Connections
from perdure.store.queries import load_migrations
from perdure.values.runs import RunStatus
from tests.postgres import SHAPE
from tests.unit.postgres.nodes import SHARD, ask_database, create, open_node, open_store, signal

#: What docs/cluster.md gives to a role that works, and no more.
GRANT = """
grant usage on schema perdure to {role};
grant select, insert, update, delete on all tables in schema perdure to {role};
revoke insert, update, delete on perdure.meta from {role};
grant usage on all sequences in schema perdure to {role};
"""

#: A run as every version has it.
OLD_RUN = """
insert into perdure.runs (shard, id, agent, version, status, created, updated, priority, attempt, strikes, seq, steps)
values ('s', 'run_1', 'a', 'v1', 'queued', 1, 1, 0, 1, 0, 0, 0)
"""


def open_and_close(url):
    """Whether it opens."""

    async def scenario():
        async with open_store(url):
            pass

    asyncio.run(scenario())


async def make_schema(url):
    """Only that: a store needs all of it."""
    connections = Connections(url, 1)
    await connections.open()
    await schema.prepare(connections, 16)
    await connections.close()


@pytest.fixture
def role(bare_postgres_url):
    """A role with no rights, and the URL by which it comes."""
    name = f"worker_{abs(hash(bare_postgres_url)) % 10**9}"
    ask_database(bare_postgres_url, f"create role {name} login")
    parts = urlsplit(bare_postgres_url)
    yield name, urlunsplit(parts._replace(netloc=f"{name}@{parts.netloc.rpartition('@')[2]}"))
    ask_database(bare_postgres_url, f"drop owned by {name}")
    ask_database(bare_postgres_url, f"drop role {name}")


def test_eight_stores_begin_at_once(bare_postgres_url):
    """One of them makes the schema, all of them work, and all see the same number of shards."""

    async def scenario():
        stores = [PostgresStore(bare_postgres_url, slots=number) for number in range(10, 18)]
        await asyncio.gather(*(store.open() for store in stores))
        assert len({await store.slots() for store in stores}) == 1
        for number, store in enumerate(stores):
            assert await store.commit([create(f"run_{number}")]) == [None]
            assert await store.check() == []
        await asyncio.gather(*(store.close() for store in stores))

    asyncio.run(scenario())


def test_migrations_are_numbered_without_gaps():
    """Each file's number is the version it leads to."""
    versions = [version for version, _ in load_migrations("postgres")]
    assert versions == list(range(1, len(versions) + 1))


@pytest.mark.parametrize("version", [version for version, _ in load_migrations("postgres")])
def test_a_migrated_schema_equals_a_fresh_one(postgres_url, bare_postgres_url, monkeypatch, version):
    """From every version there ever was, with what was in it."""
    beginning = [(number, script) for number, script in load_migrations("postgres") if number <= version]
    with monkeypatch.context() as older:
        older.setattr(schema, "load_migrations", lambda _: beginning)
        asyncio.run(make_schema(bare_postgres_url))
    ask_database(bare_postgres_url, OLD_RUN)
    assert ask_database(bare_postgres_url, "select value from perdure.meta where name = 'version'") == [str(version)]
    for _ in range(2):
        open_and_close(bare_postgres_url)
        assert ask_database(bare_postgres_url, SHAPE) == ask_database(postgres_url, SHAPE)
    assert ask_database(bare_postgres_url, "select id from perdure.runs") == ["run_1"]


def test_an_older_node_works_on_beside_a_newer_one(bare_postgres_url, monkeypatch):
    """The schema has become newer under it; it hears of that only when it starts again."""
    known = load_migrations("postgres")

    async def scenario():
        with monkeypatch.context() as older:
            older.setattr(schema, "load_migrations", lambda _: known[:-1])
            old = PostgresStore(bare_postgres_url)
            await old.open()
        async with open_store(bare_postgres_url) as new:
            await new.put_document(Document("key", "a", "{}"))
            assert await old.commit([create("run_1")]) == [None]
            assert [run.id for run in await new.runs(RunFilter())] == ["run_1"]
            assert await new.commit([create("run_2")]) == [None]
            assert await old.check() == await new.check() == []
        await old.close()
        with monkeypatch.context() as older:
            older.setattr(schema, "load_migrations", lambda _: known[:-1])
            with pytest.raises(StoreNewer):
                await old.open()

    asyncio.run(scenario())


def test_a_newer_schema_is_refused(bare_postgres_url):
    """It is left as it is."""
    open_and_close(bare_postgres_url)
    ask_database(bare_postgres_url, "update perdure.meta set value = '99' where name = 'version'")
    with pytest.raises(StoreNewer, match=r"has version 99.*nothing was changed"):
        open_and_close(bare_postgres_url)
    assert ask_database(bare_postgres_url, "select value from perdure.meta where name = 'version'") == ["99"]


@pytest.mark.parametrize(
    "foreign",
    [
        "create table perdure.runs (a int)",
        "create table perdure.meta (key text)",
        "create table perdure.meta (name text, value text)",
        "create table perdure.meta as select 'version' as name, 'mine' as value",
    ],
)
def test_somebody_else_s_schema_is_refused_by_name(bare_postgres_url, foreign):
    """Nothing is added to it."""
    ask_database(bare_postgres_url, "create schema perdure")
    ask_database(bare_postgres_url, foreign)
    tables = "select count(*) from pg_class where relnamespace = 'perdure'::regnamespace"
    before = ask_database(bare_postgres_url, tables)
    with pytest.raises(StoreCorrupt, match=r"/test_\d+: its schema `perdure` is not of Perdure's making"):
        open_and_close(bare_postgres_url)
    assert ask_database(bare_postgres_url, tables) == before


def test_an_empty_schema_is_ours(bare_postgres_url):
    """An administrator has made it for a role that may make none: its owner fills it."""
    ask_database(bare_postgres_url, "create schema perdure")
    open_and_close(bare_postgres_url)


def test_an_owner_needs_no_right_to_make_schemas(bare_postgres_url, role):
    """The schema is the role's own; to create others it is not allowed."""
    name, url = role
    ask_database(bare_postgres_url, f"create schema perdure authorization {name}")
    open_and_close(url)


def test_a_role_with_few_rights_works(bare_postgres_url, role):
    """On a schema that is up to date it can do all that a node does, and cannot change the schema."""
    name, url = role
    open_and_close(bare_postgres_url)
    ask_database(bare_postgres_url, GRANT.format(role=name))

    async def scenario():
        async with open_node(url) as node:
            store = node.store
            await node.begin("run_1")
            await store.commit(
                [Transaction(signals=[signal()]), node.append("run_1", 2, state=("buyer", "s", {"a": "1"}))]
            )
            found, _ = await store.signals([SHARD])
            update = RunUpdate(RunStatus.RUNNING, 1)
            work = Transaction(fence=node.fence, consume=[found[0].id], updates={"run_1": update})
            assert await store.commit([work, node.append("run_1", 9)]) != [None, None]
            await store.beat(Entry("node_a", "here", 1, ()), 60)
            await store.share("node_a", [QuotaWish("cpu", 1, 0, 1)])
            await store.take([RateWish("cpu", 1, 1.0, 1)])
            await store.renew("node_a", [node.lease], 60)
            kept = await store.put_document(Document("key", "a", "{}"))
            assert kept is not None
            assert await store.put_document(kept) is not None
            assert await store.drop_document("key", "a")
            await store.leave("node_a")
            assert len(await store.runs(RunFilter())) == 1
            await store.release("node_a", [node.lease])

    asyncio.run(scenario())
    with psycopg.connect(url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("update perdure.meta set value = '0'")


def test_a_role_that_may_not_migrate_says_who_should(bare_postgres_url, role):
    """On an old schema; on none; and on one that it may not even read."""
    name, url = role
    with pytest.raises(StoreReadOnly, match=r"the store has version 0.*perdure db migrate"):
        open_and_close(url)
    open_and_close(bare_postgres_url)
    with pytest.raises(StoreReadOnly, match=r"permission denied for schema perdure.*docs/cluster.md"):
        open_and_close(url)
    ask_database(bare_postgres_url, GRANT.format(role=name))
    ask_database(bare_postgres_url, "update perdure.meta set value = '0' where name = 'version'")
    with pytest.raises(StoreReadOnly, match="the store has version 0, this Perdure needs"):
        open_and_close(url)


def test_an_old_server_is_refused(bare_postgres_url, monkeypatch):
    """Before anything is made in it."""
    monkeypatch.setattr("perdure.store.postgres.schema._SERVER_LEAST", 990_000)
    with pytest.raises(StoreError, match="Perdure needs"):
        open_and_close(bare_postgres_url)
    assert ask_database(bare_postgres_url, "select count(*) from pg_namespace where nspname = 'perdure'") == [0]
