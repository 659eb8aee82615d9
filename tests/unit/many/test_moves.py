"""A shard moves while work goes on; whoever dies meanwhile leaves it whole, and on one side."""

from __future__ import annotations

import asyncio

import pytest

from perdure.errors import Fenced, InvalidSetting, NotFound, PerdureError, StoreBroken, StoreBusy
from perdure.store.contract import Ask, AskClose, Fence, RunFilter, RunUpdate, Signal, Transaction
from perdure.testing.clock import settle
from perdure.values.runs import RunStatus
from tests.unit.many.databases import HERE, HERE_TOO, THERE, Databases, Process, mail, must

ASK = Ask("run_1:1", "run_1", "agent", "s", HERE, 1, "ask", "?", "{}", None, 5)


def to_session(data):
    """A message for the session that moves."""
    return Signal("agent", "s", None, "message", data, HERE, 5)


async def furnish(there, store):
    """A run at work in a session, with a bit of everything; its fence."""
    fence = await there.own(store, HERE)
    await must(store, Transaction(create=[there.new("run_1", HERE, session="s", idempotency_key="k")]))
    await settle()
    working = {"run_1": RunUpdate(RunStatus.RUNNING, there.clock.now_us())}
    state: tuple[str, str, dict[str, str | None]] = ("agent", "s", {"a": "1"})
    events = [there.event("run_1", 2), there.event("run_1", 3)]
    await must(store, Transaction(fence=fence, events=events, updates=working, open_asks=[ASK], state=state))
    await must(store, Transaction(create=[there.new("run_2", HERE)], signals=[to_session("before")]))
    return fence


async def half_way(there, store):
    """A move whose copy does not go on until the test says so."""
    real, came, go_on = there.second.import_shard, asyncio.Event(), asyncio.Event()

    async def slow(*page):
        came.set()
        await go_on.wait()
        await real(*page)

    there.second.import_shard = slow
    moving = asyncio.create_task(store.move_shard(HERE, "second"))
    await came.wait()
    return moving, go_on


async def world(store):
    """What belongs to the shard, as anybody sees it."""
    return [
        await store.runs(RunFilter()), await store.events("run_1"), await store.run("run_2"), await store.ask("run_1:1"),
        await store.asks(), await store.state("agent", "s"), await store.run_by_key("agent", "k"),
        await store.session_active("agent", "s"), await mail(store, HERE),
        [signal.data for signal in await store.run_signals("run_1")],
    ]  # fmt: skip


def play(scenario):
    """On two databases whose shards have their places."""

    async def stage():
        there = Databases()
        await there.settle()
        await scenario(there)

    asyncio.run(stage())


def test_a_shard_moves_with_all_that_belongs_to_it():
    """Everybody sees the same before and after; its owner is fenced, and the next one writes in the other database."""

    async def scenario(there):
        store, other = await there.open(), await there.open()
        fence = await furnish(there, store)
        before = await world(store)
        assert await world(other) == before
        await other.move_shard(HERE, "second")
        assert (await other.places())[HERE] == "second"
        for reader in (other, store, await there.open()):
            assert await world(reader) == before
        assert await there.first.runs(RunFilter()) == []
        assert len(await there.second.runs(RunFilter())) == 2
        write = [there.event("run_1", 4)]
        assert isinstance((await store.commit([Transaction(fence=fence, events=write)]))[0], Fenced)
        lease = await there.own(store, HERE, "node_b")
        assert lease.epoch > fence.epoch
        await must(store, Transaction(fence=lease, events=write))
        assert len(await other.events("run_1", 3)) == 1
        await must(other, Transaction(close_asks=[AskClose("run_1:1", "answered", 7)], signals=[to_session("after")]))
        assert await mail(store, HERE) == ["before", "after"]

    play(scenario)


def test_a_shard_moves_back():
    """Epochs only grow, and what happened meanwhile comes along."""

    async def scenario(there):
        store = await there.open()
        epochs = [(await furnish(there, store)).epoch]
        for database in ("second", "first", "second"):
            await store.move_shard(HERE, database)
            lease = await there.own(store, HERE, f"node_{len(epochs)}")
            epochs.append(lease.epoch)
            await must(store, Transaction(fence=lease, events=[there.event("run_1", 2 + len(epochs))]))
        assert epochs == sorted(set(epochs))
        assert [event.seq for event in await store.events("run_1")] == [1, 2, 3, 4, 5, 6]
        assert (await store.places())[HERE] == "second"

    play(scenario)


