"""Who moves when: limits, priorities, long queues, timers, eviction, and what stays in memory."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from perdure import Context, Settings, agent, tool
from perdure.errors import InvalidInput, SessionBusy
from perdure.store.contract import RunFilter
from tests.scenario.worlds import Box, play, settle


class Meter:
    """How many are inside at once, at most."""

    def __init__(self):
        self.now = self.most = 0

    def __enter__(self):
        self.now += 1
        self.most = max(self.most, self.now)

    def __exit__(self, *_):
        self.now -= 1


def measured(meter):
    """A tool that is inside the meter for some turns."""

    @tool(effect="read")
    async def work() -> None:
        with meter:
            for _ in range(5):
                await asyncio.sleep(0)

    return work


def test_no_more_runs_of_an_agent_move_than_allowed(world):
    """In total and per key; all of them end, also across a restart."""
    meter, by_key = Meter(), {key: Meter() for key in "xyz"}
    tools = {key: measured(by_key[key]) for key in by_key}
    total = measured(meter)

    @agent(concurrency=3, concurrency_per_key=1)
    async def limited(ctx: Context, key: str) -> None:
        for _ in range(3):
            await total()
            await tools[key]()

    async def scenario():
        await world.start(limited)
        runs = [await world.rt.start(limited, key, concurrency_key=key) for key in "xyzxyzxxxyyy"]
        await world.restart(limited)
        for run in runs:
            await (await world.rt.run(run.id)).result()
        assert meter.most <= 3
        assert max(one.most for one in by_key.values()) == 1
        await world.rt.idle()
        assert world.rt.kernel.dispatcher.moving == 0

    play(world, scenario)


def test_a_waiting_run_gives_its_place_up(world):
    """With one place, runs that sleep or wait for messages do not block the one that can work."""

    @agent(concurrency=1)
    async def napping(ctx: Context, n: int) -> int:
        await asyncio.sleep(10)
        return n

    async def scenario():
        await world.start(napping)
        runs = [await world.rt.start(napping, n) for n in range(5)]
        await settle()
        assert [(await world.status(run)).status for run in runs] == ["waiting"] * 5
        await world.clock.advance(10.1)
        assert [await run.result() for run in runs] == [0, 1, 2, 3, 4]

    play(world, scenario)


def test_higher_priority_goes_first(world):
    """Among those that wait for a place."""
    box = Box()

    @tool(effect="read")
    async def act(n: int) -> None:
        box.note(n)
        await box.wait()

    @agent(concurrency=1)
    async def one(ctx: Context, n: int) -> None:
        await act(n)

    async def scenario():
        await world.start(one)
        for n, priority in enumerate([0, 0, 5, -1, 9]):
            await world.rt.start(one, n, priority=priority)
            await settle()  # the first has the place before there are others
        box.open()
        await world.rt.idle()
        assert box.calls == [0, 4, 2, 1, 3]

    play(world, scenario)


def test_a_long_queue_left_by_clients_is_worked_off(world):
    """More runs than are offered at once; every one of them runs, and that of another agent is not held up."""

    @agent(concurrency=2)
    async def many(ctx: Context, n: int) -> int:
        return n

    @agent
    async def other(ctx: Context) -> str:
        return "other"

    async def scenario():
        await world.start()
        runs = [await world.rt.start(many, n) for n in range(1_300)]
        last = await world.rt.start(other)
        await world.stop()
        await world.start(many, other)
        assert await (await world.rt.run(last.id)).result() == "other"
        await world.rt.idle()
        assert (await world.status(runs[-1])).status == "succeeded"
        assert await world.rt.store.queues("many", 10) == []

    play(world, scenario)


@pytest.mark.parametrize("concurrency", [None, 2])
def test_a_long_queue_of_runs_that_all_wait_is_begun_to_its_end(world, concurrency):
    """Whoever waits for a person makes room for those that are not read from the store yet, without ending."""

    @agent(concurrency=concurrency)
    async def asking(ctx: Context) -> None:
        await ctx.ask("ok?")

    async def scenario():
        await world.start()
        for _ in range(600):
            await world.rt.start(asking)
        await world.stop()
        await world.start(asking)
        await world.rt.idle()
        assert len(await world.rt.inbox()) == 600

    play(world, scenario)


def versioned(version):
    """One version of an agent that sleeps for so long."""

    @agent(name="versioned", version=version)
    async def sleeping(ctx: Context, seconds: float) -> str:
        await asyncio.sleep(seconds)
        return version

    return sleeping


def test_queued_runs_of_a_missing_version_hide_no_others_and_say_why_they_wait(world):
    """However many they are; with their version they run."""
    old, new = versioned("1"), versioned("2")

    async def scenario():
        client = await world.start()
        left = [await client.start(old, 0) for _ in range(501)]
        waiting = await client.start(new, 0)
        await world.start(new)
        await world.rt.idle()
        assert (await world.status(waiting)).status == "succeeded"
        rows = [await world.status(run) for run in left]
        assert {(row.status, (row.wait or {}).get("kind")) for row in rows} == {("queued", "worker")}
        late = await client.start(new, 0)
        async with asyncio.timeout(5):
            assert await late.result() == "2"
        await world.stop()
        await world.start(old, new)
        await world.rt.idle()
        assert {(await world.status(run)).status for run in left} == {"succeeded"}

    play(world, scenario)


def test_due_runs_of_a_missing_version_delay_no_timer_and_are_not_polled(world):
    """However many they are."""
    old, new = versioned("1"), versioned("2")

    async def scenario():
        world.settings = Settings(idle_most=0)
        await world.start(old, new)
        for _ in range(501):
            await world.rt.start(old, 1)
        run = await world.rt.start(new, 5)
        await world.rt.idle()
        await world.stop()
        await world.clock.advance(2)
        await world.start(new)
        await world.rt.idle()
        assert world.rt.kernel.alarms._store_due == (await world.status(run)).wake_at
        await world.clock.advance(4)
        assert await (await world.rt.run(run.id)).result() == "2"

    play(world, scenario)


def test_a_run_is_as_urgent_as_was_said_else_as_its_agent(world):
    """Also when that was zero. A child takes over what its parent was given, else it goes by its own agent."""

    @agent(priority=5)
    async def urgent(ctx: Context) -> None: ...

    @agent(priority=2)
    async def parent(ctx: Context) -> None:
        await ctx.spawn(urgent)

    async def scenario():
        await world.start(urgent, parent)
        given = {None: 5, 0: 0, -1: -1, 7: 7}
        runs = {priority: await world.rt.start(urgent, priority=priority) for priority in given}
        assert {priority: (await world.status(run)).priority for priority, run in runs.items()} == given
        for priority, childs in ((None, 2), (0, 5), (7, 7)):
            run = await world.rt.start(parent, priority=priority)
            await run.result()
            [child] = await world.rt.runs(RunFilter(parent=run.id))
            assert child.priority == childs

    play(world, scenario)


def test_a_start_that_is_repeated_with_its_key_is_not_refused_for_its_own_run(world):
    """Policy reject, all at once: each of them has the one run; another key hears that the session is busy."""

    @agent
    async def waiting(ctx: Context) -> None:
        await ctx.receive("never")

    async def scenario():
        await world.start(waiting)
        start = partial(world.rt.start, waiting, session="s", busy="reject")
        runs = await asyncio.gather(*(start(idempotency_key="k") for _ in range(3)))
        assert len({run.id for run in runs}) == 1
        with pytest.raises(SessionBusy):
            await start(idempotency_key="other")

    play(world, scenario)


def test_steering_cannot_be_made_safe_by_a_key_and_says_so(world):
    """Nothing is sent. Where the session is free the key is good, also for the repetition."""

    @agent
    async def steered(ctx: Context) -> list[object]:
        return [await ctx.receive("steer"), await ctx.receive("more")]

    async def scenario():
        await world.start(steered)
        run = await world.rt.start(steered, session="s", busy="steer", idempotency_key="k")
        again = await world.rt.start(steered, session="s", busy="steer", idempotency_key="k")
        assert again.id == run.id
        with pytest.raises(InvalidInput, match="without a key"):
            await world.rt.start(steered, session="s", busy="steer", idempotency_key="other")
        await world.rt.idle()
        assert "message.received" not in await world.types(run)

    play(world, scenario)


@pytest.mark.parametrize("busy", ["steer", "interrupt"])
def test_a_run_that_is_about_to_begin_is_steered_and_interrupted_too(world, busy):
    """Its session is as busy as if it had begun."""

    @agent
    async def talking(ctx: Context, n: int) -> object:
        return await ctx.receive("steer")

    async def scenario():
        await world.start(talking)
        first = await world.rt.start(talking, 1, session="s")
        second = await world.rt.start(talking, 2, session="s", busy=busy)
        await world.rt.idle()
        if busy == "steer":
            assert second.id == first.id
            assert await first.result() == {"n": 2}
        else:
            assert (await world.status(first)).status == "cancelled"
            assert (await world.status(second)).status == "waiting"

    play(world, scenario)


class JustBefore:
    """A store whose next word on a session's active run, when `early`, was given before that run began."""

    def __init__(self):
        self.early = False

    def around(self, store):
        self._store = store
        return self

    def __getattr__(self, name):
        return getattr(self._store, name)

    async def session_active(self, agent, session):
        early, self.early = self.early, False
        return None if early else await self._store.session_active(agent, session)


