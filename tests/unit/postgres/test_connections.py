"""Connections: few, replaced when they break, given back whatever happens to their callers; errors in one clear line."""

from __future__ import annotations

import asyncio
import gc

import psycopg
import pytest

from perdure.errors import InvalidSetting, StoreBusy, StoreCorrupt, StoreError, StoreFull, StoreReadOnly
from perdure.store.contract import RunFilter, RunUpdate, Transaction
from perdure.store.postgres import PostgresStore, commit, connections, failures
from perdure.testing.servers.postgres import PostgresServer
from perdure.values.runs import RunStatus
from tests.unit.postgres.nodes import ask_database, create, open_node

COUNT = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
WAITS = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"


@pytest.fixture
def server():
    """One that may be stopped."""
    with PostgresServer(settings={"fsync": "off"}) as server:
        yield server


def test_connections_do_not_grow_with_runs_and_readers(postgres_url):
    """A thousand runs that wait and two hundred readers at once: four read, two keep leases, one commits, one listens."""

    async def scenario():
        async with open_node(postgres_url) as node:
            runs = [f"run_{number}" for number in range(1000)]
            await node.begin(*runs)
            update = {run: RunUpdate(RunStatus.WAITING, 1, wait={"kind": "timer"}, wake_at=5) for run in runs}
            await node.store.commit([Transaction(fence=node.fence, updates=update)])
            most = 0
            waits = [asyncio.create_task(node.store.wait_change())]
            for _ in range(3):
                reads = [node.store.run(run) for run in runs[:100]]
                lists = [node.store.runs(RunFilter(limit=10)) for _ in range(100)]
                renewals = [node.store.renew("node_a", [node.lease], 60) for _ in range(10)]
                count = asyncio.to_thread(ask_database, postgres_url, COUNT)
                found, *_ = await asyncio.gather(count, *reads, *lists, *renewals)
                most = max(most, *found)
            await asyncio.gather(*waits)
            assert 3 <= most <= 8

    asyncio.run(scenario())


def test_nothing_is_left_after_close(postgres_url):
    """No connection at the server, no task in the loop, no warning from the collector; twice is once."""

    async def scenario():
        async with open_node(postgres_url) as node:
            await node.begin("run_1")
            await node.store.wait_change()
            await asyncio.gather(*(node.store.run("run_1") for _ in range(20)))
        await node.store.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        with pytest.raises(StoreError, match="closed"):
            await node.store.run("run_1")
        with pytest.raises(StoreError, match="closed"):
            await node.store.commit([create("run_2")])
        with pytest.raises(StoreError, match="closed"):
            await node.store.renew("node_a", [node.lease], 60)

    asyncio.run(scenario())
    gc.collect()
    while ask_database(postgres_url, COUNT) != [0]:
        pass  # they say good-bye, and the server takes its time to hear it


def test_a_store_that_was_closed_opens_again(postgres_url):
    """The same object, as good as new."""

    async def scenario():
        async with open_node(postgres_url) as node:
            await node.begin("run_1")
            await node.store.close()
            await node.store.open()
            assert await node.store.commit([node.append("run_1", 2)]) == [None]

    asyncio.run(scenario())


def test_close_waits_for_the_commit_under_way(postgres_url):
    """It is written, and its caller hears so."""

    async def scenario():
        async with open_node(postgres_url) as node:
            await node.begin("run_1")
            async with await psycopg.AsyncConnection.connect(postgres_url) as other:
                await other.execute("select from perdure.shards for update")
                work = asyncio.create_task(node.store.commit([node.append("run_1", 2)]))
                while await asyncio.to_thread(ask_database, postgres_url, WAITS) == [0]:
                    assert not work.done()
                closing = asyncio.create_task(node.store.close())
                await asyncio.sleep(0)
                assert not closing.done()
            await closing
            assert await work == [None]
            await node.store.open()

    asyncio.run(scenario())


