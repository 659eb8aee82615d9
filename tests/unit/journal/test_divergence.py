"""Code that no longer fits its journal: the run is parked with a message that helps, and nothing is done."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from perdure import Context, agent, tool
from perdure.errors import NonDeterminismError
from tests.unit.journal.driver import Drive, copied, fresh_brain
from tests.unit.journal.scenarios import undo, work


@tool(effect="read", name="work")
async def counting(item: str) -> int:
    """What `work` might become: another result."""
    return len(item)


@agent
async def recorded(ctx: Context) -> str:
    """The code that wrote the journal."""
    first = await work("a")
    await ctx.emit("progress", {"half": True})
    return first + await undo("b")


@agent
async def swapped(ctx: Context) -> str:
    """Two steps changed places."""
    first = await undo("b")
    await ctx.emit("progress", {"half": True})
    return first + await work("a")


@agent
async def shortened(ctx: Context) -> str:
    """A step is gone from the middle."""
    return await work("a") + await undo("b")


@agent
async def lengthened(ctx: Context) -> str:
    """A step was put in before the others."""
    await ctx.emit("custom.begun")
    return await work("a") + await undo("b")


@agent
async def ended_early(ctx: Context) -> str:
    """Nothing is asked for after the first step."""
    return await work("a")


@agent
async def retyped(ctx: Context) -> int:
    """The first step's result has another type."""
    return await counting("a")


@agent
async def swallowing(ctx: Context) -> str:
    """Catches whatever can be caught, and tries to go on."""
    for _ in range(20):
        try:
            await undo("x")
        except BaseException:  # noqa: BLE001 - that is the point
            await ctx.emit("custom.ignored")
        finally:
            ctx.state["tried"] = True
            with contextlib.suppress(BaseException):
                await asyncio.gather(work("y"), work("z"))
    return "got away"


def journal_of(code: Any) -> Drive:
    """A run of `code`, played to the end of step 3."""
    drive = Drive(code).start()
    drive.complete(1, "A")
    return drive


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (swapped, r"step 1 was recorded as tool 'work' \(test_.*:\d+\), .* asks for tool 'undo' \(test_.*:\d+\)"),
        (shortened, r"step 2 was recorded as emit 'progress' \(place .*\), .* asks for tool 'undo' \(test_.*:\d+\)"),
        (lengthened, r"step 1 was recorded as tool 'work' .*, but the code now asks for emit 'custom.begun'"),
        (ended_early, r"step 2 was recorded as emit 'progress' .*, but the code no longer asks for it"),
        (retyped, r"the recorded result of step 1 \(tool work\) does not fit the types in the code any more"),
        (swallowing, r"step 1 was recorded as tool 'work' .*, but the code now asks for tool 'undo'"),
    ],
)
def test_changed_code_is_told_apart_and_does_nothing(code, expected):
    """What was recorded, what is asked for, both with file and line, and the three ways out; no command, no state."""
    brain = fresh_brain(code)
    brain.replay(copied(journal_of(recorded).journal))
    assert isinstance(brain.divergence, NonDeterminismError)
    assert brain.divergence.args[0].startswith("run run_0000000001: ")
    with pytest.raises(NonDeterminismError, match=expected):
        raise brain.divergence
    for way_out in ("ctx.patched", "perdure retry run_0000000001", "perdure fork run_0000000001", "perdure cancel"):
        assert way_out in str(brain.divergence)
    assert brain.take_commands() == []
    assert brain.take_state_changes() == {}
    assert brain.outcome is None
    brain.evict()


def test_a_parked_run_learns_nothing_more():
    """Events that still come change nothing, until somebody has taken one of the ways out."""
    journal = journal_of(recorded)
    brain = fresh_brain(swallowing)
    brain.replay(copied(journal.journal))
    steps = brain.steps
    journal.complete(3, "done")
    brain.deliver(journal.journal[-1])
    journal.cancel()
    brain.deliver(journal.journal[-1])
    assert (brain.steps, brain.take_commands(), brain.outcome) == (steps, [], None)
    brain.evict()
    assert brain.take_commands() == []


def test_the_same_code_does_not_diverge():
    """So it is the change that is told, not the replay."""
    journal = journal_of(recorded)
    brain = fresh_brain(recorded)
    brain.replay(copied(journal.journal))
    assert brain.divergence is None
    assert all(command.recorded for command in brain.take_commands())


def test_arguments_may_change():
    """A step is known by its kind and name: correcting what it is asked for is no divergence."""

    @agent
    async def corrected(ctx: Context) -> str:
        """Ask for something better."""
        first = await work("better")
        await ctx.emit("progress", {"half": 1})
        return first + await undo("better")

    brain = fresh_brain(corrected)
    brain.replay(copied(journal_of(recorded).journal))
    assert brain.divergence is None


def test_names_that_need_escapes_are_compared_too():
    """A question is named by its text, quotes and all."""

    @agent
    async def asking(ctx: Context, question: str) -> Any:
        """Ask."""
        return await ctx.ask(question)

    drive = Drive(asking, question='Is "ü" \\ a letter?').start()
    other = Drive(asking, question='Is "u" \\ a letter?').start()
    brain = fresh_brain(asking)
    brain.replay([drive.journal[0], *copied(other.journal[1:])])
    assert brain.divergence is not None


@agent
async def upgraded(ctx: Context) -> list[Any]:
    """The old code was: work, undo. The new one asks first, in runs that have not come that far."""
    seen: list[Any] = [await work("a")]
    for _ in range(2):
        if ctx.patched("ask-first"):
            seen.append(await ctx.ask("Sure?", bool))
        seen.append(await undo("b"))
    return seen


@agent
async def outdated(ctx: Context) -> list[Any]:
    """The code before."""
    return [await work("a"), await undo("b"), await undo("b")]


@pytest.mark.parametrize("done", [0, 1, 2, 3])
def test_a_patch_takes_the_new_path_only_where_nothing_is_recorded_ahead(done):
    """Old runs stay on the old path to their end, also in turns of a loop they have not come to."""
    drive = Drive(outdated).start()
    for step in range(1, done + 1):
        drive.complete(step, str(step))
    new = Drive.of(upgraded, drive.journal)
    assert new.brain.divergence is None
    assert new.play().value.count(True) == (2 if done == 0 else 0)
    again = fresh_brain(upgraded)
    again.replay(copied(new.journal))
    assert again.divergence is None
    assert new.types.count("run.patched") == (1 if done == 0 else 0)
