"""Nodes that join, leave, drain, die, are paused or cannot reach the store: shards move, and nothing happens twice."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import replace
from functools import partial

import pytest

from perdure import Context, Settings, agent, tool
from perdure.errors import StoreBusy
from perdure.testing.clock import settle
from tests.scenario.worlds import Box, World, play

LEASE = Settings().lease_seconds


def pausing(world, box, effect="read"):
    """A node's work: a tool that notes its run and waits until the test opens the gate of that name."""

    @tool(effect=effect)
    async def act(name: str) -> str:
        box.note(name)
        await box.wait(name)
        return name

    @agent
    async def working(ctx: Context, name: str) -> list[object]:
        return [await act(name), await ctx.receive("more")]

    return working


@agent
async def resting(ctx: Context) -> object:
    """Waits for a message."""
    return await ctx.receive("m")


async def one_in_each_shard(rt, agent):
    """A run in every shard of `agent`, by name; its session has the name too."""
    sessions = {rt.kernel.shard_of(agent.name, f"{n}", ""): f"{n}" for n in range(200)}
    assert len(sessions) == rt.kernel.slots
    return {name: await rt.start(agent, name, session=name) for name in sessions.values()}


async def let_pass(world, seconds):
    """Time, in pieces that no node is late for."""
    for _ in range(round(seconds * 20)):
        await world.clock.advance(0.05)


async def happens(world, condition):
    """Wait until `condition` gives something; files are looked at in real time, so how long that takes is not known."""
    async with asyncio.timeout(10):
        while not (given := await condition()):
            await world.clock.advance(0.01)
    return given


async def reason_of(world, run):
    """Why a run waits."""
    return (await world.status(run)).reason


async def received(world, run):
    """Whether a run has got a message."""
    return "message.received" in await world.types(run)


async def share_out(world, *nodes):
    """Let nodes that have just come get their parts."""
    await let_pass(world, LEASE + 3)
    return [len(node.kernel.leases.shards) for node in nodes]


def test_one_node_owns_everything_at_once(world):
    """Nobody waits for anybody: its first beat and its first claims are part of its start."""

    async def scenario():
        rt = await world.start(resting)
        assert rt.kernel.leases.complete
        [node] = await rt.store.nodes()
        assert (node.id, node.programs, node.alive) == (rt.kernel.node, (("resting", "1"),), True)

    play(world, scenario)


def test_nodes_share_the_shards_and_their_runs_go_on(world):
    """Each has its part a little after a lease; every run goes on where its shard is, and none is a crash."""

    async def scenario():
        first = await world.start(resting)
        runs = [await first.start(resting) for _ in range(20)]
        await settle()
        second = await world.start(resting)
        third = await world.start(resting)
        assert sorted(await share_out(world, first, second, third)) == [5, 5, 6]
        for n, run in enumerate(runs):
            await third.send(run.id, "m", n)
        async with asyncio.timeout(10):
            assert [await run.result() for run in runs] == list(range(20))
        assert {(await world.status(run)).attempt for run in runs} == {1}

    play(world, scenario)


def test_a_node_that_comes_and_goes_moves_nothing(world):
    """A worker for a moment (a `perdure run`) gets no work of others, so their steps are left alone."""

    async def scenario():
        first = await world.start(resting)
        second = await world.start(resting)
        await let_pass(world, LEASE - 1)
        assert second.kernel.leases.shards == []
        await world.stop(second)
        await let_pass(world, LEASE)
        assert first.kernel.leases.complete

    play(world, scenario)


@pytest.mark.parametrize("effect", ["read", "keyed", "once"])
def test_a_shard_moves_when_its_steps_have_ended(world, effect):
    """Nothing begins in it meanwhile, what ends is recorded, and the new owner repeats nothing."""
    box = Box()
    working = pausing(world, box, effect)

    async def scenario():
        first = await world.start(working)
        runs = await one_in_each_shard(first, working)
        await settle()
        assert sorted(box.calls) == sorted(runs)
        second = await world.start(working)
        await let_pass(world, LEASE + 3)
        assert second.kernel.leases.shards == []  # every shard has a step under way
        for name in runs:
            box.open(name)
        await let_pass(world, 1)
        assert [len(node.kernel.leases.shards) for node in (first, second)] == [8, 8]
        for run in runs.values():
            await first.send(run.id, "more", 1)
        async with asyncio.timeout(10):
            assert [await run.result() for run in runs.values()] == [[name, 1] for name in runs]
        assert sorted(box.calls) == sorted(runs)
        assert {(await world.status(run)).attempt for run in runs.values()} == {1}

    play(world, scenario)


