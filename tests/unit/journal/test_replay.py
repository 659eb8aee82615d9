"""A run is a function of its journal, whatever its code does with asyncio and in whatever order results come."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from perdure import Context, agent
from perdure.errors import AgentError, NotJsonError
from perdure.journal.ending import Outcome
from perdure.values.events import Event
from tests.unit.journal.driver import Drive, Plan, copied, describe, fresh_brain
from tests.unit.journal.replaying import check_every_prefix, check_going_on
from tests.unit.journal.scenarios import SCENARIOS, undo, work

_ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_prefix_of_a_journal_gives_back_the_run(name):
    """Commands, waits, time, state and outcome are those of the live run, for many orders of results."""
    agent, plan = SCENARIOS[name]
    for seed in [None, *range(6)]:
        drive = Drive(agent, state={"old": 1}).start().play(seed, plan)
        assert drive.over, drive.waits
        check_every_prefix(drive)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_run_goes_on_from_wherever_its_journal_breaks_off(name):
    """What comes after a crash need not come in the order it would have come without."""
    agent, plan = SCENARIOS[name]
    check_going_on(Drive(agent, state={"old": 1}).start().play(7, plan), plan)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_cancelled_run_gives_itself_back_too(name):
    """Clean-up is part of the function: cancelled anywhere, every prefix agrees."""
    agent, plan = SCENARIOS[name]
    for moment in range(2, 9):
        drive = Drive(agent, state={"old": 1}).start()
        drive.play(moment, Plan(mail=plan.mail, cancel_after=moment))
        assert drive.over, drive.waits
        check_every_prefix(drive)


def test_the_order_of_sets_does_not_depend_on_the_process():
    """Hash seeds and addresses differ between processes; what a run asks for does not."""
    orders = {_in_another_process(seed) for seed in ("0", "1", "2", "3")}
    assert len(orders) == 1
    assert len(json.loads(orders.pop())) == len(SCENARIOS)


@agent
async def waiting_for_groups(ctx: Context) -> list[int]:
    """Cancel what is pending: twelve times what gather() gives, or twelve futures without a number."""
    bare: dict[asyncio.Future[int], int] = {asyncio.Future(): number for number in range(12)}
    for future in bare:
        asyncio.get_running_loop().call_later(60, future.set_result, 0)
    groups = [asyncio.gather(_tidy(number)) for number in range(12)]
    _, pending = await asyncio.wait(groups, timeout=2)
    for group in pending:
        group.cancel()
    await asyncio.wait(pending)
    done, _ = await asyncio.wait(bare)
    return [bare[done.pop()], *(bare[future] for future in done)]


async def _tidy(number: int) -> None:
    try:
        await work(str(number))
    finally:
        await undo(str(number))


def test_gathered_and_bare_futures_come_out_in_one_order_too():
    """Whatever their addresses: live and in every replay."""
    live = Drive(waiting_for_groups).start()
    live.fire(13)
    live.play()
    assert live.value == [*range(12)]
    asked = [text for text, _ in live.asked]
    ballast = []
    for _ in range(5):
        ballast.append([bytearray(random.randrange(400)) for _ in range(random.randrange(99))])
        brain = fresh_brain(waiting_for_groups)
        brain.replay(copied(live.journal))
        assert [describe(command) for command in brain.take_commands()] == asked
        assert brain.outcome == live.brain.outcome


@agent
async def impassable(ctx: Context, how: str) -> None:
    """Come to where it cannot go on; clean up."""
    ctx.compensate(undo, "a")
    await work("a")
    try:
        if how == "state":
            ctx.state["bad"] = {1, object()}
            await work("b")
        await asyncio.Event().wait()
    finally:
        ctx.state["bad"] = "good again"
        await undo("b")


@pytest.mark.parametrize(("how", "error"), [("stuck", AgentError), ("state", NotJsonError)])
def test_a_run_that_could_not_go_on_replays_from_wherever_its_journal_breaks_off(how, error):
    """The journal remembers when it was told: a cancellation in the middle of its clean-up changes nothing of that."""
    for cancel_after in (None, 3, 4):
        drive = Drive(impassable, how=how).start().play(plan=Plan(cancel_after=cancel_after))
        with pytest.raises(error):
            _ = drive.value
        assert drive.saved == {"bad": "good again"}
        assert drive.types.count("run.failing") == 1
        check_every_prefix(drive)
        check_going_on(drive)


def test_a_run_that_was_cancelled_while_nothing_could_wake_it_still_replays():
    """Journals of an older Perdure, which let it wait: it was cancelled, and cleaned up, and that is what it did."""
    drive = Drive(impassable, how="stuck").start()
    drive.complete(1, "A")
    journal = [event for event in drive.journal if event.type != "run.failing" and event.step != 2]
    outcomes: list[Outcome | None] = []
    for type, step, attempt, raw in [
        ("run.cancelling", None, None, "{}"), ("step.started", 2, 1, '{"step":2,"kind":"tool","name":"undo"}'),
        ("step.completed", 2, 1, '{"step":2,"result":""}'),
        ("step.started", 3, 1, '{"step":3,"kind":"tool","name":"undo"}'),
        ("step.completed", 3, 1, '{"step":3,"result":""}'), ("run.cancelled", None, None, "{}"),
    ]:  # fmt: skip
        journal.append(Event(drive.brain.run, 100 + len(journal), type, drive.now_us, step, attempt, raw))
        brain = fresh_brain(impassable, drive.brain.run)
        brain.replay(copied(journal))
        assert brain.divergence is None
        assert brain.cancelling
        assert "failure" not in [command.kind for command in brain.take_commands()]
        outcomes.append(brain.outcome)
    assert outcomes[-1] == Outcome(cancelled=True)


def _in_another_process(hash_seed: str) -> str:
    code = """
import json, random
ballast = [bytearray(random.randrange(9000)) for _ in range(random.randrange(3000))]  # other addresses each time
from tests.unit.journal.driver import Drive
from tests.unit.journal.scenarios import SCENARIOS
print(json.dumps({n: Drive(a, state={"old": 1}).start().play(5, p).asked for n, (a, p) in SCENARIOS.items()}))
"""
    path = os.pathsep.join([str(_ROOT / "src"), str(_ROOT)])
    run = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": path},
        capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return run.stdout
