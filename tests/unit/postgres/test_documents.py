"""Documents in a database: nobody waits in a circle, and nobody is told more than is true."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from perdure.errors import StoreBusy
from perdure.store.contract import Document
from perdure.testing.clock import FakeClock
from perdure.testing.servers.postgres import PostgresServer
from perdure.testing.servers.proxy import FaultProxy
from tests.unit.postgres.nodes import ask_database, open_store
from tests.unit.postgres.test_standbys import WAITING, require

IDS = "select id from perdure.documents order by id"


def test_nothing_is_left_of_what_has_expired(postgres_url):
    """Once another of its kind is written; what somebody has in hand is passed over, not waited for."""

    async def scenario():
        clock = FakeClock()
        async with open_store(postgres_url, clock=clock) as store:
            for number in range(3):
                await store.put_document(Document("code", f"{number}", "{}", expires=clock.now_us() + 1_000_000))
            await store.put_document(Document("cookie", "9", "{}", expires=clock.now_us() + 1_000_000))
            await clock.advance(1)
            assert await store.documents("code") == []
            with psycopg.connect(postgres_url) as somebody:
                somebody.execute("select from perdure.documents where id = '1' for update")
                assert await store.put_document(Document("code", "5", "{}")) is not None
                assert ask_database(postgres_url, IDS) == ["1", "5", "9"]
            assert await store.put_document(Document("code", "1", "{}", version=1)) is None
            assert ask_database(postgres_url, IDS) == ["5", "9"]

    asyncio.run(scenario())


def test_it_expires_by_the_database_s_clock(postgres_url):
    """Whatever this machine believes."""

    async def scenario():
        async with open_store(postgres_url) as store:
            [now] = ask_database(postgres_url, "select perdure.now()")
            await store.put_document(Document("code", "old", "{}", expires=now - 1))
            await store.put_document(Document("code", "new", "{}", expires=now + 3_600_000_000))
            assert [document.id for document in await store.documents("code")] == ["new"]

    asyncio.run(scenario())


def test_a_write_whose_answer_was_lost_is_not_taken_for_somebody_s_failure(postgres_server, postgres_url):
    """It happened once. The store tries again by itself, and says that it was not the first; the document shows who was."""
    with FaultProxy("127.0.0.1", postgres_server.port, marker=b"COMMIT") as proxy:

        async def scenario():
            async with open_store(proxy.url(postgres_url)) as store:
                proxy.swallow_commit_reply()
                assert await store.put_document(Document("key", "a", '"mine"')) is None
                assert await store.document("key", "a") == Document("key", "a", '"mine"', 1)
                assert proxy.counts.replies_swallowed == 1
                proxy.swallow_commit_reply()
                assert not await store.drop_document("key", "a", 1)
                assert await store.document("key", "a") is None

        asyncio.run(scenario())


@pytest.mark.slow
def test_what_no_standby_confirms_is_not_acknowledged():
    """A key that is revoked must not come back with a failover that nobody was told of."""

    async def scenario(url):
        async with open_store(url) as store:
            await store.put_document(Document("key", "a", "{}"))
            again = Document("key", "a", "{}", version=1)
            require(url, "nobody")
            try:
                for call in (lambda: store.put_document(again), lambda: store.drop_document("key", "a")):
                    work = asyncio.create_task(call())
                    while await asyncio.to_thread(ask_database, url, f"select pid {WAITING}") == []:
                        assert not work.done()
                    await asyncio.to_thread(ask_database, url, f"select pg_cancel_backend(pid) {WAITING}")
                    with pytest.raises(StoreBusy, match="standby has not confirmed"):
                        await work
            finally:
                require(url, "")
            assert await store.put_document(Document("key", "a", "{}")) is not None

    with PostgresServer(settings={"fsync": "off"}) as server:
        asyncio.run(scenario(server.create_database("shop")))