def test_a_step_that_takes_too_long_is_cut_off_where_its_shard_moves(world):
    """It has the time that a shutdown gives; the new owner runs it again, and it is no crash."""
    box = Box()
    working = pausing(world, box)

    async def scenario():
        first = await world.start(working)
        runs = await one_in_each_shard(first, working)
        await settle()
        second = await world.start(working)
        await let_pass(world, LEASE + 3)
        assert sorted(box.calls) == sorted(runs)
        await let_pass(world, first.settings.finish_seconds)
        moved = [name for name, run in runs.items() if second.kernel.fence((await world.status(run)).shard)]
        assert len(moved) == 8
        assert sorted(box.calls) == sorted([*runs, *moved])
        for name, run in runs.items():
            box.open(name)
            await first.send(run.id, "more", 1)
        async with asyncio.timeout(10):
            assert [await run.result() for run in runs.values()] == [[name, 1] for name in runs]
        assert {(await world.status(run)).attempt for run in runs.values()} == {1}

    play(world, scenario)


def test_what_a_stopping_node_leaves_is_taken_at_once(world):
    """Half a second after the stop every run goes on elsewhere; the node is not listed any more."""

    async def scenario():
        first = await world.start(resting)
        second = await world.start(resting)
        await share_out(world)
        runs = [await first.start(resting) for _ in range(20)]
        await settle()
        await world.stop(first)
        await let_pass(world, 0.5)
        assert second.kernel.leases.complete
        assert [node.id for node in await second.store.nodes()] == [second.kernel.node]
        for run in runs:
            await second.send(run.id, "m", 1)
        async with asyncio.timeout(10):
            assert {await (await second.run(run.id)).result() for run in runs} == {1}
        assert {(await world.status(run)).attempt for run in runs} == {1}

    play(world, scenario)


def test_beats_go_on_while_steps_finish(world):
    """A stop that takes longer than a lease loses no shard, and what ended is not repeated."""
    box = Box()
    working = pausing(world, box, "once")

    async def scenario():
        first = await world.start(working)
        run = await first.start(working, "a")
        await settle()
        second = await world.start(working)
        stopping = asyncio.create_task(world.stop(first, finish_seconds=60))
        await let_pass(world, 3 * LEASE)
        assert not stopping.done()
        assert len(second.kernel.leases.shards) == 15  # where nothing is under way they were given up at once
        box.open("a")
        await stopping
        await let_pass(world, 0.5)
        await second.send(run.id, "more", 1)
        async with asyncio.timeout(10):
            assert await (await second.run(run.id)).result() == ["a", 1]
        assert box.calls == ["a"]

    play(world, scenario)


def test_a_node_that_is_asked_to_drain_gives_everything_up_and_takes_nothing(world):
    """It hears of it with its next beat; whoever waits for that hears when it is done; it goes on as a client."""

    async def scenario():
        first = await world.start(resting)
        second = await world.start(resting)
        await share_out(world)
        await second.store.ask_drain(first.kernel.node)
        drained = asyncio.create_task(first.kernel.membership.drained())
        await let_pass(world, LEASE / 3 + 0.5)
        assert drained.done()
        assert second.kernel.leases.complete
        await let_pass(world, 2 * LEASE)
        assert first.kernel.leases.shards == []
        assert {node.id: node.draining for node in await second.store.nodes()} == {
            first.kernel.node: True,
            second.kernel.node: False,
        }
        run = await first.start(resting)
        await first.send(run.id, "m", 1)
        async with asyncio.timeout(10):
            assert await run.result() == 1

    play(world, scenario)


