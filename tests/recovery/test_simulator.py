"""The simulator: 2,000 worlds in which nothing may go wrong, and planted bugs that it must find."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import pytest

from perdure.testing.host import SimulatedClock, SimulatedHost, Stuck, run_simulated
from perdure.testing.planted import BUGS


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


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_planted_bug_is_found():
    """Each of at least twenty bugs makes some seed fail."""
    taken, _ = run_module("planted", "--tries", "1", "--most", "1000")

    assert len(taken) == len(BUGS) >= 20
    assert [name for name, counts in taken.items() if counts == [None]] == []


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
