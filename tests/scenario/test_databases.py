"""One store in several databases: families that live in both, and shards that move while they work."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest

from perdure import Context, Settings, agent, tool
from perdure.store import MemoryStore, SqliteStore
from perdure.store.contract import RunFilter
from perdure.store.many import ManyStores
from perdure.store.postgres import PostgresStore
from perdure.testing.settling import settling
from tests.scenario.worlds import Box, World, expire, play


class Databases(World):
    """A world whose store is made of two databases."""

    def __init__(self, kind, folder, settings, urls):
        super().__init__(kind, folder, settings)
        self._folder = folder
        self._urls = urls
        self._second = MemoryStore(clock=self.clock)

    def store(self):
        stores: dict[str, Any] = {"first": self._memory, "second": self._second}
        if self._urls:
            stores = {name: settling(PostgresStore(url, clock=self.clock)) for name, url in self._urls.items()}
        elif self._memory is None:
            stores = {name: SqliteStore(str(self._folder / f"{name}.db"), clock=self.clock) for name in stores}
        return ManyStores(stores, clock=self.clock)

    async def crash(self, rt=None):
        node = (rt or self.rt).kernel.node
        self._second.bury(node)
        await super().crash(rt)
        for url in self._urls.values():
            expire(url, node)

    async def places(self):
        """How many runs there are in each database."""
        store: Any = self.rt.store
        places = await store.places()
        runs = await self.rt.runs(RunFilter(limit=10_000))
        return {name: sum(places[run.shard] == name for run in runs) for name in ("first", "second")}


@pytest.fixture(
    params=[
        "memory", "sqlite", "postgres", "memory-evicting", "sqlite-evicting",
        pytest.param("postgres-evicting", marks=pytest.mark.slow),
    ]
)  # fmt: skip
def world(request, tmp_path):
    """Two databases of one kind."""
    kind, _, evicting = request.param.partition("-")
    urls = {}
    if kind == "postgres":
        databases = request.getfixturevalue("postgres_databases")
        urls = {name: databases() for name in ("first", "second")}
    return Databases(kind, tmp_path, Settings(idle_most=0) if evicting else Settings(), urls)


#: What takes more than a few seconds where every question goes to a server.
LONG = pytest.mark.parametrize(
    "world",
    [
        "memory", "sqlite", "memory-evicting", "sqlite-evicting",
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("postgres", "postgres-evicting")),
    ],
    indirect=True,
)  # fmt: skip


@tool
async def multiply(a: int, b: int) -> int:
    """A step, repeatable."""
    return a * b


@agent
async def worker(ctx: Context, number: int) -> int:
    """Answers what its parent sends, and ends when told to."""
    parent, factor = await ctx.receive("task", tuple[str, int])
    await ctx.send(parent, "done", [number, await multiply(number, factor)])
    await ctx.receive("end")
    return number


@agent
async def boss(ctx: Context, count: int) -> list[int]:
    """Talks to a child in every session, both ways, and waits for all of them."""
    children = [ctx.spawn(worker, number, session=f"desk-{number}") for number in range(count)]
    for number, child in enumerate(children):
        await ctx.send(child.id, "task", [ctx.run.id, number])
    answers = [await ctx.receive("done", tuple[int, int]) for _ in children]
    await ctx.receive("finish")
    for child in children:
        await ctx.send(child.id, "end")
    assert [await child for child in children] == list(range(count))
    return sorted(product for _, product in answers)


COUNT = 24
RESULT = [number * number for number in range(COUNT)]


async def ended(world, id):
    """The result of a run, while time goes on: what was lost by a crash or a move is found by nodes' next looks."""
    result = asyncio.ensure_future((await world.rt.run(id)).result(timeout=40))
    while not result.done():
        await world.clock.advance(0.5)
        await asyncio.sleep(0)
    return result.result()