def test_runs_of_a_dead_node_move_within_a_fraction_of_a_second_of_its_lease(world):
    """Where nobody can tell that a process is gone: not before its lease is over, and soon after."""

    async def scenario():
        first = await world.start(resting)
        second = await world.start(resting)
        await share_out(world)
        runs = [await first.start(resting) for _ in range(20)]
        await settle()
        first.kernel.kill()
        held = len(second.kernel.leases.shards)
        await let_pass(world, LEASE * 2 / 3 - 0.1)
        assert len(second.kernel.leases.shards) == held
        await let_pass(world, LEASE / 3 + 0.4)
        assert second.kernel.leases.complete
        for run in runs:
            await second.send(run.id, "m", 1)
        async with asyncio.timeout(10):
            assert {await (await second.run(run.id)).result() for run in runs} == {1}
        await world.crash(first)

    play(world, scenario)


def test_among_many_nodes_too_what_one_leaves_is_taken_at_once(tmp_path):
    """Each of them looks seldom by itself, but hears of a release."""
    world = World("memory", tmp_path, Settings())

    async def scenario():
        nodes = [await world.start(resting) for _ in range(8)]
        assert await share_out(world, *nodes) == [2] * 8
        await world.stop(nodes[0])
        await let_pass(world, 0.2)
        assert sum(len(node.kernel.leases.shards) for node in nodes[1:]) == 16

    play(world, scenario)


def test_among_many_nodes_too_a_lease_that_runs_out_is_noticed_at_once(tmp_path):
    """All know when that is, also where none of them happens to beat or look then."""
    world = World("memory", tmp_path, Settings())

    async def scenario():
        nodes = [await world.start(resting) for _ in range(7)]
        await let_pass(world, LEASE / 6)
        dying = await world.start(resting)
        assert await share_out(world, *nodes, dying) == [2] * 8
        await let_pass(world, LEASE)
        dying.kernel.kill()
        [dead] = [node for node in await nodes[0].store.nodes() if node.id == dying.kernel.node]
        await let_pass(world, (dead.expires - world.clock.now_us()) / 1e6 + 0.3)
        assert sum(len(node.kernel.leases.shards) for node in nodes) == 16
        await world.crash(dying)

    play(world, scenario)


def test_a_node_says_how_it_is_doing(world):
    """What it moves, what waits for a place, and what it did so far."""
    box = Box()
    working = pausing(world, box)

    def said(node):
        return {name: figure for name, figure in json.loads(node.figures).items() if isinstance(figure, int)}

    async def scenario():
        rt = await world.start(working, settings=Settings(moving_most=1))
        runs = [await rt.start(working, name) for name in "aab"]
        box.open("a")
        await settle()
        await let_pass(world, LEASE / 3 + 0.1)
        [node] = await rt.store.nodes()
        assert said(node) == {"moving": 1, "queued": 0, "steps": 2, "runs": 3}
        box.open("b")
        for run in runs:
            await run.send("more", 1)
        await rt.idle()
        await let_pass(world, LEASE / 3 + 0.1)
        [node] = await rt.store.nodes()
        assert said(node) == {"moving": 0, "queued": 0, "steps": 3, "runs": 3}
        assert json.loads(node.figures)["steps_per_second"] == pytest.approx(1 / (LEASE / 3), rel=0.05)
        await let_pass(world, LEASE / 3)
        [node] = await rt.store.nodes()
        assert json.loads(node.figures)["steps_per_second"] == 0

    play(world, scenario)


# Nodes of several versions.


def two_versions():
    """Two versions of an agent that answers with its version."""

    def version(number):
        @agent(name="job", version=number)
        async def job(ctx: Context, name: str) -> list[object]:
            return [number, await ctx.receive("m")]

        return job

    return version("1"), version("2")


