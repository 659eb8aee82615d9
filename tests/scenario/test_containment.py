"""What one run says, holds or is sent never stops the node, the session or another run."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from contextlib import closing
from typing import Annotated, Any

import apsw
import pytest
from pydantic import AfterValidator

from perdure import DID_NOT_HAPPEN, Context, Event, Settings, agent, current_step, tool
from perdure.errors import InvalidInput, JournalDamaged, NotFound, RunFailed, StepError
from perdure.journal.brain import Brain
from perdure.kernel.starting import put_signal
from tests.scenario.worlds import Box, World, play, settle

HALF_AN_EMOJI = json.loads('"\\ud83d"')


class UnprintableError(Exception):
    """An error that cannot even say what it is."""

    def __str__(self) -> str:
        raise KeyError("no text")


class NotAnException(BaseException):
    """What a tool should not raise, and some library does."""


class NoSchema:
    """A result that JSON Schema cannot describe."""


def look_up(value: str) -> str:
    """A validator that raises what validators should not."""
    return {"known": "known"}[value]


@tool(effect="read")
async def read() -> int:
    """One."""
    return 1


@agent
async def bystander(ctx: Context) -> str:
    """Has nothing to do with it."""
    await read()
    return "unharmed"


async def _raises(ctx: Context) -> None:
    raise ValueError(f"the model said {HALF_AN_EMOJI}")


async def _raises_unprintable(ctx: Context) -> None:
    raise UnprintableError


async def _asks(ctx: Context) -> None:
    await ctx.ask(f"Is {HALF_AN_EMOJI} well?")


async def _receives(ctx: Context) -> None:
    await ctx.receive(f"topic {HALF_AN_EMOJI}")


async def _sends(ctx: Context) -> None:
    await ctx.send("nobody", f"topic {HALF_AN_EMOJI}", 1)


async def _names_a_step(ctx: Context) -> None:
    await ctx.step(lambda: 1, effect="read", name=f"step {HALF_AN_EMOJI}")


async def _emits(ctx: Context) -> None:
    await ctx.emit(f"custom.{HALF_AN_EMOJI}", {})


async def _approves(ctx: Context) -> None:
    await ctx.approve("go", reason=HALF_AN_EMOJI)


async def _spawns(ctx: Context) -> None:
    await ctx.spawn(bystander, session=HALF_AN_EMOJI)


async def _patches(ctx: Context) -> None:
    ctx.patched(HALF_AN_EMOJI)


async def _streams(ctx: Context) -> None:
    await ctx.step(lambda: current_step().stream("x", HALF_AN_EMOJI), effect="read", name="stream", retries=0)


async def _keeps_in_its_state(ctx: Context) -> None:
    ctx.state[HALF_AN_EMOJI] = 1
    await read()


async def _counts_too_far(ctx: Context) -> None:
    ctx.state["count"] = 10**5000
    await read()


ODD: list[Callable[[Context], Any]] = [
    _raises, _raises_unprintable, _asks, _receives, _sends, _names_a_step, _emits, _approves, _spawns, _patches,
    _streams, _keeps_in_its_state, _counts_too_far,
]  # fmt: skip


@pytest.mark.parametrize("act", ODD)
@pytest.mark.parametrize("after_a_step", [False, True])
def test_what_no_journal_can_hold_ends_or_parks_its_own_run(world, act, after_a_step):
    """Half characters, endless numbers, errors without text: the run fails or is parked, and others go on."""

    @agent
    async def odd(ctx: Context) -> str:
        if after_a_step:
            await read()
        await act(ctx)
        return "fine"

    async def scenario():
        await world.start(odd, bystander)
        run = await world.rt.start(odd)
        await settle()
        assert (await world.status(run)).status in ("failed", "quarantined")
        assert await (await world.rt.start(bystander)).result() == "unharmed"
        await world.restart(odd, bystander)
        assert (await world.status(run)).status in ("failed", "quarantined")
        assert await (await world.rt.start(bystander)).result() == "unharmed"

    play(world, scenario)


@pytest.mark.parametrize("error", [ValueError(HALF_AN_EMOJI), UnprintableError(), NotAnException(), SystemExit(3)])
def test_whatever_a_tool_raises_is_the_outcome_of_its_step(world, error):
    """The agent gets a StepError, the run goes on."""

    @tool(effect="read", retries=0)
    async def odd() -> None:
        raise error

    @agent
    async def catching(ctx: Context) -> str:
        try:
            await odd()
        except StepError as caught:
            return caught.type
        return "nothing was raised"

    async def scenario():
        await world.start(catching)
        assert await (await world.rt.start(catching)).result() == type(error).__name__

    play(world, scenario)


def test_what_was_noted_on_an_error_is_in_the_journal(world):
    """`add_note` reaches whoever looks at the run."""

    @agent
    async def noting(ctx: Context) -> None:
        error = ValueError("no such item")
        error.add_note("while ordering a pen")
        raise error

    async def scenario():
        await world.start(noting)
        run = await world.rt.start(noting)
        with pytest.raises(RunFailed):
            await run.result()
        assert (await world.journal(run))[-1].data["error"]["notes"] == ["while ordering a pen"]

    play(world, scenario)


def test_a_run_that_nothing_can_wake_fails_and_gives_its_place_back(world):
    """It compensates first, also when its worker dies in the middle of that; the journal says why."""
    box = Box()

    @tool(effect="keyed")
    async def refund() -> None:
        box.note("refund")
        await box.wait()

    @agent(concurrency=1)
    async def stuck(ctx: Context, wise: bool) -> str:
        if not wise:
            ctx.compensate(refund)
            await asyncio.Event().wait()
        return "went on"

    async def scenario():
        await world.start(stuck)
        run = await world.rt.start_json("stuck", {"wise": False})
        await box.reached(1)
        await world.restart(stuck)
        await box.reached(2)
        box.open()
        await world.becomes(run, "failed")
        assert (await world.types(run)).count("run.failing") == 1
        error = (await world.journal(run))[-1].data["error"]
        assert (error["type"], "nothing can bring" in error["message"]) == ("AgentError", True)
        other = await world.rt.start_json("stuck", {"wise": True})
        assert await other.result() == "went on"

    play(world, scenario)


def test_a_signal_that_cannot_be_taken_is_said_and_gone(world):
    """One of an unknown kind, or without what it needs, neither stops the node nor comes again."""

    @agent
    async def hearing(ctx: Context) -> str:
        return await ctx.receive("word", str)

    async def scenario():
        await world.start(hearing)
        run = await world.rt.start(hearing)
        await settle()
        for kind in ("of a newer version", "resolve"):
            await put_signal(world.rt.kernel, {"run": run.id, "agent": "hearing"}, kind, "{}")
        await settle()
        assert (await world.types(run)).count("run.warning") == 2
        assert await world.rt.store.run_signals(run.id) == []
        await run.send("word", "still here")
        assert await run.result() == "still here"

    play(world, scenario)


def test_a_result_that_breaks_the_tools_own_validator_is_refused(world):
    """`resolve` with what its type cannot take leaves the step as unknown as it was."""
    box = Box()

    @tool(effect="once")
    async def pay() -> Annotated[str, AfterValidator(look_up)]:
        await box.wait()
        return "known"

    @agent
    async def paying(ctx: Context) -> str:
        return await pay()

    async def scenario():
        await world.start(paying)
        run = await world.rt.start(paying)
        await settle()
        await world.restart(paying)
        await world.becomes(run, "waiting")
        await world.rt.resolve(run.id, 1, "happened", result="unheard of")
        await world.until(run, "run.warning")
        assert (await world.becomes(run, "waiting")).wait["kind"] == "unknown"
        await world.rt.resolve(run.id, 1, "happened", result="known")
        assert await (await world.rt.run(run.id)).result() == "known"

    play(world, scenario)


async def _exits() -> None:
    sys.exit(2)


async def _cancels_itself() -> None:
    raise asyncio.CancelledError


async def _hangs() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("probe", [_exits, _cancels_itself, _hangs])
def test_a_probe_that_breaks_leaves_it_to_people(world, probe):
    """It exits, cancels itself or never answers: the step is of unknown outcome, and can be resolved."""
    box = Box()

    @tool(effect="once")
    async def pay() -> NoSchema:
        await box.wait()
        return NoSchema()

    pay.reconcile(probe)

    @agent
    async def paying(ctx: Context) -> str:
        try:
            await pay()
        except StepError as error:
            return error.type
        return "paid"

    async def scenario():
        await world.start(paying)
        run = await world.rt.start(paying)
        await settle()
        await world.restart(paying)
        await world.clock.advance(61)
        assert (await world.becomes(run, "waiting")).wait["kind"] == "unknown"
        await world.rt.resolve(run.id, 1, "fail")
        assert await (await world.rt.run(run.id)).result() == "UnknownOutcome"

    play(world, scenario)


def test_a_paused_run_begins_nothing_that_a_probe_calls_for(world):
    """What did not happen is done when the run is resumed, and not before; also by another worker."""
    box = Box()

    @tool(effect="once")
    async def pay() -> str:
        box.note("pay")
        await box.wait()
        return "paid"

    @pay.reconcile
    async def probe() -> object:
        await box.wait("probe")
        return DID_NOT_HAPPEN

    @agent
    async def paying(ctx: Context) -> str:
        return await pay()

    async def scenario():
        await world.start(paying)
        run = await world.rt.start(paying)
        await settle()
        await world.restart(paying)
        await world.rt.pause(run.id)
        box.open("probe")
        await world.until(run, "step.resolved")
        await settle()
        assert (await world.status(run)).status == "paused"
        assert box.calls == ["pay"]
        await world.rt.resume(run.id)
        await settle()
        assert box.calls == ["pay", "pay"]
        box.open()
        assert await (await world.rt.run(run.id)).result() == "paid"

    play(world, scenario)


def test_sql_that_is_refused_after_the_run_ended_writes_nothing_after_the_end(world):
    """The last event of a run is the last, whatever comes of a step that nobody waited for."""

    @tool(effect="transaction")
    async def insert() -> int:
        current_step().execute("insert into nowhere values (1)")
        return 2

    @agent
    async def leaving(ctx: Context) -> str:
        background = asyncio.create_task(insert())
        await read()
        return f"left {background.get_name()}"[:4]

    async def scenario():
        await world.start(leaving)
        run = await world.rt.start(leaving)
        assert await run.result() == "left"
        await settle()
        assert (await world.types(run))[-1] == "run.succeeded"
        assert (await world.status(run)).status == "succeeded"

    play(world, scenario)


def test_a_parked_run_gives_its_place_back_and_goes_on_when_released(world, monkeypatch):
    """A step that was under way is cut off; nothing of the run stays in memory."""

    @tool(effect="read")
    async def hang() -> None:
        await asyncio.Event().wait()

    @agent(concurrency=1)
    async def waiting(ctx: Context) -> str:
        hanging = asyncio.create_task(hang())
        word = await ctx.receive("word", str)
        hanging.cancel()
        return word

    def broken(brain: Brain, event: Event) -> None:
        raise RuntimeError("a fault of the kernel")

    async def scenario():
        await world.start(waiting)
        run = await world.rt.start(waiting)
        await settle()
        with monkeypatch.context() as patch:
            patch.setattr(Brain, "deliver", broken)
            await run.send("word", "x")
            await world.becomes(run, "quarantined")
        other = await world.rt.start(waiting)
        await world.clock.advance(1)
        assert "step.started" in await world.types(other)
        await other.cancel()
        await world.becomes(other, "cancelled")
        await world.rt.retry(run.id)
        assert await (await world.rt.run(run.id)).result() == "x"

    play(world, scenario)


def test_a_crash_loop_is_noticed_after_an_orderly_stop_too(world):
    """The row of a run that was handed over does not excuse the crashes that follow."""

    @tool(effect="read")
    async def deadly() -> None:
        await asyncio.Event().wait()

    @agent
    async def dying(ctx: Context) -> None:
        await deadly()

    async def scenario():
        await world.start(dying)
        run = await world.rt.start(dying)
        await settle()
        await world.stop(finish_seconds=0)
        await world.start(dying)
        for _ in range(world.settings.strikes_most + 1):
            await world.restart(dying)
        await world.becomes(run, "quarantined")

    play(world, scenario)


def test_mail_of_a_session_waits_while_its_run_is_parked(world):
    """When the parked run is cancelled, the session's next run gets it."""
    box = Box()

    @agent
    async def hearing(ctx: Context) -> list[int]:
        if "changed" in box.calls:
            await ctx.ask("Is this new?")
        await read()
        return [await ctx.receive("n", int) for _ in range(2)]

    async def scenario():
        await world.start(hearing)
        first = await world.rt.start(hearing, session="s")
        await settle()
        box.note("changed")
        await world.restart(hearing)
        await world.rt.send("s", "n", 1, agent="hearing")
        await world.becomes(first, "quarantined")
        await world.rt.send("s", "n", 2, agent="hearing")
        await settle()
        box.calls.clear()
        await world.rt.cancel(first.id)
        second = await world.rt.start(hearing, session="s")
        assert await second.result() == [1, 2]

    play(world, scenario)


