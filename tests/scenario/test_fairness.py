"""Whose turn it is, however long queues are and however many there are: all of them left by a client."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from perdure import Context, Settings, agent, tool
from perdure.store.contract import Transaction
from perdure.values.ids import new_run_id
from tests.scenario.worlds import World, play, settle

#: more runs of a tenant than are read of all queues together
LONG = 1_100


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def world(request, tmp_path):
    """A fresh world on one kind of store."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else ""
    return World(request.param, tmp_path, Settings(), url=url)


class Starts:
    """Whose runs began, in order. From the `held`th on, and those of tenants that are `held_up`, they stay where they are."""

    def __init__(self, held, *, held_up=()):
        self.tenants: list[str] = []
        self._held = held
        self._held_up = held_up
        self._news = asyncio.Event()
        self._opened = asyncio.Event()

    def tool(self):
        """What each run does."""

        @tool(effect="read")
        async def begin(tenant: str) -> None:
            self.tenants.append(tenant)
            self._news.set()
            if len(self.tenants) >= self._held or tenant in self._held_up:
                await self._opened.wait()

        return begin

    async def begun(self, count):
        """Return when so many have begun."""
        while len(self.tenants) < count:
            self._news.clear()
            await self._news.wait()

    def go_on(self, held):
        """Let all go on, up to the `held`th."""
        self._held, self._held_up = held, ()
        self._opened.set()
        self._opened = asyncio.Event()


async def leave(client, agent, tenants, *, priority=0):
    """Queue a run for each of `tenants`, in this order, in one commit."""
    kernel = client.kernel
    new = [
        kernel.new_run(
            agent, f'{{"tenant":"{tenant}"}}', id=new_run_id(kernel.clock.now_us()), session=None, priority=priority,
            concurrency_key=tenant,
        )
        for tenant in tenants
    ]  # fmt: skip
    assert set(await client.store.commit([Transaction(create=new)])) == {None}


def listen(ownership):
    """An event that says that the queues were read once more."""
    heard, read = asyncio.Event(), ownership.queues.read

    async def telling(agent):
        await read(agent)
        heard.set()

    ownership.queues.read = telling
    return heard


def test_who_queues_one_run_behind_thousands_is_next(world):
    """Within the next few starts; also when all of it was there before the node, and when it is told by another process."""
    starts = Starts(held=20)
    begin = starts.tool()

    @agent(concurrency=1)
    async def working(ctx: Context, tenant: str) -> None:
        await begin(tenant)

    async def scenario():
        client = await world.start()
        await leave(client, working, ["long"] * 5_000)
        await leave(client, working, ["early"])
        await world.start(working)
        await starts.begun(20)
        assert "early" in starts.tenants[:4]
        heard = listen(world.rt.kernel.ownership)
        await leave(client, working, ["late"])
        await heard.wait()
        await settle()
        starts.go_on(30)
        await starts.begun(30)
        assert "late" in starts.tenants[20:24]
        await world.crash()

    play(world, scenario)


def test_shares_go_by_weight_where_all_queues_are_longer_than_what_is_read(world):
    """Three to one, in every stretch of a hundred starts."""
    starts = Starts(held=400)
    begin = starts.tool()

    @agent(concurrency=1)
    async def working(ctx: Context, tenant: str) -> None:
        await begin(tenant)

    async def scenario():
        client = await world.start()
        await leave(client, working, ["light"] * LONG)
        await leave(client, working, ["heavy"] * LONG)
        await world.start(working, settings=Settings(weights={"heavy": 3.0}))
        await starts.begun(400)
        for first in range(0, 400, 100):
            assert Counter(starts.tenants[first : first + 100])["heavy"] == pytest.approx(75, abs=3)
        await world.crash()

    play(world, scenario)


def test_tenants_that_may_not_begin_block_no_others(world):
    """Because their limit is used up: however many they are, and however urgent."""
    starts = Starts(held=LONG, held_up={"full"})
    begin = starts.tool()

    @agent(concurrency_per_key=1)
    async def working(ctx: Context, tenant: str) -> None:
        await begin(tenant)

    async def scenario():
        client = await world.start()
        await leave(client, working, ["full"] * LONG, priority=5)
        await leave(client, working, ["free"] * 600)
        await world.start(working)
        await starts.begun(601)
        await settle()
        assert Counter(starts.tenants) == {"free": 600, "full": 1}
        await world.crash()

    play(world, scenario)


def test_more_tenants_than_are_read_at_a_time_all_have_their_turns(world):
    """Even where those that were read first all wait for limits of their own."""
    first, others = [f"a{n:03}" for n in range(600)], [f"b{n:03}" for n in range(600)]
    starts = Starts(held=10**6, held_up=first)
    begin = starts.tool()

    @agent(concurrency_per_key=1)
    async def working(ctx: Context, tenant: str) -> None:
        await begin(tenant)

    async def scenario():
        client = await world.start()
        await leave(client, working, first * 2)
        await world.start(working)
        await starts.begun(600)
        assert sorted(starts.tenants) == first
        await leave(client, working, others)
        await starts.begun(1_200)
        assert sorted(starts.tenants[600:]) == others
        starts.go_on(10**6)
        await starts.begun(1_800)
        await world.rt.idle()

    play(world, scenario)