def test_in_a_rolling_upgrade_runs_of_both_versions_go_on_where_some_node_has_both(world):
    """The old node hands over what it lacks the version for, keeps the rest, and nothing goes back and forth."""
    old, new = two_versions()

    async def scenario():
        first = await world.start(old)
        olds = await one_in_each_shard(first, old)
        await settle()
        both = await world.start(old, new)
        await share_out(world)
        strays = [name for name, run in olds.items() if first.kernel.fence((await world.status(run)).shard)][:3]
        news = [await both.start(new, name, session=name, busy="queue") for name in strays]
        for name in strays:
            await both.send(olds[name].id, "m", 1)
        async with asyncio.timeout(10):
            assert [await olds[name].result() for name in strays] == [["1", 1]] * 3
        for run in news:
            await happens(world, partial(reason_of, world, run))
        await let_pass(world, LEASE)
        assert [len(node.kernel.leases.shards) for node in (first, both)] == [5, 11]
        for run in [*news, *(run for name, run in olds.items() if name not in strays)]:
            await first.send(run.id, "m", 2)
        await let_pass(world, 1)
        async with asyncio.timeout(10):
            assert [await run.result() for run in news] == [["2", 2]] * 3
            assert [await run.result() for name, run in olds.items() if name not in strays] == [["1", 2]] * 13
        held = [set(node.kernel.leases.shards) for node in (first, both)]
        await let_pass(world, 3 * LEASE)
        assert [set(node.kernel.leases.shards) for node in (first, both)] == held

    play(world, scenario)


def test_where_no_node_has_both_versions_shards_stay_and_runs_say_what_they_wait_for(world):
    """Those of the owner's version go on; the others go on once a node that has both is there."""
    old, new = two_versions()

    async def scenario():
        first = await world.start(old)
        olds = await one_in_each_shard(first, old)
        client = await world.start()
        waiting = await client.start(new, "a")
        assert "version 2" in await happens(world, partial(reason_of, world, waiting))
        second = await world.start(new)
        await let_pass(world, 2 * LEASE)
        assert first.kernel.leases.complete
        both = await world.start(old, new)
        await let_pass(world, 2 * LEASE)
        assert both.kernel.fence((await world.status(waiting)).shard) is not None
        assert second.kernel.leases.shards == []
        for run in [waiting, *olds.values()]:
            await both.send(run.id, "m", 1)
        await let_pass(world, 1)
        async with asyncio.timeout(10):
            assert await (await both.run(waiting.id)).result() == ["2", 1]
            assert [await run.result() for run in olds.values()] == [["1", 1]] * 16

    play(world, scenario)


# Nodes that were paused.


def pause(node):
    """The node's process is stopped: no alarm of its own rings, and nobody renews."""
    node.kernel.membership.rest()
    node.kernel.membership._tending = True


def wake(node):
    """It goes on: what is overdue rings at once, in no particular order."""
    membership = node.kernel.membership
    membership.term.renew(membership.term._until - membership.term._seconds)
    membership._tending = False
    membership._alarm_at = float("inf")
    membership._tend_at(0)


def sleeping(box):
    """A run that sleeps and then acts."""

    @tool(effect="read")
    async def free() -> None:
        box.note("free")

    @tool(effect="once")
    async def paid() -> None:
        box.note("paid")

    @agent
    async def napping(ctx: Context, kind: str) -> str:
        await asyncio.sleep(LEASE + 1)
        await (free if kind == "free" else paid)()
        return kind

    return napping


@pytest.mark.parametrize("kind", ["free", "paid"])
def test_a_node_that_slept_through_its_lease_begins_no_step(world, kind):
    """Although nobody has told it yet that others took over; where they did, they alone take the step."""
    box = Box()
    napping = sleeping(box)

    async def scenario():
        first = await world.start(napping)
        run = await first.start(napping, kind)
        await settle()
        second = await world.start(napping)
        pause(first)
        await let_pass(world, LEASE + 0.5)
        assert second.kernel.leases.complete
        assert box.calls == []
        await let_pass(world, 1)  # the run's timer is due, on both of them
        async with asyncio.timeout(10):
            assert await (await second.run(run.id)).result() == kind
        assert box.calls == [kind]
        wake(first)
        await let_pass(world, 1)
        assert first.kernel.live.all() == []
        assert box.calls == [kind]

    play(world, scenario)