async def finish(world, run):
    """Let the family end, and see that everything happened once."""
    await world.rt.send(run.id, "finish")
    assert await ended(world, run.id) == RESULT
    journal = await world.types(run)
    assert journal.count("message.received") == COUNT + 1
    assert journal.count("child.ended") == COUNT
    for child in await world.rt.runs(RunFilter(parent=run.id, limit=100)):
        types = await world.types(child.id)
        assert types.count("message.received") == 2
        assert types.count("message.sent") == 1


def test_a_family_lives_in_both_databases(world):
    """Children in sessions of either database get what they are sent, answer, and are waited for."""

    async def scenario():
        await world.start(boss, worker)
        run = await world.rt.start(boss, COUNT)
        await finish(world, run)
        assert min((await world.places()).values()) > 5

    play(world, scenario)


@pytest.mark.parametrize("seed", range(3))
def test_a_family_survives_crashes_while_messages_cross(world, seed):
    """The worker dies at some moment of the conversation, again and again: nothing is lost or comes twice."""
    dice = Random(seed)

    async def scenario():
        await world.start(boss, worker)
        run = await world.rt.start(boss, COUNT)
        for _ in range(6):
            for _ in range(dice.randint(1, 25)):
                await asyncio.sleep(0)
            await world.crash()
            await world.start(boss, worker)
        await world.clock.advance(1)
        await finish(world, run)

    play(world, scenario)


def test_shards_move_while_their_runs_work(world):
    """There and back, in the middle of the conversation: whoever lost a shard takes it up where it is now."""

    async def scenario():
        await world.start(boss, worker)
        mover = world.store()
        await mover.open()
        run = await world.rt.start(boss, COUNT)
        for shard, place in sorted((await mover.places()).items()):
            await mover.move_shard(shard, "second" if place == "first" else "first")
            await world.clock.advance(0.5)
        assert min((await world.places()).values()) > 5
        for shard in sorted(await mover.places())[::2]:
            await mover.move_shard(shard, "second")
        await world.clock.advance(10)
        await finish(world, run)
        await mover.close()

    play(world, scenario)


@tool(effect="read")
async def double(number: int) -> int:
    """A step that takes a few turns of the loop, in which a shard may move."""
    for _ in range(number % 7):
        await asyncio.sleep(0)
    return 2 * number


@agent
async def leaf(ctx: Context, number: int) -> int:
    """A child without a session."""
    return await double(number)


@agent
async def root(ctx: Context, turn: int) -> int:
    """Has children of its own, born where it lives, one generation after the other."""
    total = sum([await child for child in [ctx.spawn(leaf, number) for number in range(8)]])
    return await ctx.spawn(root, turn - 1) if turn else total


@LONG
@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 12))])
def test_anything_may_move_and_crash_at_any_moment(world, seed):
    """Two nodes, families with and without sessions, shards that move at random: all ends well, once."""
    dice = Random(seed)

    async def scenario():
        nodes = [await world.start(boss, worker, root, leaf) for _ in range(2)]
        mover = world.store()
        await mover.open()
        talk = await nodes[0].start(boss, COUNT)
        trees = [await node.start(root, 3) for node in nodes * 3]
        for _ in range(40):
            shard = dice.choice(sorted(await mover.places()))
            await mover.move_shard(shard, dice.choice(["first", "second"]))
            for _ in range(dice.randint(0, 30)):
                await asyncio.sleep(0)
            if dice.random() < 0.1:
                await world.crash(nodes.pop(dice.randrange(2)))
                nodes.append(await world.start(boss, worker, root, leaf))
            if dice.random() < 0.3:
                await world.clock.advance(1)
        await mover.close()
        await world.clock.advance(20)
        for tree in trees:
            assert await ended(world, tree.id) == 56
        await finish(world, talk)

    play(world, scenario)


