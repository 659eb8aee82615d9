"""The simulator: 2,000 worlds in which nothing may go wrong, and planted bugs that it must find."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from dataclasses import replace
from typing import cast

import pytest

from perdure.errors import StoreBusy
from perdure.runtime import AgentSet
from perdure.store import MemoryStore
from perdure.store.contract import Fence, RateWish, Signal, Store, Transaction
from perdure.testing.host import SimulatedClock, SimulatedHost, Stuck, run_simulated
from perdure.testing.limited import LIMITED
from perdure.testing.planted import BUGS
from perdure.testing.record import ClusterRecord, RecordedStore
from perdure.testing.remote import Line, RemoteStore
from perdure.testing.swarm import Mix, Weather


def run_module(module, *arguments):
    """The JSON that a module of perdure.testing prints, and its complaints."""
    command = [sys.executable, "-m", f"perdure.testing.{module}", *arguments, "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.stdout, ended.stderr
    return json.loads(ended.stdout), ended.stderr


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_two_thousand_seeds_violate_nothing():
    """Every promise holds in every world, and every hundredth world, run twice, is the same twice."""
    totals, complaints = run_module("simulator", "--seeds", "2000", "--processes", "2")

    assert totals["failures"] == {}, complaints
    assert totals["seeds"] == 2000
    assert totals["deaths"] > 5000, "too few nodes died to prove anything"
    assert min(totals[fault] for fault in ("departures", "freezes", "cuts")) > 800, "too little went wrong"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_planted_bug_is_found():
    """Each of at least thirty-five bugs makes some seed fail."""
    taken, told = run_module("planted", "--tries", "1", "--most", "1000")

    assert len(taken) == len(BUGS) >= 35
    assert [name for name, counts in taken.items() if counts == [None]] == [], told


def test_a_seed_gives_the_same_trace_in_another_process():
    """A failing seed can be repeated from its number alone."""
    program = "from perdure.testing.simulation import simulate; print(simulate(7).trace)"
    command = [sys.executable, "-c", program]
    traces = {
        subprocess.run(command, env={"PYTHONHASHSEED": "0"}, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }

    assert len(traces) == 1


class TestHost:
    def test_time_jumps_to_the_next_timer(self):
        """A day passes in no time, and exactly."""

        async def sleep_a_day(host):
            await asyncio.sleep(86_400)
            return host.time(), SimulatedClock(host).now_us()

        seconds, now_us = run_simulated(sleep_a_day)
        assert seconds == 86_400
        assert now_us == 1_767_225_600_000_000 + 86_400_000_000

    def test_a_killed_node_runs_nothing_any_more(self):
        """Neither what came after, nor its clean-up."""
        done = []

        async def live():
            try:
                done.append("began")
                await asyncio.sleep(1)
                done.append("went on")
            finally:
                done.append("cleaned up")

        async def scenario(host):
            host.start_on("node", live())
            await asyncio.sleep(0.5)
            host.kill("node")
            await asyncio.sleep(5)
            return list(done)

        assert run_simulated(scenario) == ["began"]

    def test_a_paused_node_loses_time_and_nothing_else(self):
        """What came due meanwhile happens when it resumes."""

        async def live(host):
            await asyncio.sleep(1)
            return host.time()

        async def scenario(host):
            work = host.start_on("node", live(host))
            await asyncio.sleep(0.5)
            host.pause("node")
            await asyncio.sleep(9.5)
            assert not work.done()
            host.resume("node")
            return await work

        assert run_simulated(scenario) == 10

    def test_a_frozen_node_thaws_by_itself(self):
        """Not before its time."""

        async def live(host):
            await asyncio.sleep(1)
            return host.time()

        async def scenario(host):
            work = host.start_on("node", live(host))
            host.freeze("node", 4)
            return await work

        assert run_simulated(scenario) == 5

    def test_what_is_due_at_once_happens_in_the_order_of_asking(self):
        """Also when some of it is called off."""

        async def scenario(host):
            order: list[int] = []
            timers = [host.call_later(1, order.append, number) for number in range(9)]
            timers[4].cancel()
            await asyncio.sleep(2)
            return order

        assert run_simulated(scenario) == [0, 1, 2, 3, 5, 6, 7, 8]

    def test_who_was_awake_all_the_time_is_known(self):
        """Neither a pause nor a death since then is overlooked."""

        async def scenario(host):
            await asyncio.sleep(1)
            host.pause("dozed")
            host.resume("dozed")
            host.kill("dead")
            host.pause("paused")
            return [name for name in ("dozed", "dead", "paused", "awake") if host.awake_since(name, 0.5)]

        assert run_simulated(scenario) == ["awake"]

    def test_waiting_for_nothing_is_an_error(self):
        """A simulation that could wait for ever says so."""

        async def wait(host: SimulatedHost):
            await host.create_future()

        with pytest.raises(Stuck):
            run_simulated(wait)

    def test_callbacks_of_one_node_keep_their_order(self):
        """Dice decide between nodes only."""

        async def live(name, order):
            for number in range(5):
                order.append((name, number))
                await asyncio.sleep(0)

        async def scenario(host):
            order: list[tuple[str, int]] = []
            await asyncio.gather(*(host.start_on(name, live(name, order)) for name in "ab"))
            return order

        picks = iter([1, 0, 0, 1] * 100)
        order = run_simulated(scenario, pick=lambda nodes: next(picks) % nodes)
        assert [number for name, number in order if name == "a"] == [0, 1, 2, 3, 4]
        assert order != sorted(order)


def test_a_drowsy_node_freezes_between_a_commit_and_its_answer():
    """Once, and for as long as it was told: what it does next it does in a world that went on."""

    async def scenario(host):
        weather = Weather(host, replace(Mix.draw(random.Random(0)), tool_seconds=0.0, store_seconds=0.0), Dice())
        weather.drowsy["node"] = 3.0

        async def live():
            passed = []
            for point in ("before commit", "after commit", "after commit"):
                await weather.reach(point)
                await asyncio.sleep(0)
                passed.append(host.time())
            return passed

        return await host.start_on("node", live())

    assert run_simulated(scenario) == [0.0, 3.0, 3.0]


class Bench:
    """A store at the end of a line, and the record of what it accepted."""

    def __init__(self, host):
        self.host = host
        self.memory = MemoryStore(clock=SimulatedClock(host))
        self.record = ClusterRecord(AgentSet(LIMITED), host, lambda: 2**62)
        self.line = Line(host, Dice())
        self.store = RemoteStore(cast("Store", self), self.line, self.arrive)

    async def commit(self, batch):
        return await self.record.commit(self.memory, batch)

    async def signals(self, shards):
        return await self.memory.signals(shards)

    async def wait_change(self):
        await self.memory.wait_change()

    def arrive(self, batch):
        self.host.start_on("", self.commit(batch))

    async def waiting(self):
        """How many signals there are."""
        signals, _ = await self.memory.signals(["buyer:0"])
        return len(signals)


class Dice(random.Random):
    """Always throws the same."""

    def random(self):
        return 0.1


class HighDice(Dice):
    """Always throws high."""

    def random(self):
        return 0.9


def letter():
    """A batch that does something each time it happens."""
    return [Transaction(signals=[Signal("buyer", "s", None, "message", "{}", "buyer:0", 0)])]


def on_a_bench(scenario):
    """Run `scenario(bench)`."""
    return run_simulated(lambda host: scenario(Bench(host)))


class TestLine:
    def test_a_lost_reply_leaves_what_happened_and_an_error(self):
        """The caller cannot know; the same batch, given again, says what came of it and happens no second time."""

        async def scenario(bench):
            batch = letter()
            bench.line.cut(requests=False, replies=True, hangs=False)
            with pytest.raises(StoreBusy):
                await bench.store.commit(batch)
            bench.line.mend()
            return await bench.store.commit(batch), await bench.waiting()

        assert on_a_bench(scenario) == ([[1]], 1)

    def test_a_lost_request_may_arrive_late_and_still_happens_once(self):
        """Whether the caller tried again before that, or after."""

        async def scenario(bench):
            early, late = letter(), letter()
            bench.line.cut(requests=True, replies=True, hangs=False)
            for batch in (early, late):
                with pytest.raises(StoreBusy):
                    await bench.store.commit(batch)
            assert await bench.waiting() == 0
            bench.line.mend()
            await bench.store.commit(early)
            assert await bench.waiting() == 1
            await asyncio.sleep(2)
            assert await bench.waiting() == 2
            await bench.store.commit(late)
            return await bench.waiting()

        assert on_a_bench(scenario) == 2

    def test_a_line_that_hangs_says_nothing_until_it_is_mended(self):
        """What was held up goes through then, or is lost, as the dice have it."""

        async def scenario(bench):
            bench.line.cut(requests=True, replies=True, hangs=True)
            reading = asyncio.ensure_future(bench.store.signals(["buyer:0"]))
            await asyncio.sleep(100)
            assert not reading.done()
            bench.line.mend()
            found, _ = await reading
            bench.line._dice = HighDice()
            bench.line.cut(requests=True, replies=True, hangs=True)
            losing = asyncio.ensure_future(bench.store.signals(["buyer:0"]))
            await asyncio.sleep(100)
            assert not losing.done()
            bench.line.mend()
            with pytest.raises(StoreBusy):
                await losing
            return found

        assert on_a_bench(scenario) == []

    def test_news_are_late_and_not_lost(self):
        """What changed while a listener was cut off is told when it no longer is."""

        async def scenario(bench):
            listening = asyncio.ensure_future(bench.store.wait_change())
            await asyncio.sleep(0)
            bench.line.cut(requests=False, replies=True, hangs=False)
            await bench.commit(letter())
            await asyncio.sleep(5)
            assert not listening.done()
            bench.line.mend()
            await listening
            return bench.host.time()

        assert on_a_bench(scenario) == 5


class TestRecord:
    def test_an_epoch_that_two_nodes_write_with_is_noticed(self):
        """Whoever has the fence without having claimed the shard is told on, though the store accepts it."""

        async def scenario(bench):
            claiming = bench.record.claim(bench.memory, "node_a", ["buyer:0"], 5.0)
            await bench.host.start_on("a", claiming)
            written = [Transaction(fence=Fence("buyer:0", 1))]
            await bench.host.start_on("a", bench.commit(written))
            assert bench.record.violations == []
            await bench.host.start_on("b", bench.commit([Transaction(fence=Fence("buyer:0", 1))]))
            return bench.record.violations

        assert on_a_bench(scenario) == ["buyer:0: b wrote with epoch 1, which it never had"]

    def test_what_nodes_are_told_may_begin_is_counted(self):
        """As many as the store gave, however many were wanted."""

        async def scenario(bench):
            store = RecordedStore(bench.memory, bench.record)
            [tokens] = await store.take([RateWish("paced", 3, 1.0, 5)])
            return tokens.granted, bench.record._tokens["paced"]

        assert on_a_bench(scenario) == (3, 3)