@pytest.mark.parametrize("kind", ["free", "paid"])
def test_a_node_that_slept_while_nobody_took_over_goes_on_once_the_store_says_so(world, kind):
    """It keeps its runs and repeats nothing, but no step begins before its leases are known to be good."""
    box = Box()
    napping = sleeping(box)

    async def scenario():
        rt = await world.start(napping)
        run = await rt.start(napping, kind)
        await settle()
        pause(rt)
        await let_pass(world, LEASE + 2)
        assert box.calls == []
        wake(rt)
        await world.clock.advance(0)
        assert await run.result() == kind
        assert box.calls == [kind]
        assert (await world.status(run)).attempt == 1

    play(world, scenario)


def queueing(box, gate):
    """A run whose second tool waits for the only thread, until the first one passes the gate."""

    @tool(effect="once")
    def hold() -> None:
        gate.wait(30)

    @tool(effect="once")
    def paid() -> None:
        box.note("paid")

    @agent
    async def busy(ctx: Context) -> str:
        await asyncio.gather(hold(), paid())
        return "done"

    return busy


@pytest.mark.parametrize("taken_over", [True, False])
def test_a_tool_that_waits_for_a_thread_does_not_begin_on_a_node_that_slept(world, taken_over):
    """Its step was admitted in time, but it would act too late: nobody does it, or this node once it may again."""
    box, gate = Box(), threading.Event()
    busy = queueing(box, gate)

    async def scenario():
        first = await world.start(busy, settings=replace(world.settings, threads=1))
        run = await first.start(busy)
        await settle()
        second = await world.start(busy) if taken_over else None
        pause(first)
        await let_pass(world, LEASE + 2)
        gate.set()
        await first.kernel.hands._threads.run(lambda: None)  # by then the thread has come to the second tool
        assert box.calls == []
        if second is not None:
            await world.becomes(run, "waiting")
            assert (await reason_of(world, run)).startswith("nobody knows whether step 1 (hold) happened")
        wake(first)
        await let_pass(world, 1)
        assert taken_over or await run.result() == "done"
        assert box.calls == ([] if taken_over else ["paid"])

    play(world, scenario)


# Stores that cannot be reached.


class FarStore:
    """A store that cannot be reached while `away`."""

    def __init__(self, store):
        self._store = store
        self.away = False

    def __getattr__(self, name):
        method = getattr(self._store, name)

        async def call(*args, **options):
            if self.away:
                raise StoreBusy("the store cannot be reached")
            return await method(*args, **options)

        return call if asyncio.iscoroutinefunction(method) and name not in ("close", "wait_change") else method


def far_world(world):
    """Let every store of the world be one that can go away; gives them."""
    stores = []

    def wrap(store):
        stores.append(FarStore(store))
        return stores[-1]

    world.wrap = wrap
    return stores


def test_a_short_outage_delays_and_changes_nothing(world):
    """Steps under way go on and are recorded when the store is back; messages and timers come late."""
    stores = far_world(world)
    box = Box()
    working = pausing(world, box, "once")

    @agent
    async def napping(ctx: Context) -> str:
        await asyncio.sleep(2)
        return "awake"

    async def scenario():
        rt = await world.start(working, napping, settings=Settings(idle_most=0))
        run, nap = await rt.start(working, "a"), await rt.start(napping)
        await settle()
        stores[0].away = True
        with pytest.raises(StoreBusy):
            await rt.find(run.id)
        box.open("a")
        await let_pass(world, 3)
        assert rt.kernel.failure is None
        assert rt.kernel.leases.complete
        stores[0].away = False
        await let_pass(world, 2)
        await run.send("more", 1)
        async with asyncio.timeout(10):
            assert (await run.result(), await nap.result()) == (["a", 1], "awake")
        assert box.calls == ["a"]
        assert (await world.status(run)).attempt == 1

    play(world, scenario)


def test_a_change_that_the_store_could_not_tell_of_is_found(world):
    """The news of a message were lost with a connection: it is read all the same, a moment later."""
    stores = far_world(world)

    async def scenario():
        rt = await world.start(resting)
        client = await world.start()
        run = await client.start(resting)
        await happens(world, partial(reason_of, world, run))
        told, news = stores[0]._store.wait_change, asyncio.Event()

        async def lose_one():
            await told()
            stores[0].wait_change = told
            news.set()
            raise StoreBusy("the connection broke")

        stores[0].wait_change = lose_one
        await client.send(run.id, "other", 0)  # ends the waiting that is under way
        await happens(world, partial(received, world, run))
        await client.send(run.id, "m", 1)
        async with asyncio.timeout(10):
            await news.wait()
            await let_pass(world, 0.5)
            assert await run.result() == 1
        assert rt.kernel.failure is None

    play(world, scenario)


