"""A run that leaves memory leaves nothing behind: no task, no word, no effect, no byte."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import os
import subprocess
import sys
import tracemalloc
import weakref
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from perdure import Context, agent, tool
from perdure.journal.brain import Brain
from perdure.values.events import Event
from tests.unit.journal.driver import Drive, Plan, copied, fresh_brain
from tests.unit.journal.scenarios import SCENARIOS, child, work

_ROOT = Path(__file__).parents[3]
acted: list[str] = []


@tool(effect="once")
def act(item: str) -> None:
    """Something that must not happen."""
    acted.append(item)


@agent
async def tidy(ctx: Context) -> None:
    """Cleans up, on every level, with steps and with everything that waits."""

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            await work("in the generator")
        finally:
            await act("generator")

    ctx.compensate(act, "compensation")
    try:
        async with asyncio.TaskGroup() as group, asyncio.timeout(60), asyncio.Lock():
            group.create_task(_tidy_task())
            group.create_task(asyncio.sleep(60))
            async for _ in numbers():
                ctx.spawn(child, "c")
    finally:
        await act("main")
        await ctx.emit("custom.gone")
        await ctx.send("someone", "gone")
        await asyncio.sleep(1)
        ctx.state["gone"] = True


async def _tidy_task() -> None:
    try:
        await work("in the task")
    finally:
        await asyncio.gather(act("task"), act("task"))


@pytest.fixture(autouse=True)
def _nothing_acts():
    acted.clear()
    yield
    gc.collect()
    assert acted == []


def test_clean_up_code_of_an_evicted_run_asks_for_nothing():
    """`finally` blocks run, and what they want to do is not done, neither as a step nor for real."""
    drive = Drive(tidy).start()
    asked, waits = drive.brain.steps, drive.waits
    drive.brain.evict()
    assert drive.brain.take_commands() == []
    assert drive.brain.steps == asked
    assert [text for text in waits if "sleep" not in text] == [text for text in drive.waits if "sleep" not in text]
    drive.complete(1, "late")
    assert drive.brain.outcome is None


def test_a_run_that_is_dropped_without_eviction_does_not_act_either():
    """Collected as it is, its clean-up code would run as plain code, with tools that are plain functions."""
    drive = Drive(tidy).start()
    del drive
    gc.collect()


def test_evicting_at_every_moment_is_silent(capfd, caplog, monkeypatch):
    """No "Task was destroyed", no "never awaited", no "ignored GeneratorExit", whatever the code was doing."""
    unraisable: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    for agent_, plan in [*SCENARIOS.values(), (tidy, Plan(world=lambda _: None))]:
        journal = Drive(agent_, state={"old": 1}).start().play(1, plan).journal
        for length in range(2, len(journal), 2):
            brain = fresh_brain(agent_)
            brain.replay(copied(journal[:length]))
            brain.evict()
            del brain
    gc.collect()
    assert (unraisable, caplog.text, capfd.readouterr()) == ([], "", ("", ""))


def test_code_that_cannot_be_ended_is_left_asleep(caplog):
    """A loop that swallows everything neither hangs the node nor runs on by itself; a warning says what to change."""

    @agent
    async def undying(ctx: Context) -> None:
        """Never give up."""
        while True:
            with contextlib.suppress(BaseException):
                await act("again")

    Drive(undying).start().brain.evict()
    gc.collect()
    assert "catch Exception, not more" in caplog.text


def test_code_that_listens_whatever_happens_is_left_asleep_too(caplog):
    """What it awaits lets it wait, as ever; if that raised at once instead, it would never come to rest."""
    tries: list[BaseException] = []

    @agent
    async def listening(ctx: Context) -> Any:
        """Try again, and again."""
        while len(tries) < 10_000:
            try:
                async with asyncio.TaskGroup():
                    return await ctx.receive("post", int, timeout=60)
            except BaseException as error:  # noqa: BLE001 - that is the point
                tries.append(error)

    Drive(listening).start().brain.evict()
    assert 0 < len(tries) <= 100
    assert "catch Exception, not more" in caplog.text


_tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")


def test_clean_up_code_runs_in_the_context_of_its_task():
    """It finds its variables and its task; what it sets is nobody else's to see."""
    seen: list[Any] = []

    @agent
    async def renting(ctx: Context) -> None:
        """A task of its own, with a variable of its own."""
        await asyncio.create_task(_rent(seen))

    drive = Drive(renting).start()
    drive.brain.evict()
    assert seen == ["acme", "task", "nobody"]
    assert _tenant.get() == "nobody"