def test_nodes_gather_around_databases(world):
    """Two nodes share what one had so that each commits to one database only."""

    async def scenario():
        first = await world.start(worker)
        second = await world.start(worker)
        for _ in range(160):  # until the newcomer has been there for a lease, and has claimed
            await world.clock.advance(0.05)
        store: Any = first.store
        places = await store.places()
        homes = [{places[shard] for shard in node.kernel.leases.shards} for node in (first, second)]
        assert sorted(home.pop() for home in homes) == ["first", "second"]
        assert homes == [set(), set()]

    play(world, scenario)


def test_a_key_starts_one_run_whichever_node_is_asked(world):
    """In sessions of both databases, and without one: from two nodes at the same time."""

    @agent
    async def greeter(ctx: Context, name: str) -> str:
        return f"hello {name}"

    async def scenario():
        nodes = [await world.start(greeter), await world.start(greeter)]
        for number in range(12):
            session = None if number % 3 == 0 else f"s{number}"
            runs = await asyncio.gather(
                *(node.start(greeter, "ann", session=session, idempotency_key=f"k{number}") for node in nodes * 2)
            )
            assert len({run.id for run in runs}) == 1
            handle = await nodes[0].run(runs[0].id)
            assert await handle.result(timeout=10) == "hello ann"
        # The same key for two sessions is still one run.
        runs = await asyncio.gather(
            *(nodes[n % 2].start(greeter, "bob", session=f"t{n}", idempotency_key="same") for n in range(8))
        )
        assert len({run.id for run in runs}) == 1
        assert len(await world.rt.runs(RunFilter(limit=100))) == 13

    play(world, scenario)


def test_what_has_no_session_stays_with_whom_it_came_from(world):
    """Children and forks without a session live in the database of their parent or original, born there."""

    async def scenario():
        await world.start(root, leaf)
        runs = [await world.rt.start(root, 0) for _ in range(6)]
        while len({(await world.rt.store.places())[(await run.status()).shard] for run in runs}) < 2:
            runs.append(await world.rt.start(root, 0))  # dice say where a run without a session is born
        assert [await run.result(timeout=10) for run in runs] == [56] * len(runs)
        forks = [await world.rt.fork(run.id, at=3) for run in runs]
        assert [await fork.result(timeout=10) for fork in forks] == [56] * len(runs)
        places = await world.rt.store.places()
        home = {run.id: places[run.shard] for run in await world.rt.runs(RunFilter(limit=1000))}
        assert set(home.values()) == {"first", "second"}
        for run in await world.rt.runs(RunFilter(limit=1000)):
            origin = run.parent or (run.forked_from or (run.id,))[0]
            assert home[run.id] == home[origin]
        for store in world.rt.store._members.stores:
            assert await store.parcels() == []

    play(world, scenario)


@pytest.mark.parametrize("finish_seconds", [5.0, 0.0])
def test_a_shard_that_moves_is_handed_over(world, finish_seconds):
    """The step that is under way may finish, and the next begins after the move. Without time for that nobody knows."""
    box = Box()

    @tool(effect="once")
    async def pay(number: int) -> int:
        box.note(number)
        await box.wait(number)
        return number

    @agent
    async def payer(ctx: Context) -> int:
        return await pay(1) + await pay(2)

    async def scenario():
        await world.start(payer)
        mover = world.store()
        await mover.open()
        run = await world.rt.start(payer)
        await box.reached(1)
        shard = (await world.status(run)).shard
        target = "second" if (await mover.places())[shard] == "first" else "first"
        moving = asyncio.create_task(mover.move_shard(shard, target, finish_seconds=finish_seconds))
        await world.clock.advance(2)
        assert moving.done() is not bool(finish_seconds)
        box.open(1)
        await world.clock.advance(10)
        await moving
        assert (await mover.places())[shard] == target
        if finish_seconds:
            await box.reached(2)
            box.open(2)
            assert await run.result(timeout=10) == 3
            assert (await world.status(run)).strikes == 0
            assert box.calls == [1, 2]
        else:
            assert (await world.becomes(run, "waiting")).wait["kind"] == "unknown"
            assert box.calls == [1]
        await mover.close()

    play(world, scenario)