def test_moving_to_where_it_is_changes_nothing():
    """Its owner goes on. An unknown shard or database is refused by name."""

    async def scenario(there):
        store = await there.open()
        fence = await furnish(there, store)
        await store.move_shard(HERE, "first")
        await must(store, Transaction(fence=fence, events=[there.event("run_1", 4)]))
        with pytest.raises(NotFound, match="nobody:0"):
            await store.move_shard("nobody:0", "second")
        with pytest.raises(InvalidSetting, match="first, second"):
            await store.move_shard(HERE, "third")

    play(scenario)


def test_what_comes_during_a_move_arrives_after_it():
    """Messages, new runs and children wait as parcels, in order; only an answer has to be given again."""

    async def scenario(there):
        store, other = await there.open(), await there.open()
        await furnish(there, store)
        neighbours = [await there.own(store, HERE_TOO), await there.own(store, THERE)]
        moving, go_on = await half_way(there, store)
        for sender in (store, other):
            await must(sender, Transaction(signals=[to_session("anybody")]))
            for number, fence in enumerate(neighbours):
                child = there.new(f"child_{number}_{id(sender)}", HERE)
                await must(sender, Transaction(fence=fence, create=[child], signals=[to_session(f"run {number}")]))
        [refusal] = await other.commit([Transaction(close_asks=[AskClose("run_1:1", "answered", 7)])])
        assert isinstance(refusal, StoreBusy)
        assert await mail(store, HERE) == ["before"]
        go_on.set()
        await moving
        await there.clock.advance(1)
        assert sorted(await mail(store, HERE)) == sorted(["before", *["anybody", "run 0", "run 1"] * 2])
        assert len(await store.runs(RunFilter())) == 2 + 4
        assert [*await there.first.parcels(), *await there.second.parcels()] == []

    play(scenario)


def test_an_answer_during_a_move_is_to_be_given_again():
    """It is not taken for settled, wherever the shard comes from."""

    async def scenario(there):
        store = await there.open()
        await furnish(there, store)
        await store.move_shard(HERE, "second")
        await there.second.freeze_shard(HERE, 99)
        letter = Signal("agent", None, "run_1", "answer", "{}", "", 5)
        for signals in ([], [letter]):
            [refusal] = await store.commit(
                [Transaction(close_asks=[AskClose("run_1:1", "answered", 7)], signals=signals)]
            )
            assert isinstance(refusal, StoreBusy)
        await there.second.thaw_shard(HERE, 99, 0)
        await must(store, Transaction(close_asks=[AskClose("run_1:1", "answered", 7)], signals=[letter]))
        assert [signal.kind for signal in await store.run_signals("run_1")] == ["message", "answer"]

    play(scenario)


@pytest.mark.parametrize("fenced", [True, False])
def test_what_came_during_a_move_is_not_overtaken_after_it(fenced):
    """Its sender knows already that the shard is in another database, and could put the next message there."""

    async def scenario(there):
        store, other = await there.open(), await there.open()
        await furnish(there, store)
        fence = await there.own(other, THERE) if fenced else None
        real = there.second.thaw_shard

        async def thaw(*which):
            await real(*which)
            await other.places()
            await must(other, Transaction(fence=fence, signals=[to_session("2")]))

        there.second.thaw_shard = thaw
        moving, go_on = await half_way(there, store)
        await must(other, Transaction(fence=fence, signals=[to_session("1")]))
        go_on.set()
        await moving
        await settle()
        await must(other, Transaction(fence=fence, signals=[to_session("3")]))
        await settle()
        assert await mail(store, HERE) == ["before", "1", "2", "3"]

    play(scenario)


