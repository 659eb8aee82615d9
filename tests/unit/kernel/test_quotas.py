"""Shares of a limit on several nodes, and the tokens of a rate: without kernels, over one store."""

from __future__ import annotations

import asyncio
import random
from functools import partial

import pytest

from perdure.agents.rate import Rate, parse_rate
from perdure.errors import InvalidSetting, StoreBusy
from perdure.kernel.dispatch import Dispatcher
from perdure.kernel.quotas import Quotas
from perdure.kernel.rates import Rates
from perdure.store import MemoryStore
from perdure.store.contract import Node, RateWish
from perdure.testing.clock import FakeClock, settle

LEASE = 5.0


class Flaky:
    """A store that answers after a while, and sometimes not: then what was asked may have happened or not."""

    def __init__(self, store, dice=None):
        self._store = store
        self._dice = dice
        self.calls = 0

    async def share(self, node, wishes):
        return await self._call(lambda: self._store.share(node, wishes))

    async def take(self, wishes):
        return await self._call(lambda: self._store.take(wishes))

    async def _call(self, work):
        self.calls += 1
        if self._dice is None:
            return await work()
        await self._wait()
        if self._dice.random() < 0.1:
            raise StoreBusy("not now")
        answer = await work()
        await self._wait()
        if self._dice.random() < 0.1:
            raise StoreBusy("the answer is lost")
        return answer

    async def _wait(self):
        for _ in range(self._dice.randrange(20)):
            await asyncio.sleep(0)


class OneNode:
    """A node without runs: what a kernel does with quotas and rates, and nothing else."""

    def __init__(self, name, store, clock, limits, *, most=100):
        self.name = name
        self.store = store
        self.clock = clock
        self.moving: list[str] = []
        self.cut_off = False
        self.beat_at = 0.0
        self._alive = asyncio.Event()
        self._limits = limits
        self._tasks: set[asyncio.Task[None]] = set()
        self._numbers = iter(range(1_000_000))
        self.quotas = Quotas(
            store, name, clock, lease_seconds=LEASE, weights={}, spawn=self._spawn, dispatcher=lambda: self.dispatcher,
            assured=self._assured, overdrawn=lambda _: self.stop(),
        )  # fmt: skip
        self.rates = Rates(store, clock, weights={}, spawn=self._spawn, dispatcher=lambda: self.dispatcher)
        self.dispatcher = Dispatcher(most, self)

    def doors(self, agent, key, *, begins):
        limit = self._limits.get(agent)
        if isinstance(limit, Rate):
            return (self.rates.door(agent, limit),) if begins else ()
        return () if limit is None else (self.quotas.door(agent, limit),)

    def doors_at_once(self, agent, key):
        return None if isinstance(self._limits.get(agent), Rate) else self.doors(agent, key, begins=True)

    def want(self, agent="a", count=1, key=None):
        for _ in range(count):
            run = f"{agent}:{self.name}:{next(self._numbers)}"
            self.dispatcher.offer(run, agent, key, 0, 0, partial(self.moving.append, run))

    def end(self, count=1):
        for _ in range(count):
            self.dispatcher.release(self.moving.pop(0))

    def stop(self):
        """Every run stops, as on a node whose lease ran out."""
        for run in list(self.moving):
            self.moving.remove(run)
            self.dispatcher.release(run)

    def lose(self):
        """The lease ran out, or nearly so."""
        self._alive.clear()
        self.quotas.lost()
        self.stop()

    async def beat(self, store):
        await store.beat(Node(self.name, "here:1", 0, ()), LEASE)
        self.beat_at = self.clock.monotonic()
        self._alive.set()

    async def close(self):
        self.quotas.rest()
        self.rates.rest()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work):
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _assured(self):
        await self._alive.wait()


class Cluster:
    """Nodes on one store."""

    def __init__(self, count=1, *, dice=None, **limits):
        self.clock = FakeClock()
        self.memory = MemoryStore(clock=self.clock)
        self.nodes = [OneNode(f"n{n}", Flaky(self.memory, dice), self.clock, limits) for n in range(count)]

    async def __aenter__(self):
        await self.pass_time(0)
        return self

    async def __aexit__(self, *_):
        for node in self.nodes:
            await node.close()

    async def pass_time(self, seconds=0.5):
        """Some time, with everybody beating who is not cut off."""
        await self.clock.advance(seconds)
        for node in self.nodes:
            if not node.cut_off:
                await node.beat(self.memory)
        await settle()

    @property
    def moving(self):
        """How many move on each node."""
        return [len(node.moving) for node in self.nodes]


