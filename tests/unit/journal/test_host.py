"""A run inside a host: the host's loop, task and hooks are its own again after every event; nothing leaks out."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from perdure import Context, agent
from perdure.journal.brain import current_brain
from tests.unit.journal.driver import Drive, Plan
from tests.unit.journal.replaying import check_every_prefix
from tests.unit.journal.scenarios import SCENARIOS, work

_host_variable: contextvars.ContextVar[str] = contextvars.ContextVar("host", default="unset")


def test_the_hosts_loop_and_task_are_intact_after_every_event():
    """Runs play inside a task of a real loop, one event at a time, several at once."""

    async def host() -> int:
        loop, task, hooks = asyncio.get_running_loop(), asyncio.current_task(), sys.get_asyncgen_hooks()
        drives = [Drive(code, state={"old": 1}).start() for code, _ in SCENARIOS.values()]
        turns = 0
        while any(not drive.over for drive in drives):
            for drive, (_, plan) in zip(drives, SCENARIOS.values(), strict=True):
                drive.play(turns, Plan(plan.world, plan.mail, cancel_after=drive.inputs + 2))
                assert asyncio.get_running_loop() is loop
                assert asyncio.current_task() is task
                assert sys.get_asyncgen_hooks() == hooks
                assert current_brain() is None
            turns += 1
            await asyncio.sleep(0)
        return turns

    assert asyncio.run(host()) > 0


def test_a_run_replays_alike_inside_and_outside_of_a_host():
    """The journal of one is good for the other."""

    async def host() -> Drive:
        return Drive(SCENARIOS["grouped"][0]).start().play(3)

    check_every_prefix(asyncio.run(host()))


def test_agent_code_sees_its_own_loop_task_and_context():
    """Not the host's: what the host has in its context is not the run's to know."""

    @agent
    async def looking(ctx: Context) -> list[Any]:
        """Look around."""
        task = asyncio.current_task()
        assert task is not None
        tasks = asyncio.all_tasks()
        await work("a")
        return [_host_variable.get(), task.get_name(), len(tasks), asyncio.get_running_loop().time()]

    async def host() -> Any:
        _host_variable.set("secret")
        return Drive(looking).start().play().value

    assert asyncio.run(host()) == ["unset", "task", 1, 1_700_000_000.004]


def test_the_hosts_generators_are_finalised_by_the_host():
    """A generator of the host that is collected while agent code runs goes to the host's loop."""
    closed: list[asyncio.AbstractEventLoop] = []
    generators: list[Any] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            closed.append(asyncio.get_running_loop())

    @agent
    async def dropping(ctx: Context) -> None:
        """Drop what belongs to the host."""
        generators.clear()

    async def host() -> bool:
        generators.append(numbers())
        await anext(generators[0])
        Drive(dropping).start()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return closed == [asyncio.get_running_loop()]

    assert asyncio.run(host())


@pytest.mark.parametrize(
    "error", [ValueError("x"), SystemExit(3), asyncio.CancelledError(), GeneratorExit(), BaseException("y")]
)
def test_what_agent_code_raises_is_its_outcome_and_nobody_elses(error):
    """Whatever it is, even sys.exit(); in the agent itself or in a task."""

    @agent
    async def raising(ctx: Context) -> None:
        """Raise here, or in a task."""
        await work("a")
        if ctx.state.get("in_task"):
            await asyncio.create_task(_raise())
        raise error

    async def _raise() -> None:
        raise error

    for in_task in (False, True):
        drive = Drive(raising, state={"in_task": in_task}).start()
        drive.complete(1, "A")
        assert drive.brain.outcome is not None
        assert type(drive.brain.outcome.error) is type(error)
        check_every_prefix(drive)


def test_ctrl_c_reaches_the_host_and_is_not_the_runs_failure():
    """The run has no outcome; it goes on from its journal another day."""

    @agent
    async def interrupted(ctx: Context) -> str:
        """The first time, somebody presses Ctrl-C."""
        await work("a")
        if presses:
            raise presses.pop()
        return "done"

    presses: list[BaseException] = [KeyboardInterrupt()]
    drive = Drive(interrupted).start()
    with pytest.raises(KeyboardInterrupt):
        drive.complete(1, "A")
    drive.message("post", "too late")
    assert drive.brain.outcome is None
    assert Drive.of(interrupted, drive.journal).value == "done"


def test_state_that_json_cannot_hold_fails_the_run_by_name():
    """When it would have to be saved; nothing else of that moment is."""

    @agent
    async def careless(ctx: Context, key: Any = "a") -> None:
        """Put something into the state that does not belong there."""
        ctx.state[key if key != "number" else 7] = object() if key == "a" else 1
        await work("a")

    with pytest.raises(TypeError, match="object has no JSON form"):
        _ = Drive(careless).start().value
    with pytest.raises(TypeError, match=r"ctx.state\[7\]: keys of the state are strings"):
        _ = Drive(careless, key="number").start().value


def test_what_agent_code_does_to_a_result_stays_its_own():
    """The event keeps what was recorded: others read it, too, and a replay reads it again."""

    @agent
    async def greedy(ctx: Context) -> list[Any]:
        """Change everything that can be changed."""
        answer = await ctx.ask("Which?")
        answer.append("mine")
        message = await ctx.receive("post")
        message["mine"] = True
        ctx.state["list"].append("mine")
        return [answer, message, ctx.state["list"]]

    drive = Drive(greedy, state={"list": []}).start()
    drive.answer(1, ["theirs"])
    drive.message("post", {})
    assert drive.value == [["theirs", "mine"], {"mine": True}, ["mine"]]
    assert [event.data.get("value", event.data.get("state")) for event in drive.journal if "mine" not in event.raw] == [
        None, {"list": []}, None, ["theirs"], None, {},
    ]  # fmt: skip
    brain = drive.brain
    again = Drive.of(greedy, drive.journal)
    assert again.brain.outcome == brain.outcome