def test_what_a_shard_sent_goes_before_it():
    """A message that could not be delivered yet is delivered first, or the shard stays where it is, at work."""

    async def scenario(there):
        store = await there.open()
        fence = await furnish(there, store)
        away = there.second.commit

        async def busy(batch):
            raise StoreBusy("away")

        there.second.commit = busy
        letter = Signal("agent", "t", None, "message", "1", THERE, 5)
        await must(store, Transaction(fence=fence, signals=[letter]))
        with pytest.raises(StoreBusy, match="cannot be delivered"):
            await store.move_shard(HERE, "second")
        assert (await store.places())[HERE] == "first"
        lease = await there.own(store, HERE, "node_b")
        await must(store, Transaction(fence=lease, events=[there.event("run_1", 4)]))
        there.second.commit = away
        await store.move_shard(HERE, "second")
        assert await mail(store, THERE) == ["1"]
        assert [event.seq for event in await store.events("run_1")] == [1, 2, 3, 4]

    play(scenario)


def test_a_target_that_fails_leaves_the_shard_where_it_was():
    """It is open for its owner at once."""

    async def scenario(there):
        store = await there.open()
        await furnish(there, store)
        before = await world(store)

        async def busy(*_):
            raise StoreBusy("away")

        there.second.import_shard = busy
        with pytest.raises(StoreBusy, match="away"):
            await store.move_shard(HERE, "second")
        assert await world(store) == before
        assert (await there.own(store, HERE, "node_b")).epoch > 1

    play(scenario)


def test_sessions_are_listed_where_they_live():
    """Those of both databases as one list; what a move left behind in either is no second one, and is not believed."""

    async def scenario(there):
        store = await there.open()
        elsewhere = [there.new(f"run_{shard}", shard, session=f"s {shard}") for shard in (HERE_TOO, THERE)]
        await must(store, Transaction(create=elsewhere))
        for database, target in (("second", there.second), ("first", there.first)):
            run = f"run_to_{database}"
            await must(store, Transaction(create=[there.new(run, HERE, session="s", status=RunStatus.RUNNING)]))
            copy = target.import_shard

            async def copy_and_fail(*page, copy=copy):
                await copy(*page)
                raise StoreBusy("it is away")

            target.import_shard = copy_and_fail
            with pytest.raises(StoreBusy):
                await store.move_shard(HERE, database)
            target.import_shard = copy
            assert [row.active for row in await target.sessions() if row.session == "s"] == [run]
            fence = await there.own(store, HERE, f"node_{database}")
            ended = {run: RunUpdate(RunStatus.SUCCEEDED, there.clock.now_us())}
            await must(store, Transaction(fence=fence, events=[there.event(run, 2)], updates=ended))
            listed = await store.sessions()
            assert [row.session for row in listed] == ["s", f"s {HERE_TOO}", f"s {THERE}"]
            assert [row.active for row in listed] == [None] * 3
            await store.move_shard(HERE, database)
            assert await store.sessions() == await (await there.open()).sessions() == listed
            assert await store.sessions(after=listed[0][:2], limit=1) == listed[1:2]

    play(scenario)


@pytest.mark.parametrize("heard", ["before", "after"])
def test_a_change_of_place_whose_answer_was_lost_counts_or_not(heard):
    """It had happened, and the move is finished; or it comes late, when the shard was given back: then it is refused."""

    async def scenario(there):
        store = await there.open()
        await furnish(there, store)
        real_commit, real_notes = there.first.commit, there.first.notes
        late = []

        async def commit(batch):
            if not any(note.kind == "place" for work in batch if work.exchange for note in work.exchange.notes):
                return await real_commit(batch)
            late.append(batch)
            if heard == "before":
                assert await real_commit(batch) == [None]
            raise StoreBusy("the answer was lost")

        async def notes(*which):
            found = await real_notes(*which)
            if which == ("place",) and late and heard == "after":
                assert isinstance((await real_commit(late.pop()))[0], Exception)
            return found

        there.first.commit, there.first.notes = commit, notes
        if heard == "before":
            await store.move_shard(HERE, "second")
        else:
            with pytest.raises(StoreBusy, match="lost"):
                await store.move_shard(HERE, "second")
        assert (await store.places())[HERE] == ("second" if heard == "before" else "first")
        lease = await there.own(store, HERE, "node_b")
        await must(store, Transaction(fence=lease, events=[there.event("run_1", 4)]))
        assert await real_notes("move") == {}

    play(scenario)


