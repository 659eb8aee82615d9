"""What crosses from one database to another comes once, in order, whoever dies on the way."""

from __future__ import annotations

import asyncio

import pytest

from perdure.errors import AlreadyExists, SessionBusy, StoreBroken, StoreBusy
from perdure.store.contract import NewRun, Signal, Transaction
from perdure.testing.clock import settle
from perdure.values.json import decode
from perdure.values.runs import RunStatus
from tests.unit.many.databases import HERE, HERE_TOO, THERE, Databases, Process, mail, must


def signal(data, *, run=None, session=None, shard=""):
    """A message."""
    return Signal("agent", session, run, "message", data, shard, 5)


def play(scenario):
    """On two databases whose shards have their places."""

    async def stage():
        there = Databases()
        await there.settle()
        await scenario(there)

    asyncio.run(stage())


def test_a_child_and_a_message_reach_the_other_database():
    """With the commit of who sends them; nothing is left in the outbox. A run elsewhere has no signal id here."""

    async def scenario(there):
        store = await there.open()
        fence = await there.own(store, HERE)
        await must(store, Transaction(create=[there.new("parent", HERE)]))
        [ids] = await store.commit([
            Transaction(fence=fence, events=[there.event("parent", 2)], create=[there.new("child", THERE, parent="parent")],
                        signals=[signal("1", run="child"), signal("2", run="parent"), signal("3", session="s", shard=THERE)])
        ])  # fmt: skip
        assert [bool(id) for id in ids] == [False, True, False]
        await settle()
        assert await there.first.run("child") is None
        assert (await there.second.run("child")).parent == "parent"
        assert [event.type for event in await store.events("child")] == ["run.queued"]
        assert [one.data for one in await store.run_signals("child")] == ["1"]
        assert await mail(store, THERE) == ["1", "3"]
        assert await mail(store, HERE) == ["2"]
        assert await there.first.parcels() == []
        await store.close()

    play(scenario)


def test_a_refused_transaction_sends_nothing():
    """Fenced, its child and its message stay away as well."""

    async def scenario(there):
        store = await there.open()
        fence = await there.own(store, HERE)
        stale = fence._replace(epoch=fence.epoch - 1)
        [refusal] = await store.commit(
            [
                Transaction(
                    fence=stale, create=[there.new("child", THERE)], signals=[signal("1", session="s", shard=THERE)]
                )
            ]
        )
        assert isinstance(refusal, Exception)
        await settle()
        assert await store.run("child") is None
        assert await mail(store, THERE) == []
        await store.close()

    play(scenario)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_whoever_dies_on_the_way_loses_nothing_and_repeats_nothing(after):
    """At every call from the commit to the last receipt: the next process finds all or nothing of it, and once."""

    async def attempt(dies_at):
        there = Databases()
        await there.settle()
        dying = Process()
        store = await there.open(dying)
        fence = await there.own(store, HERE)
        await settle()
        await must(store, Transaction(create=[there.new("parent", HERE)]))
        dying._dies_at = None if dies_at is None else len(dying.calls) + dies_at
        dying._after = after
        begun = len(dying.calls)
        work = Transaction(
            fence=fence, events=[there.event("parent", 2)], create=[there.new("child", THERE)],
            signals=[signal("1", run="child"), signal("2", run="child")],
        )  # fmt: skip
        acknowledged = True
        try:
            await must(store, work)
        except StoreBroken:
            acknowledged = False
        await settle()
        calls = len(dying.calls) - begun
        await store.close()
        survivor = await there.open()
        await there.own(survivor, HERE_TOO, "node_b")
        await there.clock.advance(1)
        happened = len(await survivor.events("parent")) == 2
        assert happened or not acknowledged
        assert (await survivor.run("child") is not None) is happened
        assert await mail(survivor, THERE) == (["1", "2"] if happened else [])
        assert await there.first.parcels() == []
        await survivor.close()
        return calls

    points = asyncio.run(attempt(None))
    assert points >= 3
    for dies_at in range(1, points + 1):
        asyncio.run(attempt(dies_at))


def test_several_relays_deliver_once():
    """Processes that find the same parcels take them there together, and in order."""

    async def scenario(there):
        stores = [await there.open() for _ in range(4)]
        fence = await there.own(stores[0], HERE)
        for number in range(30):
            await must(stores[0], Transaction(fence=fence, signals=[signal(str(number), session="s", shard=THERE)]))
            for store in stores:
                store._rounds.nudge()
        await settle()
        assert await mail(stores[1], THERE) == [str(number) for number in range(30)]
        for store in stores:
            await store.close()

    play(scenario)


