"""Where a standby must confirm commits, one that it has not confirmed is not acknowledged."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from perdure.errors import StoreBusy
from perdure.store.postgres import commit
from perdure.testing.servers.postgres import PostgresServer
from tests.unit.postgres.nodes import ask_database, open_node, signal

WAITING = "from pg_stat_activity where wait_event = 'SyncRep' and application_name = 'perdure'"


def require(url, standby):
    """Whose word every commit waits for from here on."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("set synchronous_commit = local")
        connection.execute(f"alter system set synchronous_standby_names = '{standby}'")
        connection.execute("select pg_reload_conf()")
        while connection.execute("show synchronous_standby_names").fetchone() != (standby,):
            connection.execute("select pg_sleep(0.01)")


@pytest.mark.slow
@pytest.mark.parametrize("careful", [False, True])
def test_a_commit_that_no_standby_confirms_is_not_acknowledged(monkeypatch, careful):
    """The server stops waiting, with a warning: durable there and nowhere else. Once a standby is there, it is so, once."""
    monkeypatch.setattr(commit, "_PATIENCE_SECONDS", -1)

    async def scenario(url):
        async with open_node(url) as node:
            await node.begin("run_1")
            batch = [node.append("run_1", 2, signals=[signal()]), *[node.append("run_1", 9)] * careful]
            require(url, "nobody")
            try:
                for _ in range(2):  # the commit itself, and the question what became of it
                    work = asyncio.create_task(node.store.commit(batch))
                    while await asyncio.to_thread(ask_database, url, f"select pid {WAITING}") == []:
                        assert not work.done()
                    await asyncio.to_thread(ask_database, url, f"select pg_cancel_backend(pid) {WAITING}")
                    with pytest.raises(StoreBusy, match="standby has not confirmed"):
                        await work
            finally:
                require(url, "")
            outcomes = await node.store.commit(batch)
            assert [type(refusal) for refusal in outcomes[1:]] == [ValueError] * careful
            found, _ = await node.store.signals(["buyer:1"])
            assert [one.id for one in found] == outcomes[0]
            assert await node.seqs("run_1") == [1, 2]

    with PostgresServer(settings={"fsync": "off"}) as server:
        asyncio.run(scenario(server.create_database("shop")))