def run(scenario, *args, **options):
    """Play a scenario in a cluster."""

    async def main():
        async with asyncio.timeout(30), Cluster(*args, **options) as cluster:
            await scenario(cluster)

    asyncio.run(main())


def test_one_node_alone_asks_once_and_then_pays_nothing():
    """It has all of the limit; while it works on, it says so ten times a lease, whatever it does."""

    async def scenario(cluster):
        node = cluster.nodes[0]
        node.want(count=3)
        await settle()
        assert (len(node.moving), node.store.calls) == (3, 1)
        for _ in range(100):
            node.end()
            assert node.dispatcher.take(f"taken{_}", "a", None)
            node.moving.append(f"taken{_}")
        await settle()
        assert node.store.calls == 1
        await cluster.pass_time(0.5)
        assert node.store.calls == 2

    run(scenario, a=5)


def test_what_has_no_limit_or_nothing_to_do_asks_nothing():
    """An agent without limits never asks; one that has had nothing to do for a while gives its share back and is still."""

    async def scenario(cluster):
        node = cluster.nodes[0]
        node.want("free", 50)
        await cluster.pass_time(5)
        assert (len(node.moving), node.store.calls) == (50, 0)
        node.want("a")
        await settle()
        assert node.dispatcher.moving == 51
        node.dispatcher.release(node.moving.pop())
        for _ in range(4):
            await cluster.pass_time(0.5)
        assert cluster.memory._data.shares == {}
        calls = node.store.calls
        for _ in range(10):
            await cluster.pass_time(0.5)
        assert node.store.calls == calls

    run(scenario, a=5)


def test_many_wishes_go_in_one_call():
    """All that come up in one turn of the loop."""

    async def scenario(cluster):
        for n in range(20):
            cluster.nodes[0].want(f"agent{n}")
        await settle()
        assert cluster.moving == [20]
        assert cluster.nodes[0].store.calls == 1

    run(scenario, **{f"agent{n}": 1 for n in range(20)})


def test_a_limit_is_divided_evenly_when_all_want_it():
    """The first node has all of it, and gives up the part of one that comes later as its runs end."""

    async def scenario(cluster):
        first, second = cluster.nodes
        first.want(count=100)
        await settle()
        assert cluster.moving == [10, 0]
        second.want(count=100)
        for _ in range(20):
            await cluster.pass_time(0.5)
            for node in cluster.nodes:
                node.end(min(2, len(node.moving)))
                await settle()
            assert sum(cluster.moving) <= 10
        assert cluster.moving == [5, 5]

    run(scenario, 2, a=10)


def test_what_one_node_does_not_need_others_may_use():
    """A node with little to do keeps what it uses; a node that dies leaves all when its lease has run out."""

    async def scenario(cluster):
        first, second = cluster.nodes
        first.want(count=1)
        second.want(count=100)
        for _ in range(10):
            await cluster.pass_time(0.5)
        assert cluster.moving == [1, 9]
        first.cut_off = True
        await first.close()
        for _ in range(8):
            await cluster.pass_time(0.5)
            assert len(second.moving) == 9
        for _ in range(4):
            await cluster.pass_time(0.5)
        assert len(second.moving) == 10

    run(scenario, 2, a=10)


def test_runs_whose_places_others_have_are_stopped():
    """A node that was away too long and did not know it: it may not go on in places that it no longer has."""

    async def scenario(cluster):
        first, second = cluster.nodes
        first.want(count=5)
        await settle()
        first.cut_off = True
        second.want(count=5)
        for _ in range(12):
            await cluster.clock.advance(0.5)
            await second.beat(cluster.memory)
            await settle()
        assert len(second.moving) == 5
        first.cut_off = False
        first.quotas.lost()
        await cluster.pass_time(0.5)
        assert len(first.moving) == 0

    run(scenario, 2, a=5)


def test_an_answer_that_comes_after_the_share_was_lost_counts_no_more():
    """By then others may have what it says."""

    async def scenario(cluster):
        first, second = cluster.nodes
        answer = asyncio.Event()

        async def share(node, wishes):
            shares = await cluster.memory.share(node, wishes)
            await answer.wait()
            return shares

        first.store.share = share
        first.want(count=5)
        await settle()
        first.cut_off = True
        for _ in range(12):
            await cluster.pass_time(0.5)
        first.lose()
        second.want(count=5)
        await settle()
        answer.set()
        await settle()
        assert cluster.moving == [0, 5]

    run(scenario, 2, a=5)


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happens_no_more_move_than_allowed(seed):
    """Slow answers, lost answers, nodes cut off for longer than their lease: the sum over all nodes keeps the limit."""
    dice = random.Random(seed)
    limit = dice.choice([1, 2, 3, 7])

    async def scenario(cluster):
        for _ in range(120):
            _do_something(dice.choice(cluster.nodes), dice)
            for node in cluster.nodes:  # as kernel/membership.py does
                if cluster.clock.monotonic() - node.beat_at >= 0.9 * LEASE:
                    node.lose()
            for _ in range(dice.randrange(5)):
                await asyncio.sleep(0)
                assert sum(cluster.moving) <= limit
            if dice.random() < 0.5:
                await cluster.pass_time(0.2)
            assert sum(cluster.moving) <= limit
        await _work_off(cluster)

    run(scenario, 3, dice=dice, a=limit)