def test_a_message_follows_a_run_that_is_still_on_its_way():
    """From another process, which finds neither the run nor, soon, the parcel that brings it."""

    async def scenario(there):
        dying = Process()
        store = await there.open(dying)
        fence = await there.own(store, HERE)
        await settle()
        dying._dies_at = len(dying.calls) + 2  # the commit, but not the delivery
        await must(store, Transaction(fence=fence, create=[there.new("child", THERE)]))
        await settle()
        await store.close()
        other = await there.open()
        await must(other, Transaction(signals=[signal("hello", run="child")]))
        await settle()
        assert [one.data for one in await other.run_signals("child")] == ["hello"]
        await other.close()

    play(scenario)


def test_messages_follow_a_run_out_of_the_same_batch_in_order():
    """Whether its sender has posted it, is about to, or has just delivered it."""

    async def scenario(there):
        store = await there.open()
        fence = await there.own(store, HERE)
        await must(
            store,
            Transaction(fence=fence, create=[there.new("child", THERE)]),
            Transaction(fence=fence, signals=[signal("1", run="child")]),
            Transaction(fence=fence, signals=[signal("2", run="child")]),
        )
        await must(store, Transaction(fence=fence, signals=[signal("3", run="child")]))
        await settle()
        await must(store, Transaction(fence=fence, signals=[signal("4", run="child")]))
        await settle()
        assert await mail(store, THERE) == ["1", "2", "3", "4"]
        await store.close()

    play(scenario)


def test_a_child_that_is_refused_fails_for_its_parent():
    """Its name is taken there: what the parent did stays done, and it hears of a failed child, once."""

    async def scenario(there):
        store = await there.open()
        fence = await there.own(store, HERE)
        await must(
            store, Transaction(create=[there.new("parent", HERE)]), Transaction(create=[there.new("child", THERE)])
        )
        child = there.new("child", THERE, parent="parent", parent_step=7)
        await must(store, Transaction(fence=fence, events=[there.event("parent", 2)], create=[child]))
        await settle()
        [heard] = await store.run_signals("parent")
        said = decode(heard.data)
        assert (heard.kind, said["run"], said["step"], said["status"]) == ("child", "child", 7, "failed")
        assert said["error"]["type"] == "AlreadyExists"
        assert (await store.run("child")).parent is None
        assert await there.first.parcels() == []
        await store.close()

    play(scenario)


def test_a_run_that_was_to_be_born_running_is_queued_in_another_database():
    """Its creator has no right there, and found out too late: whoever has begins it."""

    async def scenario(there):
        store = await there.open()
        fence = await there.own(store, HERE)
        events = [there.event("child", 1, "run.queued"), there.event("child", 2, "run.started")]
        born = NewRun(there.run("child", THERE, status=RunStatus.RUNNING), events)
        await must(store, Transaction(fence=fence, create=[born]))
        await settle()
        run = await store.run("child")
        assert run is not None
        assert (run.status, run.seq) == (RunStatus.QUEUED, 1)
        [page] = await store.ready([THERE], dict.fromkeys(await store.queues(run.agent, 5)), 5)
        assert [run.id for run in page.runs] == ["child"]
        await store.close()

    play(scenario)


def test_a_batch_whose_one_part_failed_is_given_again_without_repeating_the_other():
    """The second database was busy: only its part is written the second time, and each verdict is there."""

    async def scenario(there):
        store = await there.open()
        batch = [Transaction(create=[there.new("run_1", HERE)]), Transaction(create=[there.new("run_2", THERE)])]
        real, there.second.commit = there.second.commit, busy
        with pytest.raises(StoreBusy):
            await store.commit(batch)
        there.second.commit = real
        assert await store.run("run_1") is not None
        assert await store.commit(batch) == [None, None]
        assert await store.run("run_2") is not None
        [again] = await store.commit([Transaction(create=[there.new("run_1", HERE)])])
        assert isinstance(again, AlreadyExists)
        await store.close()

    async def busy(batch):
        raise StoreBusy("busy")

    play(scenario)


# Idempotency keys.


