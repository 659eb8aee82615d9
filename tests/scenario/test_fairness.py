"""Whose turn it is, however long queues are and however many there are: all of them left by a client."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from perdure import Context, Settings, agent, tool
from perdure.agents.agent import PRIORITY_MOST
from perdure.errors import InvalidInput, InvalidSetting
from perdure.kernel import ownership, queues
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


@pytest.fixture
def small_pages(monkeypatch):
    """Pages have room for ten queues."""
    monkeypatch.setattr(queues, "_PAGE", 10)
    monkeypatch.setattr(queues, "_ENOUGH", 5)
    monkeypatch.setattr(ownership, "_PAGE", 10)


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
    """Queue a run for each of `tenants`, in this order, in one commit; returns their ids."""
    kernel = client.kernel
    new = [
        kernel.new_run(
            agent, f'{{"tenant":"{tenant}"}}', id=new_run_id(kernel.clock.now_us()), session=None, priority=priority,
            concurrency_key=tenant,
        )
        for tenant in tenants
    ]  # fmt: skip
    assert set(await client.store.commit([Transaction(create=new)])) == {None}
    return [created.run.id for created in new]


def listen(ownership):
    """An event that says that the queues were read once more."""
    heard, read = asyncio.Event(), ownership.queues.read

    async def telling(agent):
        await read(agent)
        heard.set()

    ownership.queues.read = telling
    return heard


async def no_news(shards):
    """In place of reading what is queued at every change."""


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


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("urgent", [0, 5])
def test_news_of_the_first_tenants_do_not_keep_the_last_from_their_turns(world, urgent):
    """However often they come, on a node that is full; also where less urgent runs were read before."""
    tenants = [f"t{number:02}" for number in range(40)]
    starts = Starts(held=1)
    begin = starts.tool()

    @agent(concurrency=1)
    async def working(ctx: Context, tenant: str) -> None:
        await begin(tenant)

    async def scenario():
        client = await world.start()
        await leave(client, working, [f"early{number:02}" for number in range(12)])
        rt = await world.start(working)
        await starts.begun(1)
        await leave(client, working, tenants * 4, priority=urgent)
        for count in range(1, 130):
            await rt.kernel.ownership.queues.read("working")
            starts.go_on(count + 1)
            await starts.begun(count + 1)
        assert set(starts.tenants) >= set(tenants)
        starts.go_on(10**6)
        await starts.begun(172)
        await rt.idle()

    play(world, scenario)


@pytest.mark.usefixtures("small_pages")
def test_tenants_whose_limits_are_used_up_do_not_seem_to_use_up_that_of_their_agent(world):
    """Nobody asks for tokens of the agent, so there are none here; who comes with a fresh key begins all the same."""
    starts = Starts(held=10**6)
    begin = starts.tool()

    @agent(rate="1000/minute", rate_per_key="1/hour")
    async def working(ctx: Context, tenant: str) -> None:
        await begin(tenant)

    async def scenario():
        client = await world.start()
        await leave(client, working, [f"a{number:02}" for number in range(30)] * 2)
        await world.start(working)
        await starts.begun(30)
        await world.clock.advance(10)
        fresh = [f"b{number:02}" for number in range(30)]
        await leave(client, working, fresh)
        await starts.begun(60)
        assert sorted(starts.tenants[30:]) == fresh
        await world.crash()

    play(world, scenario)


@pytest.mark.usefixtures("small_pages")
def test_a_round_that_finds_nothing_is_repeated_after_a_pause(world):
    """Not with each run that begins meanwhile; and others have the loop between its pages."""
    tenants = [f"a{number:02}" for number in range(30)]
    starts = Starts(held=10**6, held_up=tenants)
    begin = starts.tool()
    order: list[str] = []

    @agent(concurrency_per_key=1)
    async def working(ctx: Context, tenant: str) -> None:
        await begin(tenant)

    async def scenario():
        client = await world.start()
        await leave(client, working, tenants * 4)
        await world.stop(client)
        rt = await world.start(working)
        asked = rt.kernel.reads.queues

        async def following(agent, limit, *, after=None):
            order.append("page")
            asyncio.get_running_loop().call_soon(order.append, "turn")
            return await asked(agent, limit, after=after)

        await starts.begun(30)
        await world.clock.advance(3)
        rt.kernel.reads.queues, rt.kernel.ownership.offer_ready = following, no_news
        await rt.kernel.ownership.queues.read("working")
        await settle()
        assert order.count("page") > 4
        assert "pagepagepage" not in "".join(order)  # two may come from two readers
        pages = len(order)
        starts.go_on(10**6)
        await starts.begun(60)
        await settle()
        assert (len(starts.tenants), len(order)) == (60, pages)
        while len(starts.tenants) < 120:
            await world.clock.advance(0.5)
        await rt.idle()

    play(world, scenario)


@pytest.mark.usefixtures("small_pages")
def test_a_round_that_stopped_at_a_full_node_goes_on_when_there_are_places(world):
    """Also when those that wait here cannot take them, and it was another agent that gave them back."""
    starts = Starts(held=10**6, held_up=["other"])
    begin = starts.tool()

    @agent(rate_per_key="1/hour")
    async def working(ctx: Context, tenant: str) -> None:
        await begin(tenant)

    @agent
    async def filling(ctx: Context, tenant: str) -> None:
        await begin(tenant)

    async def scenario():
        client = await world.start()
        await leave(client, working, [f"a{number:02}" for number in range(30)] * 2)
        rt = await world.start(working, filling, settings=Settings(moving_most=1))
        await starts.begun(30)
        await leave(client, filling, ["other"])
        await starts.begun(31)
        await leave(client, working, [f"b{number:02}" for number in range(30)])
        await rt.kernel.ownership.queues.read("working")
        await settle()
        assert len(starts.tenants) == 31
        starts.go_on(10**6)
        await starts.begun(61)
        await world.crash()

    play(world, scenario)


@pytest.mark.usefixtures("small_pages")
def test_what_only_other_nodes_can_run_is_found_behind_all_that_is_queued(world):
    """So that its shard goes to one of them, however long the queue and however many there are."""
    starts = Starts(held=1)
    begin = starts.tool()

    def version(number):
        @agent(version=number, concurrency=1)
        async def working(ctx: Context, tenant: str) -> None:
            await begin(tenant)

        return working

    old, new = version("1"), version("2")

    async def scenario():
        client = await world.start()
        await leave(client, old, [*(f"t{number}" for number in range(30)), *["z"] * 30])
        [last] = await leave(client, new, ["z"])
        rt = await world.start(old)
        await starts.begun(1)
        needs = rt.kernel.membership.parts.needs
        needs.elsewhere = frozenset({("working", "2")})
        await rt.kernel.ownership.offer_stranded(rt.kernel.leases.shards)
        assert needs.say([]) == {(await world.status(last)).shard: ["2"]}
        await world.crash()

    play(world, scenario)


@pytest.mark.parametrize("priority", [PRIORITY_MOST + 1, -PRIORITY_MOST - 1])
def test_a_priority_out_of_range_is_refused(world, priority):
    """By the agent and by the start of a run, with the range; the ends of the range are fine."""
    with pytest.raises(InvalidSetting, match="from -1,000,000 to 1,000,000, not"):
        agent(priority=priority)(_echo)
    echo = agent(priority=-PRIORITY_MOST)(_echo)

    async def scenario():
        rt = await world.start(echo)
        with pytest.raises(InvalidInput, match="from -1,000,000 to 1,000,000, not"):
            await rt.start(echo, "a", priority=priority)
        assert await (await rt.start(echo, "b", priority=PRIORITY_MOST)).result() == "b"

    play(world, scenario)


async def _echo(ctx: Context, text: str) -> str:
    return text


def test_tenants_take_turns_on_every_node(world):
    """Each of two nodes orders the runs of its own shards: so both tenants have their part of the whole."""
    starts = Starts(held=80)
    begin = starts.tool()

    @agent(concurrency=4)
    async def working(ctx: Context, tenant: str) -> None:
        await begin(tenant)

    async def scenario():
        nodes = [await world.start(working) for _ in range(2)]
        for _ in range(200):  # until both have their part of the shards
            await world.clock.advance(0.05)
        assert all(node.kernel.leases.shards for node in nodes)
        client = await world.start()
        await leave(client, working, ["long"] * 2_000)
        await leave(client, working, ["short"] * 100)
        for _ in range(100):  # shares of the limit go round
            await world.clock.advance(0.1)
            if len(starts.tenants) >= 80:
                break
        await starts.begun(80)
        counts = Counter(starts.tenants[10:80])
        assert counts["short"] >= 20, counts
        starts.go_on(held=10_000)

    play(world, scenario)
