"""Tools with `compute=` in whole runs: their bodies are elsewhere, and the run notices nothing but what they report."""

from __future__ import annotations

import asyncio
import os

from perdure import Compute, Context, agent
from tests.scenario.worlds import play
from tests.unit.compute import bodies
from tests.unit.compute.attempts import gone, read_line

take_more = bodies.take_memory.with_options(compute=Compute(memory="64MiB", grow=4, max_memory="1GiB"))
lose = bodies.die.with_options(effect="once", retries=3, name="lose")
too_long = bodies.hang.with_options(timeout=60, retries=0)


@agent
async def reporting(ctx: Context) -> str:
    return await bodies.report(3)


@agent
async def taking(ctx: Context, mib: int) -> int:
    return await take_more(mib)


@agent
async def losing(ctx: Context) -> None:
    await lose("kill")


@agent
async def waiting(ctx: Context, fifo: str) -> None:
    await too_long(fifo)


def test_reports_of_a_body_are_in_the_journal_and_its_result_in_the_run(world):
    """As if the tool had run here."""

    async def scenario():
        await world.start(reporting)
        run = await world.rt.start(reporting)
        assert await run.result(timeout=20) == "reported"
        said = {event.type: event.data for event in await world.journal(run)}
        assert said["progress"] == {"half": True}
        assert said["stream.delta"]["text"].endswith("2 ")
        assert said["step.completed"]["result"] == "reported"

    play(world, scenario)


def test_a_step_that_ran_out_of_memory_gets_more(world):
    """The failed attempt names what it had, the next one says what it gets, and the run has its result."""

    async def scenario():
        await world.start(taking)
        run = await world.rt.start(taking, 128)
        failed = await world.until(run, "step.failed")
        assert failed.data["error"]["type"] == "OutOfMemory"
        assert "64 MiB" in failed.data["error"]["message"]
        await world.clock.advance(1)
        assert await run.result(timeout=20) == 128
        grown = [event for event in await world.journal(run) if event.type == "progress"]
        assert [(event.attempt, event.data["compute"]["memory"]) for event in grown] == [(2, "256 MiB")]

    play(world, scenario)


def test_a_once_step_whose_process_was_lost_never_runs_again(world):
    """Nobody knows what it did, so its retries do not count."""

    async def scenario():
        await world.start(losing)
        run = await world.rt.start(losing)
        end = await world.until(run, "step.failed", "step.unknown")
        assert "SIGKILL" in str(end.data)
        assert "retry_at" not in end.data
        await world.clock.advance(3600)
        assert (await world.types(run)).count("step.started") == 1

    play(world, scenario)


def test_a_timeout_ends_the_process(world, tmp_path):
    """The kernel's limit is what stops the work."""
    os.mkfifo(tmp_path / "began")

    async def scenario():
        await world.start(waiting)
        run = await world.rt.start(waiting, str(tmp_path / "began"))
        pids = await read_line(tmp_path / "began")
        await world.clock.advance(61)
        failed = await world.until(run, "step.failed")
        assert failed.data["error"]["type"] == "StepTimeout"
        assert await gone(*pids)

    play(world, scenario)


def test_cancelling_the_run_ends_the_process(world, tmp_path):
    """Whoever cancels a run stops the work that it started."""
    os.mkfifo(tmp_path / "began")

    async def scenario():
        await world.start(waiting)
        run = await world.rt.start(waiting, str(tmp_path / "began"))
        pids = await read_line(tmp_path / "began")
        await run.cancel()
        assert await gone(*pids)
        await world.until(run, "run.cancelled")

    play(world, scenario)


def test_a_swarm_of_steps_gets_all_its_results(world):
    """More of them than processes, each with its own result."""

    @agent
    async def swarming(ctx: Context) -> int:
        return sum(await asyncio.gather(*(bodies.double(n) for n in range(100))))

    async def scenario():
        await world.start(swarming)
        assert await (await world.rt.start(swarming)).result(timeout=20) == 9900

    play(world, scenario)