def keyed(there, id, shard, **fields):
    """A transaction that starts a run with a key."""
    return Transaction(create=[there.new(id, shard, idempotency_key="k", session=f"s{shard}", **fields)])


@pytest.mark.parametrize("shards", [(HERE, THERE), (THERE, HERE), (THERE, THERE), (HERE, HERE_TOO)])
def test_a_key_starts_one_run_in_all_databases(shards):
    """At the same moment, from two processes, in sessions of different databases: one is made, and both find it."""

    async def scenario(there):
        stores = [await there.open(), await there.open()]
        outcomes = await asyncio.gather(
            *(store.commit([keyed(there, f"run_{shard}_{n}", shard)])
              for n, (store, shard) in enumerate(zip(stores, shards, strict=True)))
        )  # fmt: skip
        assert sorted(type(outcome).__name__ for [outcome] in outcomes) == ["AlreadyExists", "NoneType"]
        found = [await store.run_by_key("agent", "k") for store in stores]
        assert found[0] is not None
        assert found[0] == found[1]
        for store in stores:
            await store.close()

    play(scenario)


def test_a_key_whose_run_was_refused_is_free_again():
    """The session was busy, and the starter hears that."""

    async def scenario(there):
        store = await there.open()
        for shard in (HERE, THERE):
            await must(store, Transaction(create=[there.new(f"first_{shard}", shard, session=f"s{shard}")]))
            [refusal] = await store.commit([keyed(there, f"run_{shard}", shard, must_be_free=True)])
            assert isinstance(refusal, SessionBusy)
            assert await store.run_by_key("agent", "k") is None
        await must(store, keyed(there, "run_9", THERE))
        assert (await store.run_by_key("agent", "k")).id == "run_9"
        await store.close()

    play(scenario)


@pytest.mark.parametrize("shard", [HERE, THERE])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_crash_between_key_and_run_is_healed_by_the_next_try(shard, after):
    """At every call: whoever tries again finds the run, or makes it, but never a second one."""

    async def attempt(dies_at):
        there = Databases()
        await there.settle()
        dying = Process()
        store = await there.open(dying)
        begun = len(dying.calls)
        dying._dies_at, dying._after = None if dies_at is None else begun + dies_at, after
        acknowledged = True
        try:
            await must(store, keyed(there, "run_1", shard))
        except StoreBroken:
            acknowledged = False
        await settle()
        calls = len(dying.calls) - begun
        await store.close()
        other = await there.open()
        [outcome] = await other.commit([keyed(there, "run_2", shard)])
        run = await other.run_by_key("agent", "k")
        assert run is not None
        assert run.id == ("run_2" if outcome is None else "run_1")
        assert not acknowledged or run.id == "run_1"
        others = [id for id in ("run_1", "run_2") if id != run.id]
        assert [await other.run(id) for id in others] == [None]
        await other.close()
        return calls

    points = asyncio.run(attempt(None))
    for dies_at in range(1, points + 1):
        asyncio.run(attempt(dies_at))


def test_what_did_not_happen_yet_is_not_told():
    """A run born running whose shard is elsewhere begins later, and brings what tells of that then: under the same id."""

    async def scenario(there):
        store = await there.open()
        fence = await there.own(store, HERE)
        born = there.new("parent.2", THERE, status=RunStatus.RUNNING)
        born.events.append(there.event("parent.2", 2, "run.started"))
        places = ((1, HERE), (1, THERE), (2, HERE), (2, THERE))
        told = [there.new(f"parent.2.{seq}-wh_{shard[0]}", shard) for seq, shard in places]
        await must(store, Transaction(create=[there.new("parent", HERE)]))
        await must(store, Transaction(fence=fence, events=[there.event("parent", 2)], create=[born, *told]))
        await settle()
        found = [await store.run(new.run.id) is not None for new in (born, *told)]
        assert found == [True, True, True, False, False]
        keyed = there.new("keyed", THERE, status=RunStatus.RUNNING, idempotency_key="k")
        keyed.events.append(there.event("keyed", 2, "run.started"))
        await must(store, Transaction(create=[keyed, there.new("keyed.1-wh", HERE), there.new("keyed.2-wh", HERE)]))
        await settle()
        assert (await store.run("keyed")).status == "queued"
        assert await store.run("keyed.1-wh") is not None
        assert await store.run("keyed.2-wh") is None
        await store.close()

    play(scenario)
