"""Agents that hog the loop, tools that are hard to call, state that nests too deep: the node copes and says so."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from perdure import Context, RunFailed, Runtime, Settings, agent, tool
from perdure.testing.clock import FakeClock

CLOCK = FakeClock()


def nested(levels: int) -> list[Any]:
    """Lists in lists."""
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


async def later(value: int) -> int:
    """An async function that a lambda wraps."""
    await asyncio.sleep(0)
    return value + 1


@tool(effect="read")
async def price(item: int) -> int:
    """Ten times the item."""
    return item * 10


@agent
async def thinker(ctx: Context) -> int:
    """Computes for two seconds after its first step."""
    first = await price(1)
    CLOCK._now_us += 2_000_000  # what a long computation does to the clock
    return first


@agent
async def wrapper(ctx: Context) -> int:
    """Calls an async function through a lambda."""
    return int(await ctx.step(lambda: later(1), effect="read", name="later"))


@agent
async def impatient(ctx: Context) -> str:
    """Asks, and in the same breath ends without waiting for the answer."""
    asking = asyncio.create_task(ctx.ask("Still there?", bool))
    await asyncio.sleep(0)
    asking.cancel()
    return "gone"


@agent
async def deep(ctx: Context, levels: int) -> str:
    """Keeps something that nests in its state."""
    ctx.state["deep"] = nested(levels)
    await price(1)
    return "kept"


def test_agent_code_that_holds_the_loop_is_reported():
    """More than a second between two awaits leaves a run.warning that says what to do."""

    async def scenario():
        async with Runtime("memory://", [thinker], clock=CLOCK, settings=Settings(hog_seconds=1.0)) as rt:
            run = await rt.start(thinker)
            await run.result()
            return [event.data["message"] for event in await rt.journal(run.id) if event.type == "run.warning"]

    warnings = asyncio.run(scenario())

    assert len(warnings) == 1
    assert "held the worker's loop for 2.0 s" in warnings[0]


def test_a_function_that_returns_an_awaitable_is_awaited():
    """A lambda around an async function gives that function's result."""

    async def scenario():
        async with Runtime("memory://", [wrapper]) as rt:
            return await (await rt.start(wrapper)).result()

    assert asyncio.run(scenario()) == 2


@pytest.mark.parametrize("levels", [190, 199, 210])
def test_state_that_nests_too_deep_fails_its_run_and_nothing_else(levels):
    """The run fails with a clear error; the session's next run and the node go on."""

    async def scenario():
        async with Runtime("memory://", [deep]) as rt:
            failed = await rt.start(deep, levels, session="one")
            with pytest.raises(RunFailed, match=r"nested too deep|recursion"):
                await failed.result()
            return await (await rt.start(deep, 3, session="one")).result()

    assert asyncio.run(scenario()) == "kept"


def test_a_question_that_is_opened_and_dropped_in_one_commit_is_not_left_open():
    """Nobody is asked what a run that has ended no longer wants to know."""

    async def scenario():
        async with Runtime("memory://", [impatient]) as rt:
            run = await rt.start(impatient)
            await run.result()
            return await rt.inbox(), [event.type for event in await rt.journal(run.id)]

    inbox, types = asyncio.run(scenario())

    assert inbox == []
    assert types[-3:] == ["ask.opened", "ask.withdrawn", "run.succeeded"]