def test_a_run_that_begins_while_its_session_is_looked_at_is_steered(world):
    """Between the questions for the active run and for the next one it is neither."""

    @agent
    async def talking(ctx: Context, n: int) -> object:
        return await ctx.receive("steer")

    store = JustBefore()

    async def scenario():
        world.wrap = store.around
        await world.start(talking)
        first = await world.rt.start(talking, 1, session="s")
        await world.becomes(first, "waiting")
        store.early = True
        second = await world.rt.start(talking, 2, session="s", busy="steer")
        assert second.id == first.id
        assert await first.result() == {"n": 2}

    play(world, scenario)


def test_a_run_of_a_missing_version_can_be_cancelled(world):
    """Queued, it ends at once. Begun, it says that it waits for the code that may have to undo what it did."""
    old, new = versioned("1"), versioned("2")

    @agent(name="versioned", version="0")
    async def oldest(ctx: Context, seconds: float) -> str:
        return await ctx.ask("ok?")

    async def scenario():
        await world.start(oldest)
        begun = await world.rt.start(oldest, 0, session="s")
        await world.rt.idle()
        await world.stop()
        client = await world.start()
        queued = await client.start(old, 0, session="s")
        last = await client.start(new, 0, session="s")
        await world.start(new)
        assert (await world.status(last)).status == "queued"
        for run in (queued, begun):
            await world.rt.pause(run.id)
            await world.rt.cancel(run.id)
            await world.rt.idle()
        assert (await world.status(queued)).status == "cancelled"
        assert "it is to be cancelled, and may have to undo what it did" in ((await world.status(begun)).reason or "")
        await world.stop()
        await world.start(oldest, new)
        await world.becomes(begun, "cancelled")
        assert await world.rt.inbox() == []
        assert await (await world.rt.run(last.id)).result() == "2"
        assert [signal for run in (queued, begun) for signal in await world.rt.store.run_signals(run.id)] == []

    play(world, scenario)


