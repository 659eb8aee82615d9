"""A shard moves between two PostgreSQL databases; whoever dies meanwhile leaves it whole, and on one side."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from perdure.errors import PerdureError, ShardMoved, StoreBusy
from perdure.store.contract import NewRun, Signal, Transaction
from perdure.store.many import ManyStores
from perdure.store.member import ShardRows
from perdure.store.postgres import PostgresStore, commit
from perdure.testing.settling import settling
from tests.unit.many.databases import HERE, HERE_TOO, Databases, Process, mail, must
from tests.unit.many.test_moves import furnish, to_session, world
from tests.unit.postgres.nodes import ask_database, create, event, open_node, open_store, signal, until_waiting

SHARD = "buyer:1"


class PostgresDatabases(Databases):
    """The same in two PostgreSQL databases: `first` and `second` look into them beside the processes."""

    def __init__(self, take):
        super().__init__()
        self.urls = {name: take() for name in ("first", "second")}
        self.first: Any = PostgresStore(self.urls["first"], clock=self.clock)
        self.second: Any = PostgresStore(self.urls["second"], clock=self.clock)

    async def open(self, process=None):
        sees = (process or Process()).sees
        stores = {name: sees(settling(PostgresStore(url, clock=self.clock))) for name, url in self.urls.items()}
        store = ManyStores(stores, clock=self.clock)
        await store.open()
        return store

    async def settle(self):
        for store in (self.first, self.second):
            store.join()
            await store.open()
        await super().settle()

    async def close(self):
        """Look no more; both are sound."""
        for store in (self.first, self.second):
            assert await store.check() == []
            await store.close()


async def move_and_die(take, dies_at, after):
    """A mover dies at its call `dies_at`; another process goes on. Gives how many calls a whole move has."""
    there = PostgresDatabases(take)
    await there.settle()
    store = await there.open()
    fence = await furnish(there, store)
    before = await world(store)
    dying = Process()
    mover = await there.open(dying)
    begun = len(dying.calls)
    dying._dies_at, dying._after = None if dies_at is None else begun + dies_at, after
    try:
        await mover.move_shard(HERE, "second")
    except PerdureError:
        assert dies_at is not None
    calls = len(dying.calls) - begun
    await mover.close()
    assert await world(store) == before
    await must(store, Transaction(signals=[to_session("meanwhile")]))
    await there.clock.advance(31)
    await there.own(store, HERE_TOO, "node_c")
    await there.clock.advance(1)
    await there.clock.advance(1)
    lease = await there.own(store, HERE, "node_b")
    assert lease.epoch > fence.epoch
    await must(store, Transaction(fence=lease, events=[there.event("run_1", 4)]))
    assert [event.seq for event in await store.events("run_1")] == [1, 2, 3, 4]
    assert sorted(await mail(store, HERE)) == ["before", "meanwhile"]
    place = (await store.places())[HERE]
    elsewhere = there.second if place == "first" else there.first
    assert await elsewhere.run("run_1") is None or await elsewhere.claim("node_x", [HERE], 10) == []
    assert await there.first.notes("move") == {}
    assert [*await there.first.parcels(), *await there.second.parcels()] == []
    await store.close()
    await there.close()
    return calls


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_mover_that_dies_leaves_the_shard_whole(postgres_databases, after):
    """At every third call: what is seen meanwhile is right, and any node ends the move by itself."""
    points = asyncio.run(move_and_die(postgres_databases, None, after))
    assert points > 12
    for dies_at in range(2 if after else 1, points + 1, 3):
        asyncio.run(move_and_die(postgres_databases, dies_at, after))


def test_a_move_whose_mover_dies_in_the_midst_is_undone(postgres_databases):
    """While it copied."""
    asyncio.run(move_and_die(postgres_databases, 10, after=True))


def lose_answers(store, calls):
    """The server does what is asked in these calls of transactions, and its answers are lost; how often it was asked."""
    transact, tries = store._moving._connections.transact, []

    async def lossy(work, *args, **options):
        async def lost(connection):
            await work(connection)
            tries.append(1)
            await connection.execute("commit")
            raise ConnectionResetError("the answer was lost")

        return await transact(lost if len(tries) < calls else work, *args, **options)

    store._moving._connections.transact = lossy
    return tries


def test_a_page_whose_answer_was_lost_is_not_added_twice(postgres_url):
    """Signals have no name by which the second would be known: the mover is told, and begins again."""

    async def scenario():
        async with open_store(postgres_url) as store:
            await store.freeze_shard(SHARD, 1)
            page = ShardRows(signals=[signal("1")])
            tries = lose_answers(store, 1)
            with pytest.raises(StoreBusy, match="did not say"):
                await store.import_shard(SHARD, 1, page)
            assert len(tries) == 1
            await store.drop_shard(SHARD, 1)
            await store.import_shard(SHARD, 1, page)
            assert ask_database(postgres_url, "select data from perdure.signals") == ["1"]

    asyncio.run(scenario())


def test_opening_a_shard_may_be_repeated(postgres_url):
    """The first time was not heard of; by now somebody owns it, and keeps it."""

    async def scenario():
        async with open_node(postgres_url) as node:
            epoch = await node.store.freeze_shard(SHARD, 3)
            await node.store.thaw_shard(SHARD, 3, epoch)
            [lease] = await node.store.claim("node_b", [SHARD], 10)
            await node.store.thaw_shard(SHARD, 3, epoch)
            assert await node.store.renew("node_b", [lease], 10) == [lease]
            with pytest.raises(ShardMoved):
                await node.store.thaw_shard(SHARD, 2, epoch)

    asyncio.run(scenario())


def test_a_frozen_shard_is_nobodys(postgres_url):
    """However late: it has no lease that could run out."""

    async def scenario():
        async with open_node(postgres_url) as node:
            await node.store.freeze_shard(SHARD, 1)
            assert await node.store.claim("node_b", [SHARD, "buyer:2"], 10) == [("buyer:2", 1)]
            [shard] = [shard for shard in await node.store.shards() if shard.name == SHARD]
            assert shard.owner == "move:1"

    asyncio.run(scenario())


def test_a_large_shard_is_handed_over_in_pages(postgres_databases):
    """Each run before its events, all in order, and no page larger than was asked for."""

    async def scenario():
        async with open_node(postgres_databases()) as node, open_store(postgres_databases()) as there:
            runs = [f"run_{number:03}" for number in range(40)]
            await node.begin(*runs)
            for seq in range(2, 12):
                batch = [node.append(run, seq, signals=[Signal("buyer", None, run, "m", "{}", "", 1)]) for run in runs]
                await must(node.store, *batch)
            await node.store.freeze_shard(SHARD, 1)
            await there.freeze_shard(SHARD, 1)
            pages, at = 0, None
            known: set[str] = set()
            while pages == 0 or at is not None:
                page, at = await node.store.export_shard(SHARD, at, 70)
                known.update(run.id for run in page.runs)
                assert {event.run for event in page.events} <= known
                assert len(page.runs) + len(page.events) + len(page.signals) <= 70
                await there.import_shard(SHARD, 1, page)
                pages += 1
            assert pages == (40 + 40 * 11 + 40 * 10) // 70 + 1
            for run in runs:
                assert await there.events(run) == await node.store.events(run)
                assert await there.run(run) == await node.store.run(run)
            assert len((await there.signals([SHARD]))[0]) == 400

    asyncio.run(scenario())


def test_a_fork_that_is_being_made_keeps_what_it_shares(postgres_url):
    """Its origin leaves between the look at its journal and the fork's own commit: the fork has all of it."""

    async def scenario():
        async with open_node(postgres_url) as node:
            await node.begin("run_1")
            await must(node.store, node.append("run_1", 2))
            await node.store.freeze_shard(SHARD, 1)
            committer: Any = node.store._committer
            dropping: list[asyncio.Task[None]] = []
            send = committer._rows

            async def slow(sql, values):
                if sql == commit._SQL["write"]:
                    dropping.append(asyncio.create_task(node.store.drop_shard(SHARD, 1)))
                    await until_waiting(postgres_url, dropping[0])
                return await send(sql, values)

            committer._rows = slow
            await must(node.store, fork("run_2", "run_1", 2, "buyer:2"))
            await dropping[0]
            assert await node.store.run("run_1") is None
            assert await node.seqs("run_2") == [1, 2, 3]

    asyncio.run(scenario())


def fork(run, origin, seq, shard):
    """A run that shares the first events of another."""
    [new] = create(run, shard, forked_from=(origin, seq)).create
    return Transaction(create=[NewRun(new.run, [event(run, seq + 1)])])
