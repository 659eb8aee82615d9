"""Limits that hold over all nodes: so many runs at once, so many in a time, and whose turn it is."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from perdure import Context, Settings, agent, tool
from perdure.errors import InvalidSetting, StoreBusy
from perdure.testing.clock import settle
from perdure.views.why import Explainer
from tests.scenario.worlds import Box, play


class Meter:
    """How many are inside, by name: now, and at most."""

    def __init__(self):
        self.now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.ended: list[str] = []

    def enter(self, *names):
        for name in names:
            self.now[name] += 1
            self.most[name] = max(self.most[name], self.now[name])

    def leave(self, *names):
        self.now.subtract(names)
        self.ended.append(names[-1])


def metered(meter):
    """A tool that is inside the meter for some turns of the loop."""

    @tool(effect="read")
    async def work(key: str) -> None:
        meter.enter("all", key)
        try:
            for _ in range(5):
                await asyncio.sleep(0)
        finally:
            meter.leave("all", key)

    return work


def gated(box):
    """A tool that is noted and waits until the test opens the box."""

    @tool(effect="read")
    async def act() -> None:
        box.note("in")
        await box.wait()

    return act


class CutOff:
    """A store that cannot be reached while `off`."""

    def __init__(self):
        self.off = False

    def around(self, store):
        self._store = store
        return self

    def __getattr__(self, name):
        method = getattr(self._store, name)

        async def call(*args, **options):
            if self.off and name not in {"close", "wait_change"}:
                raise StoreBusy("cut off")
            return await method(*args, **options)

        return call if asyncio.iscoroutinefunction(method) else method


async def nodes(world, count, *agents):
    """So many runtimes, each with its part of the shards."""
    runtimes = [await world.start(*agents) for _ in range(count)]
    await passing(world, 15)
    assert all(rt.kernel.leases.shards for rt in runtimes)
    return runtimes


async def passing(world, seconds, *, step=0.5):
    """Time passes in steps that no lease runs out in."""
    for _ in range(round(seconds / step)):
        await world.clock.advance(step)


async def ended(world, runs, *, seconds=60):
    """Let time pass until all of `runs` succeeded."""
    left = list(runs)
    for _ in range(round(2 * seconds)):
        await world.clock.advance(0.5)
        left = [run for run in left if (await world.status(run)).status != "succeeded"]
        if not left:
            return
    rows = [await world.status(run) for run in left]
    raise AssertionError(Counter((row.status, row.reason) for row in rows))


def test_no_more_runs_move_on_all_nodes_together_than_allowed(world):
    """In total and for each key. Every node has its part in the work, and all runs end."""
    meter = Meter()
    work = metered(meter)

    @agent(concurrency=4, concurrency_per_key=1)
    async def limited(ctx: Context, key: str) -> None:
        for _ in range(3):
            await work(key)

    async def scenario():
        runtimes = await nodes(world, 3, limited)
        runs = []
        for n in range(60):
            key = "abcdefg"[n % 7]
            runs.append(await runtimes[n % 3].start(limited, key, concurrency_key=key))
        await ended(world, runs)
        assert meter.most.pop("all") == 4
        assert set(meter.most.values()) == {1}
        assert all(rt.kernel.runs_begun for rt in runtimes)

    play(world, scenario)


def test_one_place_goes_round_among_the_nodes(world):
    """Each has it for a while, although the others always have somebody who waits for it."""
    meter = Meter()
    work = metered(meter)

    @agent(concurrency=1)
    async def single(ctx: Context) -> None:
        await work("run")
        await asyncio.sleep(0.3)

    async def scenario():
        runtimes = await nodes(world, 2, single)
        for _ in range(100):
            await runtimes[0].start(single)
        began = [rt.kernel.runs_begun for rt in runtimes]
        await passing(world, 12, step=0.25)
        assert meter.most["all"] == 1
        now = [rt.kernel.runs_begun for rt in runtimes]
        assert all(later > earlier for later, earlier in zip(now, began, strict=True)), (began, now)

    play(world, scenario)


def test_what_a_dead_node_held_counts_until_its_lease_has_run_out(world):
    """Its runs may still act on the world until then. Afterwards others have its places, and recover its runs."""
    box = Box()
    act = gated(box)

    @agent(concurrency=2)
    async def limited(ctx: Context) -> None:
        await act()

    async def scenario():
        first = await world.start(limited)
        runs = [await first.start(limited) for _ in range(2)]
        await box.reached(2)
        second = await world.start(limited)
        await passing(world, 15)
        runs += [await second.start(limited) for _ in range(10)]
        await passing(world, 2)
        first.kernel.kill()
        await passing(world, 3)
        assert box.calls == ["in"] * 2
        box.calls.clear()
        await passing(world, 7)
        assert box.calls == ["in"] * 2
        assert second.kernel.dispatcher.moving == 2
        box.open()
        await world.crash(first)
        await ended(world, runs)

    play(world, scenario)


def test_a_node_that_cannot_reach_the_store_uses_its_share_no_longer_than_its_lease(world):
    """Cut off, it stops its runs before others may have their places; reachable again, it gets its part."""
    box, cut = Box(), CutOff()
    act = gated(box)

    @agent(concurrency=2)
    async def limited(ctx: Context) -> None:
        await act()

    async def scenario():
        world.wrap = cut.around
        first = await world.start(limited)
        world.wrap = lambda store: store
        runs = [await first.start(limited) for _ in range(2)]
        await box.reached(2)
        second = await world.start(limited)
        await passing(world, 15)
        runs += [await second.start(limited) for _ in range(10)]
        cut.off = True
        for _ in range(60):
            await world.clock.advance(0.25)
            assert first.kernel.dispatcher.moving + second.kernel.dispatcher.moving <= 2
        assert (first.kernel.dispatcher.moving, second.kernel.dispatcher.moving) == (0, 2)
        cut.off = False
        box.open()
        await ended(world, runs)

    play(world, scenario)


@pytest.mark.parametrize("count", [1, 2])
def test_no_more_runs_begin_on_all_nodes_together_than_the_rate_allows(world, count):
    """What may not begin yet waits, and begins as soon as it may. Nothing is left over, and `idle` does not wait for it."""
    begun: list[float] = []

    @tool(effect="read")
    async def begin() -> None:
        begun.append(world.clock.monotonic())

    @agent(rate="6/minute")
    async def rated(ctx: Context) -> None:
        await begin()

    async def scenario():
        runtimes = await nodes(world, count, rated)
        runs = [await runtimes[n % count].start(rated) for n in range(12)]
        start = world.clock.monotonic()
        async with asyncio.timeout(10):
            while len(begun) < 6:  # a node hears of what another one queued in real time
                await settle()
        for rt in runtimes:
            await rt.idle()
        assert len(begun) == 6
        await ended(world, runs, seconds=61)
        for n, moment in enumerate(begun[6:], 1):
            assert 10 * n <= moment - start <= 10 * n + 0.6

    play(world, scenario)


def test_a_rate_for_each_key_holds_up_only_that_key_and_nobody_who_has_begun(world):
    """A run that goes on after a wait has begun before."""

    @agent(rate_per_key="1/hour", rate="100/hour")
    async def napping(ctx: Context) -> None:
        await asyncio.sleep(2)

    async def scenario():
        await world.start(napping)
        runs = [await world.rt.start(napping, concurrency_key=key) for key in "aab"]
        await passing(world, 3)
        assert [(await world.status(run)).status for run in runs] == ["succeeded", "queued", "succeeded"]
        await world.clock.advance(3_600)
        await passing(world, 3)
        assert (await world.status(runs[1])).status == "succeeded"

    play(world, scenario)


def test_places_come_before_tokens(world):
    """No token is spent on a run for which there is no place."""
    box = Box()
    act = gated(box)

    @agent(concurrency=1, rate="3/hour")
    async def both(ctx: Context) -> None:
        await act()

    async def scenario():
        await world.start(both)
        runs = [await world.rt.start(both) for _ in range(3)]
        await passing(world, 5)
        assert len(box.calls) == 1
        box.open()
        await world.rt.idle()
        assert [(await world.status(run)).status for run in runs] == ["succeeded"] * 3

    play(world, scenario)


def test_tenants_take_turns_by_weight(world):
    """Three to one, although the queue of the one is much longer and was there first."""
    order: list[str] = []

    @tool(effect="read")
    async def note(tenant: str) -> None:
        order.append(tenant)

    @agent(concurrency=1)
    async def noting(ctx: Context, tenant: str) -> None:
        await note(tenant)

    async def scenario():
        await world.start()
        for tenant, count in (("long", 100), ("heavy", 30)):
            for _ in range(count):
                await world.rt.start(noting, tenant, concurrency_key=tenant)
        await world.start(noting, settings=Settings(weights={"heavy": 3.0}))
        await world.rt.idle()
        assert Counter(order[:40])["heavy"] == pytest.approx(30, abs=1)
        assert len(order) == 130

    play(world, scenario)


def test_why_a_run_waits_for_a_limit_can_be_read(world):
    """By anybody, without the agent's code."""
    box = Box()
    act = gated(box)

    @agent(concurrency=1, rate_per_key="1/hour")
    async def limited(ctx: Context) -> None:
        await act()

    async def scenario():
        await world.start(limited)
        await world.rt.start(limited)
        runs = [await world.rt.start(limited, concurrency_key="acme") for _ in range(2)]
        await passing(world, 3)
        explainer = await Explainer.look(world.rt)
        why = await explainer.why(await world.status(runs[0]), world.clock.now_us())
        assert why == ("concurrency limit 1 of limited is used up", {"kind": "limit", "name": "limited"})
        box.open()
        await passing(world, 3)
        explainer = await Explainer.look(world.rt)
        why = await explainer.why(await world.status(runs[1]), world.clock.now_us())
        assert why.reason == "rate limit 1/hour of limited/acme is used up"

    play(world, scenario)


def test_a_rate_that_makes_no_sense_is_refused_where_the_agent_is_made():
    """The error names the option."""

    async def wrong(ctx: Context) -> None: ...

    with pytest.raises(InvalidSetting, match="rate is written as"):
        agent(rate="often")(wrong)
    with pytest.raises(InvalidSetting, match="rate_per_key must be from 1"):
        agent(rate_per_key="0/s")(wrong)