def test_timers_fire_on_time_after_restarts_and_backward_jumps_of_the_clock(world):
    """Never early, never forgotten."""

    @agent
    async def sleeping(ctx: Context) -> list[float]:
        start = ctx.now()
        times = []
        for seconds in (5, 5, 0.01):
            await asyncio.sleep(seconds)
            times.append((ctx.now() - start).total_seconds())
        return times

    async def scenario():
        await world.start(sleeping)
        run = await world.rt.start(sleeping)
        await world.clock.advance(4.99)
        assert "timer.fired" not in await world.types(run)
        await world.restart(sleeping)
        await world.clock.advance(0.009)
        assert "timer.fired" not in await world.types(run)
        await world.clock.advance(0.001)
        assert (await world.types(run)).count("timer.fired") == 1
        world.clock._now_us -= 3_000_000
        await world.clock.advance(7.99)
        assert (await world.types(run)).count("timer.fired") == 1
        await world.clock.advance(0.1)
        times = await (await world.rt.run(run.id)).result()
        assert times == pytest.approx([5, 10, 10.01], abs=0.07)

    play(world, scenario)


def test_idle_means_that_nothing_moves(world):
    """It returns neither while a step, a clean-up or a queued run moves, nor hangs when all wait."""
    box = Box()

    @tool(effect="read")
    async def act(name: str) -> None:
        await box.wait(name)
        box.note(name)

    @agent(concurrency=1)
    async def busy(ctx: Context, name: str) -> None:
        try:
            await act(name)
            await ctx.receive("never")
        finally:
            await act(f"clean {name}")

    async def scenario():
        await world.start(busy)
        await world.rt.idle()
        runs = [await world.rt.start(busy, name) for name in "ab"]
        idle = asyncio.create_task(world.rt.idle())
        await settle()
        assert not idle.done()
        box.open("a")
        await settle()
        assert not idle.done()
        box.open("b")
        await idle
        await world.rt.cancel(runs[0].id)
        idle = asyncio.create_task(world.rt.idle())
        await settle()
        assert not idle.done()
        box.open("clean a")
        await idle
        assert box.calls == ["a", "b", "clean a"]
        await world.becomes(runs[0], "cancelled")

    play(world, scenario)