def test_calls_that_are_cancelled_give_everything_back(postgres_url):
    """Whether they waited for a lock, for a connection or for their turn: as many can be made as before."""

    async def scenario():
        async with open_node(postgres_url) as node:
            await node.begin("run_1")
            async with await psycopg.AsyncConnection.connect(postgres_url) as other:
                await other.execute("lock table perdure.runs in access exclusive mode")
                reads = [asyncio.create_task(node.store.run("run_1")) for _ in range(10)]
                while (await asyncio.to_thread(ask_database, postgres_url, WAITS))[0] < 4:
                    assert not reads[0].done()
                for read in reads:
                    read.cancel()
                assert all(
                    isinstance(end, asyncio.CancelledError)
                    for end in await asyncio.gather(*reads, return_exceptions=True)
                )
                # The server was told: nobody waits there any more, though the lock is still held.
                assert await asyncio.to_thread(ask_database, postgres_url, WAITS) == [0]
            assert None not in await asyncio.gather(*(node.store.run("run_1") for _ in range(10)))

    asyncio.run(scenario())


def test_a_request_without_an_answer_ends(postgres_url, proxy, monkeypatch):
    """The line is open and silent: after the limit the call fails, and works again once the line does."""
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.3)
    monkeypatch.setattr(connections, "_PATIENCE_SECONDS", 0)
    monkeypatch.setattr(connections.Connections.use, "__defaults__", (0.3,))
    monkeypatch.setattr(commit, "REQUEST_SECONDS", 0.3)
    monkeypatch.setattr(commit, "_PATIENCE_SECONDS", 0)
    monkeypatch.setattr("psycopg.AsyncConnection._try_cancel", _unheard)

    async def scenario():
        async with open_node(proxy.url(postgres_url)) as node:
            await node.begin("run_1")
            proxy.partition("server_to_client")
            batch = [node.append("run_1", 2)]
            with pytest.raises(StoreBusy):
                await node.store.commit(batch)
            with pytest.raises(StoreBusy):
                await node.store.run("run_1")
            proxy.heal()
            assert await node.store.commit(batch) == [None]
            assert await node.seqs("run_1") == [1, 2]

    asyncio.run(scenario())


async def _unheard(connection, **_):
    """A word to the server that it never gets; the driver gives the connection up."""
    connection.pgconn.finish()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_the_server_restarts_under_reads_and_commits(server, mode):
    """Nobody sees more than a pause; what was acknowledged is there, once."""
    url = server.create_database("shop")

    async def scenario():
        async with open_node(url) as node:
            await node.begin("run_1")
            over = asyncio.Event()

            async def read():
                while not over.is_set():
                    assert await node.store.run("run_1") is not None
                    await asyncio.sleep(0)

            readers = [asyncio.create_task(read()) for _ in range(8)]
            seq = 1
            for _ in range(2):
                for _ in range(20):
                    seq += 1
                    assert await node.store.commit([node.append("run_1", seq)]) == [None]
                restart = asyncio.create_task(asyncio.to_thread(server.restart, mode))
                while not restart.done():
                    batch = [node.append("run_1", seq + 1)]
                    try:
                        assert await node.store.commit(batch) == [None]
                    except StoreBusy:
                        await restart
                        assert await node.store.commit(batch) == [None]
                    seq += 1
                await restart
            over.set()
            await asyncio.gather(*readers)
            assert await node.seqs("run_1") == list(range(1, seq + 1))

    asyncio.run(scenario())