@pytest.mark.parametrize("effect", ["read", "once"])
def test_a_node_that_cannot_reach_the_store_stops_its_steps_in_time(world, effect):
    """Before its lease is over; nothing is recorded as failed, and with the store it claims and recovers again."""
    stores = far_world(world)
    box = Box()
    working = pausing(world, box, effect)

    async def scenario():
        rt = await world.start(working)
        run = await rt.start(working, "a")
        await settle()
        stores[0].away = True
        await let_pass(world, LEASE - 2)
        assert len(rt.kernel.live.all()) == 1
        await let_pass(world, 1.6)
        assert rt.kernel.live.all() == []
        assert rt.kernel.leases.shards == []
        box.open("a")
        await let_pass(world, 60)
        assert rt.kernel.failure is None
        assert box.calls == ["a"]
        stores[0].away = False
        await let_pass(world, 2)
        assert rt.kernel.leases.complete
        if effect == "once":
            assert (await world.becomes(run, "waiting")).wait["kind"] == "unknown"
            await rt.resolve(run.id, 1, "happened", result="a")
        await run.send("more", 1)
        async with asyncio.timeout(10):
            assert await run.result() == ["a", 1]
        assert "step.failed" not in await world.types(run)
        assert box.calls == ["a"] * (2 if effect == "read" else 1)

    play(world, scenario)


def test_a_run_whose_mail_is_being_read_while_its_shard_is_lost_and_won_back_is_loaded_afresh(world):
    """It was forgotten half-way, and who offered it when the shard was ours again found it on its way."""
    stores = far_world(world)

    box = Box()

    @tool(effect="read")
    async def act() -> None:
        await box.wait()

    @agent
    async def acting(ctx: Context) -> str:
        await act()
        return "done"

    async def scenario():
        first = await world.start(acting)
        answered, mail, reads = asyncio.Event(), stores[0]._store.run_signals, []

        async def slow_mail(*args):
            found = await mail(*args)
            reads.append(args)
            if len(reads) == 2:  # once more, now that it has begun
                await answered.wait()
            return found

        stores[0].run_signals = slow_mail
        run = await first.start(acting, session="s")
        await settle()
        assert len(reads) == 2
        first.kernel.ownership.drop(first.kernel.leases.all)
        await let_pass(world, LEASE + 1)
        assert first.kernel.leases.complete
        answered.set()
        box.open()
        async with asyncio.timeout(10):
            assert await run.result() == "done"

    play(world, scenario)


def test_a_run_that_is_being_loaded_while_its_shard_is_lost_and_won_back_is_loaded_afresh(world):
    """What was read before the shard was ours again is not believed: others have written since."""
    stores = far_world(world)

    @agent
    async def listening(ctx: Context) -> list[object]:
        return [await ctx.receive("m"), await ctx.receive("m")]

    async def scenario():
        first = await world.start(listening, settings=Settings(idle_most=0))
        run = await first.start(listening)
        await first.idle()
        answered, events = asyncio.Event(), stores[0]._store.events

        async def slow_events(*args):
            found = await events(*args)
            await answered.wait()
            return found

        stores[0].events = slow_events
        await first.send(run.id, "m", 1)
        await settle()
        pause(first)
        first.kernel.ownership.drop(first.kernel.leases.all)
        second = await world.start(listening)
        await let_pass(world, LEASE + 1)
        assert (await world.types(run)).count("message.received") == 1
        await world.stop(second)
        wake(first)
        await let_pass(world, 1)
        assert first.kernel.leases.complete
        del stores[0].events
        answered.set()
        await first.send(run.id, "m", 2)
        async with asyncio.timeout(10):
            assert await run.result() == [1, 2]

    play(world, scenario)