def _do_something(node, dice):
    match dice.randrange(6):
        case 0 | 1:
            node.want(count=dice.randrange(1, 6))
        case 2 | 3 if node.moving:
            node.end()
        case 4 if dice.random() < 0.3:
            node.cut_off = True
        case 5:
            node.cut_off = False


async def _work_off(cluster):
    for node in cluster.nodes:
        node.cut_off = False
    for _ in range(600):
        await cluster.pass_time(0.5)
        for node in cluster.nodes:
            node.end(len(node.moving))
        if not any(node.dispatcher.queued for node in cluster.nodes):
            return
    raise AssertionError([node.dispatcher.queued for node in cluster.nodes])


# Rates.


@pytest.mark.parametrize("nodes", [1, 3])
def test_no_more_begin_in_a_time_than_the_rate_says(nodes):
    """All that the rate allows at once, then one as soon as there is a token, on whatever node."""

    async def scenario(cluster):
        for node in cluster.nodes:
            node.want("r", 40)
        await settle()
        assert sum(cluster.moving) == 10
        for second in range(1, 60):
            await cluster.pass_time(0.5)
            await cluster.pass_time(0.5)
            assert sum(cluster.moving) <= 10 + second // 6
        assert sum(cluster.moving) >= 10 + 59 // 6 - 1

    run(scenario, nodes, r=Rate(10, 60.0))


def test_a_rate_is_asked_when_a_token_is_there_and_not_before():
    """The clock says when; runs that come meanwhile change nothing."""

    async def scenario(cluster):
        node = cluster.nodes[0]
        node.want("r", 5)
        await settle()
        assert len(node.moving) == 2
        calls = node.store.calls
        for _ in range(10):
            node.want("r")
            await cluster.pass_time(0.5)
        assert (len(node.moving), node.store.calls) == (2, calls)
        await cluster.pass_time(25)
        assert (len(node.moving), node.store.calls) == (3, calls + 1)

    run(scenario, r=Rate(2, 60.0))


def test_who_goes_on_needs_no_token():
    """Only beginning is limited."""

    async def scenario(cluster):
        node = cluster.nodes[0]
        moved = []
        for n in range(5):
            node.dispatcher.offer(f"on{n}", "r", None, 0, 0, lambda: moved.append(1), begins=False)
        assert len(moved) == 5
        assert node.store.calls == 0

    run(scenario, r=Rate(1, 3_600.0))


def test_no_token_is_taken_for_a_run_that_has_no_place():
    """A node that is full leaves the tokens to the others."""

    async def scenario(cluster):
        node = cluster.nodes[0]
        node.dispatcher._node.held = 2
        node.want("free", 2)
        node.want("r", 5)
        await cluster.pass_time(1)
        assert node.store.calls == 0
        node.end()
        await settle()
        assert len(node.moving) == 2
        [tokens] = await cluster.memory.take([RateWish("r", 10, 60.0, 100)])
        assert tokens.granted == 9

    run(scenario, r=Rate(10, 60.0))


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("10/s", (10, 1)),
        ("100/minute", (100, 60)),
        (" 5 / hour ", (5, 3_600)),
        ("1/day", (1, 86_400)),
        ("7/second", (7, 1)),
    ],
)
def test_rates_are_written_as_people_write_them(text, rate):
    """A number per unit."""
    assert parse_rate("rate", text) == rate


@pytest.mark.parametrize(
    "text", ["", "10", "10/", "/s", "0/s", "-1/s", "1.5/s", "10/week", "10/s/s", "999999999/s", 10, None]
)
def test_a_rate_that_makes_no_sense_is_refused(text):
    """The error says what was written, and what may be."""
    with pytest.raises(InvalidSetting, match="rate_per_key"):
        parse_rate("rate_per_key", text)


def test_a_rate_reads_as_it_was_written():
    """For messages."""
    assert [str(parse_rate("rate", text)) for text in ("10/s", "5/hour")] == ["10/s", "5/hour"]