def test_a_primary_that_turned_into_a_standby_is_left(postgres_url):
    """Its connections live on and refuse to write: the next try goes elsewhere."""

    async def scenario():
        async with open_node(postgres_url) as node:
            await node.store.renew("node_a", [node.lease], 60)
            for connection in [*node.store._pulse._free, *node.store._connections._free]:
                await connection.execute("set default_transaction_read_only = on")
            assert await node.store.renew("node_a", [node.lease], 60) == [node.lease]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:sesame@[::1/db",
        "postgresql://me:se%same@host/db",
        "postgresql://me:se/same@host/db",
        "postgresql://me:open@same@host/db",
        "postgresql://me:sesame@host:54x2/db",
        "postgresql://host/db?nonsense=sesame",
    ],
)
def test_a_url_that_cannot_be_read_is_not_repeated(url):
    """What is wrong with it may be a part of the password."""
    with pytest.raises(InvalidSetting, match="write postgresql://") as caught:
        PostgresStore(url)
    assert "same" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.fixture
def guarded(server):
    """A server that asks for passwords, and its one user who has one."""
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("create role alice login password 'sesame'")
        hba = server.directory / "pg_hba.conf"
        hba.write_text(
            f"host all alice 127.0.0.1/32 scram-sha-256\nhost all nobody 127.0.0.1/32 reject\n{hba.read_text()}"
        )
    server.restart()
    return f"127.0.0.1:{server.port}"


@pytest.mark.slow
def test_who_is_not_let_in_hears_why_and_what_to_do(guarded):
    """At once, in one line, without the password: wrong password, none, no such user, no such database, nobody there."""
    for url, said in [
        (f"postgresql://alice:wrong-sesame@{guarded}/postgres", "authentication failed.*Check user and password"),
        (f"postgresql://alice@{guarded}/postgres", "no password supplied.*Check user and password"),
        (f"postgresql://bob:sesame@{guarded}/postgres", 'role "bob" does not exist.*Check user and password'),
        (f"postgresql://nobody:sesame@{guarded}/postgres", "pg_hba.conf.*Check user and password"),
        (f"postgresql://alice:sesame@{guarded}/nope", 'database "nope" does not exist. Create it'),
        ("postgresql://alice:sesame@127.0.0.1:1/db", "cannot be reached.*Connection refused"),
        ("postgresql://alice:sesame@nowhere.invalid/db", "cannot be reached.*nowhere.invalid"),
    ]:
        with pytest.raises(StoreError, match=said) as caught:
            asyncio.run(PostgresStore(url).open())
        assert isinstance(caught.value, StoreBusy) == ("cannot be reached" in said)
        assert "\n" not in str(caught.value)
        assert "sesame" not in f"{caught.value!r} {caught.value.__cause__!r}"
        assert "sesame" not in str(caught.value)
        assert caught.value.args[0].startswith("postgresql://")


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        ("57P01", StoreBusy), ("57P03", StoreBusy), ("08006", StoreBusy), ("53300", StoreBusy), ("40P01", StoreBusy),
        ("40001", StoreBusy), ("25006", StoreBusy), ("PD000", StoreBusy), ("53100", StoreFull), ("XX001", StoreCorrupt),
        ("42501", StoreReadOnly), ("42601", StoreError), ("58030", StoreError),
    ],
)  # fmt: skip
def test_what_a_code_means_for_the_node(code, wanted):
    """Whatever passes by itself is StoreBusy or StoreFull; the rest is not tried again."""
    error = psycopg.errors.lookup(code)() if not code.startswith("PD") else psycopg.Error()
    error.sqlstate = code
    assert type(failures.store_error(error, "postgresql://host/db")) is wanted


def test_a_pooler_is_found_out(postgres_url, pooler):
    """Through it nothing is prepared, nothing listens, and all of it works."""

    async def scenario():
        async with open_node(pooler.url(ask_database(postgres_url, "select current_database()")[0])) as node:
            await node.begin("run_1")
            for seq in range(2, 12):
                assert await node.store.commit([node.append("run_1", seq), node.execute("select 1")]) == [None, None]
            await node.store.wait_change()
            assert await node.seqs("run_1") == list(range(1, 12))
            assert node.store._connections.pooled
            assert node.store._news._listener is None

    asyncio.run(scenario())