def test_parked_runs_leave_nothing_in_memory(world):
    """After thousands of runs came, waited, went and ended, the kernel holds nothing of them."""

    @agent
    async def parking(ctx: Context, n: int) -> int:
        await ctx.spawn(ending, n)
        return await ctx.receive("go", timeout=1_000 + n)

    @agent
    async def ending(ctx: Context, n: int) -> int:
        await asyncio.sleep(n % 3)
        return n

    async def scenario():
        world.settings = Settings(idle_most=5)
        await world.start(parking, ending)
        runs = [await world.rt.start(parking, n, session=f"s{n}" if n % 2 else None) for n in range(300)]
        await world.clock.advance(3)
        for run in runs[:100]:
            await run.send("go", 1)
        await world.rt.idle()
        gc.collect()
        kernel = world.rt.kernel
        live = kernel.live
        parts = [kernel, kernel.alarms, kernel.ownership, kernel.dispatcher, kernel.followers, kernel.commits]
        parts += [live, live._due]
        held = {
            name: len(value)
            for owner in parts
            for name, value in vars(owner).items()
            if hasattr(value, "__len__") and not isinstance(value, str)
        }
        assert len(live._live) <= 5
        assert {name: size for name, size in held.items() if size > 40 and name != "_heap"} == {}
        assert len(live._due._heap) <= 1_000 + 2 * 5
        assert [await run.result() for run in runs[:100]] == [1] * 100

    play(world, scenario)


@pytest.mark.parametrize("kind", ["steps", "sleeps", "children", "messages"])
def test_large_runs_cost_time_in_proportion(world, kind, request):
    """Thousands at once in one run; a quadratic scan would take minutes."""

    @tool(effect="read")
    async def act(n: int) -> int:
        return n

    @agent
    async def ending(ctx: Context, n: int) -> int:
        return n

    @agent
    async def large(ctx: Context, count: int) -> int:
        async def nap(n: int) -> int:
            await asyncio.sleep(1 + n / count)
            return n

        async def child(n: int) -> int:
            return await ctx.spawn(ending, n)

        async def message(n: int) -> object:
            return await ctx.receive("m")

        pieces: dict[str, Callable[[int], Awaitable[Any]]]
        pieces = {"steps": act, "sleeps": nap, "children": child, "messages": message}
        return sum(await asyncio.gather(*(pieces[kind](n) for n in range(count))))

    async def scenario():
        # Evicted at once, each is a wake-up of its own: a replay; far away, one of several calls.
        sleeps = 2_000 if world.settings.idle_most and not world.far else 200
        count = {"steps": 10_000, "sleeps": sleeps, "children": 1_000, "messages": 1_000}[kind]
        await world.start(large, ending)
        run = await world.rt.start(large, count)
        await settle()
        if kind == "sleeps":
            await world.clock.advance(3)
        if kind == "messages":
            await asyncio.gather(*(run.send("m", n) for n in range(count)))
        assert await run.result() == count * (count - 1) // 2

    play(world, scenario)