def test_two_movers_do_not_meet():
    """The second is told to wait."""

    async def scenario(there):
        store, other = await there.open(), await there.open()
        await furnish(there, store)
        moving, go_on = await half_way(there, store)
        with pytest.raises(StoreBusy, match="by somebody else"):
            await other.move_shard(HERE, "second")
        go_on.set()
        await moving
        assert (await store.places())[HERE] == "second"

    play(scenario)


@pytest.mark.parametrize("then", ["repeat", "heal"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_mover_that_dies_leaves_the_shard_whole_and_on_one_side(then, after):
    """At every call: what is seen meanwhile is right, and the next mover, or any node by itself, ends the move."""

    async def attempt(dies_at):
        there = Databases()
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
        except (StoreBroken, PerdureError):
            assert dies_at is not None
        calls = len(dying.calls) - begun
        await mover.close()
        assert await world(store) == before
        await must(store, Transaction(signals=[to_session("meanwhile")]))
        await there.clock.advance(31)
        if then == "repeat":
            await store.move_shard(HERE, "second")
            assert (await store.places())[HERE] == "second"
        await there.own(store, HERE_TOO, "node_c")
        await there.clock.advance(1)
        await there.clock.advance(1)
        place = (await store.places())[HERE]
        lease = await there.own(store, HERE, "node_b")
        assert lease.epoch > fence.epoch
        await must(store, Transaction(fence=lease, events=[there.event("run_1", 4)]))
        assert [event.seq for event in await store.events("run_1")] == [1, 2, 3, 4]
        assert sorted(await mail(store, HERE)) == ["before", "meanwhile"]
        sides = {"first": there.first, "second": there.second}
        elsewhere = sides["second" if place == "first" else "first"]
        # A copy may be left behind, but nobody can own it.
        assert await elsewhere.run("run_1") is None or await elsewhere.claim("node_x", [HERE], 10) == []
        assert await there.first.notes("move") == {}
        assert [*await there.first.parcels(), *await there.second.parcels()] == []
        await store.close()
        return calls

    points = asyncio.run(attempt(None))
    assert points > 12
    for dies_at in range(1, points + 1):
        asyncio.run(attempt(dies_at))


def test_a_mover_that_was_asleep_can_spoil_nothing():
    """It wakes at any point after somebody ended its move and the shard went on, and even came back."""

    async def attempt(sleeps_at):
        there = Databases()
        await there.settle()
        store = await there.open()
        await furnish(there, store)
        process = Process()
        mover = await there.open(process)
        wake, asleep, begun = asyncio.Event(), asyncio.Event(), len(process.calls)
        call = process.call

        async def doze(name, method, args, options):
            if len(process.calls) - begun == sleeps_at:
                asleep.set()
                process.calls.append("(asleep)")
                await wake.wait()
            return await call(name, method, args, options)

        process.call = doze  # type: ignore[method-assign]
        moving = asyncio.create_task(mover.move_shard(HERE, "second"))
        ended = asyncio.create_task(asleep.wait())
        await asyncio.wait([moving, ended], return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        if not asleep.is_set():
            return False
        await there.clock.advance(31)
        for database in ("second", "first"):
            await store.move_shard(HERE, database)
        lease = await there.own(store, HERE, "node_b")
        await must(store, Transaction(fence=lease, events=[there.event("run_1", 4)]))
        wake.set()
        [outcome] = await asyncio.gather(moving, return_exceptions=True)
        assert outcome is None or isinstance(outcome, PerdureError)
        [event] = await store.events("run_1", 3)
        assert event.seq == 4
        place = (await store.places())[HERE]
        if outcome is not None:
            assert place == "first"
            await must(store, Transaction(fence=lease, events=[there.event("run_1", 5)]))
        return True

    sleeps_at = 0
    while asyncio.run(attempt(sleeps_at)):
        sleeps_at += 1
    assert sleeps_at > 12


def test_a_fence_of_before_is_worth_nothing_anywhere():
    """Neither where the shard was nor where it is."""

    async def scenario(there):
        store = await there.open()
        fence = await furnish(there, store)
        await store.move_shard(HERE, "second")
        write = Transaction(fence=Fence(*fence), events=[there.event("run_1", 4)])
        for database in (there.first, there.second):
            [refusal] = await database.commit([write])
            assert isinstance(refusal, Fenced)

    play(scenario)