def test_an_event_that_somebody_damaged_parks_its_run_and_is_named(tmp_path):
    """The error says which event of which run, `check` finds it, and the worker goes on with the others."""
    world = World("sqlite", tmp_path, Settings())

    @agent
    async def hearing(ctx: Context) -> int:
        await read()
        return await ctx.receive("n", int)

    async def scenario():
        await world.start(hearing)
        run, other = await world.rt.start(hearing), await world.rt.start(hearing)
        await settle()
        await world.stop()
        with closing(apsw.Connection(str(tmp_path / "world.db"))) as db:
            db.execute("update perdure_events set data = '{broken' where seq = 4 and run = 1")
        await world.start(hearing)
        await world.rt.send(run.id, "n", 1)
        await world.rt.send(other.id, "n", 1)
        await world.becomes(run, "quarantined")
        await world.becomes(other, "succeeded")
        assert await world.rt.store.check() == [f"run {run.id}: event 4 is unreadable"]
        with pytest.raises(JournalDamaged, match=f"event 4 .* of {run.id} is unreadable"):
            [event.data for event in await world.journal(run)]
        await world.stop()

    asyncio.run(scenario())


def test_the_end_of_an_ask_id_must_be_of_one_only(world):
    """Several open ones that end so are named, none is nothing, one is enough."""

    @agent
    async def asking(ctx: Context) -> str:
        return await ctx.ask("Well?", str)

    @agent
    async def asking_through_a_child(ctx: Context) -> str:
        return await ctx.spawn(asking)

    async def scenario():
        await world.start(asking, asking_through_a_child)
        runs = [await world.rt.start(asking_through_a_child) for _ in range(2)]
        await settle()
        with pytest.raises(InvalidInput, match=r"2 open questions and approvals end in '\.1:1', say which"):
            await world.rt.answer(".1:1", "yes")
        with pytest.raises(NotFound):
            await world.rt.answer("9:9", "yes")
        for run in runs:
            await world.rt.answer(f"{run.id[-4:]}.1:1", "yes")
            assert await run.result() == "yes"

    play(world, scenario)


class _Lagging:
    """A store that shows a journal without its last event, so many times."""

    def __init__(self, store: Any, times: int) -> None:
        self._store = store
        self._times = times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def events(self, run: str, after: int = 0, limit: int | None = None) -> list[Event]:
        events: list[Event] = await self._store.events(run, after, limit)
        if after or not self._times:
            return events
        self._times -= 1
        return events[:-1]


@pytest.mark.parametrize(("times", "becomes"), [(1, "succeeded"), (3, "quarantined")])
def test_a_run_whose_row_and_journal_do_not_agree_is_read_again_and_then_parked(tmp_path, times, becomes):
    """A commit may come between the two reads once; a journal that stays too short must not be continued."""
    world = World("sqlite", tmp_path, Settings())

    @agent
    async def hearing(ctx: Context) -> int:
        await read()
        return await ctx.receive("n", int)

    async def scenario():
        await world.start(hearing)
        run = await world.rt.start(hearing)
        await settle()
        await world.stop()
        world.wrap = lambda store: _Lagging(store, times)
        await world.start(hearing)
        await world.rt.send(run.id, "n", 1)
        await world.becomes(run, becomes)
        await world.stop()

    asyncio.run(scenario())