async def _rent(seen: list[Any]) -> None:
    token = _tenant.set("acme")
    try:
        await work("a")
    finally:
        task = asyncio.current_task()
        seen += [_tenant.get(), task and task.get_name()]
        _tenant.reset(token)
        seen.append(_tenant.get())
        _tenant.set("left behind")


def test_a_task_that_was_not_made_by_create_task_is_unwound_like_others():
    """`asyncio.Task(...)` goes past the loop; left to the collector, its clean-up code would act for real."""
    seen: list[str] = []

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("unwound")
            await act("by the garbage collector")

    @agent
    async def old_school(ctx: Context) -> None:
        """As one does not do any more."""
        asyncio.Task(wait())
        await work("a")

    drive = Drive(old_school).start()
    drive.brain.evict()
    assert seen == ["unwound"]


def test_tasks_that_are_left_over_when_a_run_ends_have_no_say_in_its_state():
    """What they do while they are dropped is not part of the run."""

    @agent
    async def hasty(ctx: Context) -> str:
        """Return while a task still works."""
        ctx.state["kept"] = []

        async def meddle() -> None:
            try:
                await work("forgotten")
            finally:
                ctx.state["kept"].append("meddled")
                ctx.state["more"] = 1

        asyncio.create_task(meddle())  # noqa: RUF006 - that is the point
        return await work("a")

    drive = Drive(hasty).start()
    drive.complete(1, "A")
    assert drive.value == "A"
    assert drive.saved == {"kept": []}


def test_memory_is_free_at_once():
    """Without a garbage collection: the brain, its context and its tasks are in no cycle."""
    kept: list[weakref.ref[Any]] = []

    @agent
    async def waiting(ctx: Context) -> None:
        """Wait in three ways."""
        kept.append(weakref.ref(ctx))
        async with asyncio.timeout(60):
            await asyncio.gather(work("a"), ctx.ask("Well?"), asyncio.sleep(5))

    brain = _begun(waiting)
    kept.append(weakref.ref(brain))
    gc.disable()
    try:
        brain.evict()
        del brain
        assert [ref() for ref in kept] == [None, None]
    finally:
        gc.enable()


def test_a_live_waiting_run_takes_less_than_8_kilobytes():
    """Twenty thousand of them are 160 MB; those that leave memory take nothing."""
    tracemalloc.start()
    _bytes_of(500)  # what is made once, and kept for reuse by the interpreter, is not counted
    rounds = [_bytes_of(500) for _ in range(4)]
    tracemalloc.stop()
    assert max(each for each, _ in rounds) < 8 * 1024
    # asyncio's set of tasks doubles its table in one round or another (64 KB at once); what a run leaks, it leaks in all.
    assert min(left for _, left in rounds) < 10


def test_a_replayed_run_keeps_nothing_of_its_journal():
    """However long it was: 500 steps of 1 KB leave what one wait takes."""

    @agent
    async def long(ctx: Context) -> None:
        """Many steps."""
        for number in range(501):
            await work(str(number))

    drive = Drive(long).start()
    for step in range(1, 501):
        drive.complete(step, "r" * 1_000)
    fresh_brain(long).replay(copied(drive.journal))
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    brain = fresh_brain(long)
    brain.replay(copied(drive.journal))
    brain.take_commands()
    gc.collect()
    kept = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert brain.steps == 501
    assert kept < 16 * 1024


def test_an_interpreter_that_ends_with_live_runs_says_nothing():
    """With warnings as errors, and without anybody evicting anything."""
    code = """
from tests.unit.journal.driver import Drive
from tests.unit.journal.test_eviction import tidy
drives = [Drive(tidy).start() for _ in range(3)]
drives[0].brain.evict()
"""
    path = os.pathsep.join([str(_ROOT / "src"), str(_ROOT)])
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True,
        text=True, timeout=50, check=False,
    )  # fmt: skip
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


@agent
async def _ask(ctx: Context) -> Any:
    return await ctx.ask("Well?")


def _bytes_of(runs: int) -> tuple[float, float]:
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    brains = [_begun(_ask) for _ in range(runs)]
    live = tracemalloc.get_traced_memory()[0] - before
    while brains:
        brains.pop().evict()
    gc.collect()
    return live / runs, (tracemalloc.get_traced_memory()[0] - before) / runs


def _begun(code: Any) -> Brain:
    brain = fresh_brain(code)
    brain.deliver(Event(brain.run, 1, "run.queued", 1, None, None, '{"input":{}}'))
    brain.deliver(Event(brain.run, 2, "run.started", 2, None, None, "{}"))
    brain.take_commands()
    return brain
