"""What passes between databases: parcels in the order of their commits, each taken once, however many nodes are at it."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager

import psycopg
import pytest

from perdure.errors import AlreadyExists, AlreadySettled, InvalidSetting, SessionBusy, ShardMoved, StoreBusy
from perdure.store.contract import NewRun, Transaction
from perdure.store.exchange import Delivery, Exchange, Note, Parcel
from perdure.store.postgres import PostgresStore, commit
from perdure.store.postgres.batch import Batch
from perdure.store.postgres.journals import Tails
from tests.unit.postgres.nodes import SHARD, ask_database, create, open_node, open_store, signal, until_waiting


def play(url, scenario):
    """A scenario with a node."""

    async def stage():
        async with open_node(url) as node:
            await scenario(node)

    asyncio.run(stage())


@contextmanager
def written(url, *works):
    """The server has these, but not yet the word to commit them: that comes at the end of the block."""
    batch = Batch(Tails())
    for work in works:
        batch.add(work)
    with psycopg.connect(url) as connection:
        connection.execute(commit._SQL["write"], batch.request(), binary=True)
        yield


def exchange(*exchanges):
    """Transactions of exchanges, one each."""
    return [Transaction(exchange=one) for one in exchanges]


def post(shard, *bodies):
    """Parcels for a shard."""
    return Exchange(post=[Parcel(shard, "", body) for body in bodies])


def test_parcels_for_a_shard_are_numbered_in_the_order_of_their_commits(postgres_url):
    """A node that posts for the same shard waits for the one before it; for another shard it does not."""

    async def scenario(node):
        await node.store.commit(exchange(post("seller:1", "zeroth")))
        with written(postgres_url, *exchange(post("seller:1", "first"))):
            assert await node.store.commit(exchange(post("seller:2", "elsewhere"))) == [None]
            later = asyncio.create_task(node.store.commit(exchange(post("seller:1", "second", "third"))))
            await until_waiting(postgres_url, later)
            assert [parcel.body for parcel in await node.store.parcels()] == ["zeroth", "elsewhere"]
        assert await later == [None]
        bound = [parcel.body for parcel in await node.store.parcels() if parcel.shard == "seller:1"]
        assert bound == ["zeroth", "first", "second", "third"]

    play(postgres_url, scenario)


def test_two_nodes_that_post_for_the_same_shards_do_not_wait_in_a_circle(postgres_url):
    """In whatever order each names them: nobody is undone."""

    async def scenario(node):
        async with open_store(postgres_url) as other:
            shards = [f"seller:{number}" for number in range(8)]
            for _ in range(10):
                forth = [post(shard, "x") for shard in shards]
                outcomes = await asyncio.gather(
                    node.store.commit(exchange(*forth)), other.commit(exchange(*reversed(forth)))
                )
                assert [*outcomes] == [[None] * 8] * 2
        assert len(await node.store.parcels()) == 160
        assert ask_database(
            postgres_url, "select deadlocks from pg_stat_database where datname = current_database()"
        ) == [0]

    play(postgres_url, scenario)


def test_several_relays_take_a_parcel_once(postgres_url):
    """All bring the same ones at the same moment: of each, one delivery counts, and the others know that it had come."""

    async def scenario(node):
        async with open_store(postgres_url) as other:
            batches = [
                [
                    Transaction(signals=[signal(str(n))], exchange=Exchange(deliver=Delivery("x", SHARD, n)))
                    for n in range(1, 41)
                ]
                for _ in range(2)
            ]
            outcomes = await asyncio.gather(
                *(store.commit(batch) for store, batch in zip((node.store, other), batches, strict=True))
            )
        for pair in zip(*outcomes, strict=True):
            assert sorted(type(outcome).__name__ for outcome in pair) == ["AlreadySettled", "list"]
        signals, _ = await node.store.signals([SHARD])
        assert [one.data for one in signals] == [str(n) for n in range(1, 41)]

    play(postgres_url, scenario)


def test_a_batch_of_exchanges_goes_out_in_one_statement(postgres_url):
    """Like any other; a refused one is found, and its neighbours are accepted."""

    async def scenario(node):
        sent = []
        send = node.store._committer._rows

        async def count(sql, values):
            sent.append(sql)
            return await send(sql, values)

        node.store._committer._rows = count
        notes = [Exchange(notes=[Note("key", str(n), "run")]) for n in range(50)]
        assert await node.store.commit(exchange(*notes)) == [None] * 50
        assert sent == [commit._SQL["commit"]]
        taken = Exchange(notes=[Note("key", "7", "other")])
        free = Exchange(notes=[Note("key", "50", "run")])
        first, second = await node.store.commit(exchange(taken, free))
        assert isinstance(first, AlreadyExists)
        assert second is None

    play(postgres_url, scenario)


def test_later_notes_of_a_batch_build_on_earlier_ones(postgres_url):
    """Each sees what the ones before it left, whatever it says of the same name."""

    async def scenario(node):
        steps = [Note("k", "n", "a"), Note("k", "n", "b", was="a"), Note("k", "n", None, was="b"), Note("k", "n", "c")]
        assert await node.store.commit(exchange(*(Exchange(notes=[note]) for note in steps))) == [None] * 4
        late = [Note("k", "n", "d"), Note("k", "n", None, was="c"), Note("k", "n", "e")]
        outcomes = await node.store.commit(exchange(*(Exchange(notes=[note]) for note in late)))
        assert [type(outcome) for outcome in outcomes] == [AlreadyExists, type(None), type(None)]
        assert await node.store.notes("k") == {"n": "e"}

    play(postgres_url, scenario)


def test_a_batch_whose_answer_was_lost_is_known_after_others(postgres_url):
    """Its node gave up and comes back later; meanwhile a parcel was delivered through the same store."""

    async def scenario(node):
        committer = node.store._committer
        send = committer._rows

        async def lose(sql, values):
            await send(sql, values)
            committer._rows = away
            raise ConnectionResetError("the answer was lost")

        async def away(sql, values):
            raise ConnectionResetError("nobody there")

        batch = [Transaction(signals=[signal("1")]), *exchange(post("seller:1", "x"))]
        committer._rows = lose
        with pytest.raises(StoreBusy):
            await node.store.commit(batch)
        committer._rows = send
        assert await node.store.commit([Transaction(signals=[signal("2")])]) == [[2]]
        assert await node.store.commit(batch) == [[1], None]
        assert len(await node.store.parcels()) == 1
        signals, _ = await node.store.signals([SHARD])
        assert [one.data for one in signals] == ["1", "2"]

    play(postgres_url, scenario)


def test_one_of_several_databases_is_not_opened_alone(postgres_url):
    """It would not be whole. The first of a store that has no other yet is."""

    async def scenario(node):
        alone = PostgresStore(postgres_url)
        await node.store.commit(exchange(Exchange(notes=[Note("member", "0", "a")])))
        await alone.open()
        await alone.close()
        for note in (Note("member", "1", "b"), Note("home", "id", "c")):
            await node.store.commit(exchange(Exchange(notes=[note])))
            with pytest.raises(InvalidSetting, match=r"one of several databases.*--store URL,URL"):
                await alone.open()
            await node.store.commit(exchange(Exchange(notes=[Note(note.kind, note.name, None, was=note.value)])))

    play(postgres_url, scenario)


def new(run, **fields):
    """A run that wants its session for itself."""
    [created] = create(run, session="s", **fields).create
    return Transaction(create=[NewRun(created.run, created.events, session_must_be_free=True)])


def test_whoever_freezes_a_shard_waits_for_what_is_being_written_to_it(postgres_url):
    """Also by somebody without a fence, to a shard that nobody has claimed: what he writes goes along."""

    async def scenario(node):
        await node.store.commit(exchange(Exchange(notes=[Note("self", "id", "a")])))
        for number, work in enumerate((create("run_1", "buyer:9"), Transaction(signals=[signal(shard="buyer:9")]))):
            with written(postgres_url, work):
                freezing = asyncio.create_task(node.store.freeze_shard("buyer:9", number + 1))
                await until_waiting(postgres_url, freezing)
            await freezing
            await node.store.thaw_shard("buyer:9", number + 1, 0)
        page, _ = await node.store.export_shard("buyer:9")
        assert ([run.id for run in page.runs], len(page.signals)) == (["run_1"], 1)

    play(postgres_url, scenario)


def test_whoever_writes_while_a_shard_is_being_frozen_is_refused(postgres_url):
    """He waits until it is, and hears that it is on its way: not that its session is busy."""

    async def scenario(node):
        await node.store.commit([create("run_1", session="s")])
        for work in (Transaction(signals=[signal()]), new("run_2")):
            with psycopg.connect(postgres_url) as connection:
                connection.execute(
                    "update perdure.shards set owner = 'move:9', epoch = epoch + 1, expires = 9, move = 9 where name in ("
                    "select name from perdure.shards where name = %s for update)", (SHARD,),
                )  # fmt: skip
                connection.execute("insert into perdure.notes values ('self', 'id', 'a', '') on conflict do nothing")
                writing = asyncio.create_task(node.store.commit([work]))
                if work.signals:
                    connection.commit()
                else:
                    await until_waiting(postgres_url, writing)
            [refusal] = await writing
            assert isinstance(refusal, ShardMoved)
            assert refusal.shard == SHARD
            await node.store.thaw_shard(SHARD, 9, 0)
        assert isinstance((await node.store.commit([new("run_2")]))[0], SessionBusy)

    play(postgres_url, scenario)


def test_a_parcel_that_is_gone_is_said_to_be(postgres_url):
    """Two that take out the same ones: one did it."""

    async def scenario(node):
        async with open_store(postgres_url) as other:
            await node.store.commit(exchange(post("seller:1", *"abcdef")))
            receipts = exchange(*(Exchange(unpost=[("seller:1", one.number)]) for one in await node.store.parcels()))
            outcomes = await asyncio.gather(node.store.commit(receipts), other.commit(list(reversed(receipts))))
        for mine, theirs in zip(outcomes[0], reversed(outcomes[1]), strict=True):
            assert {type(mine), type(theirs)} == {type(None), AlreadySettled}

    play(postgres_url, scenario)
