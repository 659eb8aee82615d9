"""What an agent can ask of Perdure, and what it gets: questions, consent, children, time, chance, a new beginning."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from perdure import Context, agent, tool
from perdure.agents.approval import action_hash
from perdure.agents.attempt import Attempt, current_attempt, current_step
from perdure.errors import (
    AgentError,
    AlreadySettled,
    ApprovalRejected,
    AskTimeout,
    ChildFailed,
    InvalidInput,
    InvalidSetting,
    NotInAgent,
    StepError,
    StepTimeout,
    UnknownOutcome,
)
from tests.unit.journal.driver import BEGIN_US, RUN, Drive
from tests.unit.journal.replaying import check_every_prefix
from tests.unit.journal.scenarios import child, undo, work


class Verdict(BaseModel):
    """An answer."""

    approved: bool
    limit: Decimal = Decimal(1)


@tool
async def order(item: str, count: int = 1) -> str:
    """What needs consent."""
    return f"{count} {item}"


guarded = order.with_options(approval="boss", name="guarded")


@pytest.mark.parametrize("fresh", [True, False])
def test_a_context_in_a_step_is_refused(fresh):
    """NotInAgent fails the step: a replay does not run it again, so nothing that it does to the run would stay."""

    @agent
    async def leaking(ctx: Context, call: str) -> Any:
        """Hand the context to a step."""

        async def inside() -> Any:
            if call == "receive":
                return await ctx.receive("post")
            return getattr(ctx, call)(*([undo, "x"] if call == "compensate" else ["post"]))

        await ctx.receive("go")
        return await ctx.step(inside, effect="read", retries=0)

    for call in ("receive", "compensate", "continue_as", "patched"):
        drive = Drive(leaking, call=call).start()
        if not fresh:
            drive.message("post", "for the agent")
        drive.message("go", None)
        with pytest.raises(StepError, match=rf"ctx.{call} was called outside of the agent's own code") as caught:
            _ = drive.play().value
        assert caught.value.type == "NotInAgent"
        assert drive.brain.unread_messages() == ([] if fresh else [("post", "for the agent")])
        check_every_prefix(drive)


def test_answers_come_as_the_type_that_was_asked_for():
    """The question carries the schema, whom it is for and its deadline."""

    @agent
    async def asking(ctx: Context) -> Any:
        """Ask."""
        verdict = await ctx.ask("Spend it?", Verdict, to="finance", timeout=60)
        return [type(verdict).__name__, verdict.approved, verdict.limit]

    drive = Drive(asking).start()
    question = drive.command(1)
    assert (question.title, question.to) == ("Spend it?", "finance")
    assert question.deadline == drive.brain.now_us + 60_000_000
    assert question.detail["schema"]["title"] == "Verdict"
    drive.answer(1, {"approved": True, "limit": "0.10"})
    assert drive.value == ["Verdict", True, "0.10"]
    check_every_prefix(drive)


def test_a_question_nobody_answers_raises():
    """AskTimeout is a TimeoutError, and names the step."""

    @agent
    async def asking(ctx: Context) -> None:
        """Ask."""
        await ctx.ask("Well?")

    drive = Drive(asking).start()
    drive.expire(1)
    with pytest.raises(AskTimeout, match="nobody answered in time") as caught:
        _ = drive.value
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.step == 1


@agent
async def consenting(ctx: Context) -> list[Any]:
    """Ask for consent, use it, and try to use it twice."""
    consent = await ctx.approve(order, "pen", count=3, to="boss", reason="Buy pens?")
    if not consent:
        return [consent.note, consent.by]
    result = await consent.perform()
    with pytest.raises(AlreadySettled, match="was used before"):
        await consent.perform()
    return [result, consent.args]


def test_consent_binds_to_one_exact_action():
    """The person sees tool, arguments, schema and hash; performing it is a step with what was approved."""
    drive = Drive(consenting).start()
    detail = drive.command(1).detail
    assert detail["args"] == {"item": "pen", "count": 3}
    assert detail["hash"] == action_hash("order", detail["args"])
    assert list(detail["schema"]["properties"]) == ["item", "count"]
    drive.decide(1, approved=True, args={"item": "pen", "count": 2})
    assert drive.waits == ['#2 tool order {"item":"pen","count":2}']
    drive.complete(2, "2 pen")
    assert drive.value == ["2 pen", {"item": "pen", "count": 2}]
    check_every_prefix(drive)


def test_refused_consent_is_false_and_says_why():
    """Nothing was done, and nothing can be."""
    drive = Drive(consenting).start()
    drive.decide(1, approved=False, note="too many")
    assert drive.value == ["too many", "ann"]


def test_a_tool_that_wants_consent_asks_for_it_before_each_call():
    """A refusal is an error of the call."""

    @agent
    async def calling(ctx: Context) -> str:
        """Call a guarded tool."""
        return await guarded("pen")

    drive = Drive(calling).start()
    drive.decide(1, approved=True)
    drive.complete(2, "1 pen")
    assert drive.value == "1 pen"
    drive = Drive(calling).start()
    drive.decide(1, approved=False, note="no money")
    with pytest.raises(ApprovalRejected, match="ann refused guarded: no money"):
        _ = drive.value


def test_an_edit_that_does_not_fit_the_tool_is_the_agents_to_see():
    """InvalidInput, before anything is done."""
    drive = Drive(consenting).start()
    drive.decide(1, approved=True, args={"item": "pen", "count": "many"})
    with pytest.raises(InvalidInput, match="count"):
        _ = drive.value


def test_what_the_agent_does_to_approved_arguments_stays_its_own():
    """The event keeps what was approved, and that is what is performed."""

    @agent
    async def editing(ctx: Context) -> list[Any]:
        """Change the arguments, then look at what was done with them."""
        consent = await ctx.approve(order, "pen")
        consent.args["item"] = "gold"
        consent.args = consent.args | {"count": 1_000_000}
        return [await consent.perform(), consent.arguments]

    drive = Drive(editing).start()
    drive.decide(1, approved=True)
    approved = {"item": "pen", "count": 1}
    assert drive.play().value == ["1 pen", approved]
    assert next(event.data["args"] for event in drive.journal if event.type == "approval.granted") == approved
    assert next(event.data["args"] for event in drive.journal if event.type == "step.started") == approved
    check_every_prefix(drive)


def test_an_action_without_a_tool_can_be_put_before_a_person():
    """Named, with whatever details; there is nothing to perform."""

    @agent
    async def asking(ctx: Context) -> bool:
        """Ask about something that is done by hand."""
        consent = await ctx.approve("ship by hand", weight=3)
        with pytest.raises(AlreadySettled, match="does not allow a tool call"):
            await consent.perform()
        return bool(consent)

    drive = Drive(asking).start()
    assert drive.command(1).detail["args"] == {"weight": 3}
    drive.decide(1, approved=True)
    assert drive.value is True


def test_children_have_names_that_follow_from_their_step():
    """Spawning takes effect at once; awaiting the handle gives the result as its type, as often as one likes."""

    @agent
    async def counting(ctx: Context, upto: int) -> set[int]:
        """A child with a type of its own."""
        return set(range(upto))

    @agent
    async def parent(ctx: Context) -> list[Any]:
        """Spawn and join."""
        first = ctx.spawn(counting, 3, session="s", detach=True)
        return [first.id, *sorted(await first), await first == {0, 1, 2}]

    drive = Drive(parent).start()
    spawned = drive.command(1)
    assert (spawned.session, spawned.detach, spawned.input_json) == ("s", True, '{"upto":3}')
    drive.end_child(1, [2, 1, 0])
    assert drive.value == [f"{RUN}.1", 0, 1, 2, True]


def test_a_failed_child_fails_whoever_awaits_it():
    """ChildFailed names the run and the original error; who does not await it is not failed by it."""

    @agent
    async def parent(ctx: Context, wait: bool) -> str:
        """Await one of two."""
        first, _ = ctx.spawn(child, "a"), ctx.spawn(child, "b")
        return await first if wait else "fine"

    for wait in (True, False):
        drive = Drive(parent, wait=wait).start()
        drive.end_child(1, error={"type": "ValueError", "message": "bad"})
        drive.end_child(2, error={"type": "ValueError", "message": "bad"}) if not wait else None
        if wait:
            with pytest.raises(ChildFailed, match=rf"{RUN}.1: ValueError: bad") as caught:
                _ = drive.value
            assert (caught.value.run, caught.value.type, caught.value.step) == (f"{RUN}.1", "ValueError", 1)
        else:
            assert drive.value == "fine"


def test_a_run_ends_after_its_children_but_not_after_those_it_let_go():
    """A detached child outlives it."""

    @agent
    async def parent(ctx: Context) -> str:
        """Spawn and leave."""
        ctx.spawn(child, "a")
        ctx.spawn(child, "b", detach=True)
        return "done"

    drive = Drive(parent).start()
    assert not drive.over
    drive.end_child(1, "a")
    assert drive.value == "done"


def test_a_waiter_that_gives_up_leaves_the_child_alone():
    """Only the wait is cancelled; the result is there later."""

    @agent
    async def parent(ctx: Context) -> list[str]:
        """Wait a while, then wait again."""
        handle = ctx.spawn(child, "a")
        try:
            async with asyncio.timeout(1):
                await handle
        except TimeoutError:
            return ["late", await handle]
        return []

    drive = Drive(parent).start()
    drive.fire(2)
    drive.end_child(1, "a")
    assert drive.value == ["late", "a"]


def test_continue_as_ends_the_run_with_the_input_of_the_next():
    """No `except` of the agent holds it up; wrong input is refused."""

    @agent
    async def turning(ctx: Context, count: int, note: str = "") -> None:
        """Go on in a new run."""
        try:
            ctx.continue_as(count + 1, note="more")
        except Exception:  # noqa: BLE001 - that is the point
            await work("caught")

    drive = Drive(turning, count=1).start()
    assert drive.brain.outcome is not None
    assert drive.brain.outcome.continue_as == '{"count":2,"note":"more"}'
    assert drive.brain.steps == 0

    @agent
    async def mistaken(ctx: Context, count: int) -> None:
        """Go on with nonsense."""
        ctx.continue_as("many")

    with pytest.raises(InvalidInput, match="count"):
        _ = Drive(mistaken, count=1).start().value


@pytest.mark.parametrize("inside", [True, False])
def test_continue_as_passes_through_task_groups(inside):
    """In the body or in a task of one; but not beside an error of another task."""

    @agent
    async def grouped(ctx: Context, count: int, fail: bool) -> None:
        """Go on from within two groups."""

        async def go_on() -> None:
            await work("a")
            ctx.continue_as(count + 1, fail)

        async def stay() -> None:
            try:
                await work("b")
            finally:
                if fail:
                    raise ValueError("not so fast")

        async with asyncio.TaskGroup(), asyncio.TaskGroup() as group:
            group.create_task(stay())
            if inside:
                group.create_task(go_on())
            else:
                await go_on()

    for fail in (False, True):
        drive = Drive(grouped, count=1, fail=fail).start()
        drive.complete(2 if inside else 1, "A")
        outcome = drive.brain.outcome
        assert outcome is not None
        if fail:
            assert isinstance(outcome.error, BaseExceptionGroup)
        else:
            assert outcome.continue_as == '{"count":2,"fail":false}'


def test_a_run_with_compensations_cannot_continue_in_another():
    """The new run would not know of them: the error says how else to do it, and they are run."""

    @agent
    async def turning(ctx: Context, count: int) -> None:
        """Go on with a debt."""
        ctx.compensate(undo, "x")
        ctx.continue_as(count + 1)

    drive = Drive(turning, count=1).start()
    assert drive.waits == ['#1 tool undo {"item":"x"}']
    with pytest.raises(AgentError, match=r"would drop .*ctx\.compensate \(undo\)\. .*ctx\.spawn"):
        _ = drive.play().value


def test_a_compensation_takes_its_arguments_when_it_is_registered():
    """What does not fit is refused there, before the effect that it would have to undo; changes come too late."""

    @tool(effect="once")
    async def take_back(items: list[str]) -> int:
        """Clean up."""
        return len(items)

    @agent
    async def booking(ctx: Context, wrong: bool) -> None:
        """Register, change the arguments, fail."""
        items = ["a"]
        ctx.compensate(take_back, 3 if wrong else items)
        await work("book")
        items.append("b")
        raise ValueError("no")

    with pytest.raises(InvalidInput, match="take_back: items"):
        _ = Drive(booking, wrong=True).start().value
    drive = Drive(booking, wrong=False).start()
    drive.complete(1, "BOOK")
    assert drive.waits == ['#2 tool take_back {"items":["a"]}']
    with pytest.raises(ValueError, match="no"):
        _ = drive.play().value
    check_every_prefix(drive)


def test_time_stands_still_between_events():
    """The run's time is when the last thing it learned was recorded; it never goes back."""

    @agent
    async def watching(ctx: Context) -> list[datetime]:
        """Look at the clock."""
        seen = [ctx.now(), ctx.now()]
        await asyncio.sleep(3600)
        return [*seen, ctx.now()]

    drive = Drive(watching).start()
    first, second, third = [datetime.fromisoformat(text) for text in drive.play().value]
    assert first == second == datetime.fromtimestamp((BEGIN_US + 2_000) / 1e6, UTC)
    assert (third - first).total_seconds() == pytest.approx(3600, abs=1)


def test_errors_of_steps_come_back_as_what_they_are():
    """A timeout is a TimeoutError; an outcome that a person called failed says so."""

    @agent
    async def failing(ctx: Context) -> None:
        """Fail."""
        await work("a")

    drive = Drive(failing).start()
    drive.fail(1, "took too long", "StepTimeout")
    with pytest.raises(StepTimeout, match="took too long"):
        _ = drive.value
    drive = Drive(failing).start()
    drive.resolve(1, "run-again")
    drive.resolve(1, "fail")
    with pytest.raises(UnknownOutcome, match="a person decided that it failed"):
        _ = drive.value
    drive = Drive(failing).start()
    drive.resolve(1, "happened", "A")
    assert drive.value is None


def test_events_of_an_agent_have_the_types_of_the_catalogue():
    """`progress`, `artifact` and `custom.*`."""

    @agent
    async def telling(ctx: Context, type: str) -> None:
        """Tell."""
        await ctx.emit(type, {"a": 1})

    for name in ("progress", "artifact", "custom.anything"):
        assert Drive(telling, type=name).start().value is None
    with pytest.raises(InvalidSetting, match="an agent emits"):
        _ = Drive(telling, type="step.completed").start().value


def test_a_step_keeps_the_options_it_is_given():
    """Any function; the options are the step's, and `once` unless it says otherwise."""

    def plain(item: str) -> list[str]:
        """No tool."""
        return [item]

    @agent
    async def stepping(ctx: Context) -> list[str]:
        """Call it twice."""
        first = await ctx.step(plain, "a", effect="read", retries=4, timeout=9, name="named")
        return [*first, *await ctx.step(plain, "b")]

    drive = Drive(stepping).start()
    options = drive.command(1).target.options
    assert (options.effect, options.retries.retries, options.timeout) == ("read", 4, 9)
    assert drive.command(1).name == "named"
    drive.complete(1, ["a"])
    assert drive.command(2).target.options.effect == "once"
    assert drive.play().value == ["a", "b"]


def test_as_completed_that_was_imported_too_early_is_refused():
    """It would start coroutines in the order of their addresses; the error says what to write."""
    code = """
from asyncio import as_completed
from perdure import Context, agent
from tests.unit.journal.driver import Drive
from tests.unit.journal.scenarios import work

@agent
async def early(ctx: Context) -> list[str]:
    return [await result for result in as_completed([work("a"), work("b")])]

error = Drive(early).start().brain.outcome.error
print(type(error).__name__, error)
"""
    path = ":".join(sys.path)
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], env={"PYTHONPATH": path}, capture_output=True, text=True,
        timeout=50, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("AgentError `from asyncio import as_completed` before `import perdure`")


# What a tool sees of its step.


def test_a_tool_sees_its_step_only_inside_of_one():
    """Outside, asking for it says so."""
    with pytest.raises(NotInAgent, match="only works inside a tool"):
        current_step()
    told: list[Any] = []
    attempt = Attempt(RUN, "s", 3, 2, f"{RUN}:3", lambda *report: told.append(report), last_heartbeat={"page": 1})
    token = current_attempt.set(attempt)
    try:
        step = current_step()
        step.heartbeat({"page": 2})
        step.stream("a")
        step.stream(Verdict(approved=True), "verdicts")
        step.emit("progress", {"half": Decimal("0.5")})
        step.execute("insert", (1,))
        with pytest.raises(InvalidSetting):
            step.emit("step.completed")
    finally:
        current_attempt.reset(token)
    assert (step.key, step.attempt, step.last_heartbeat) == (f"{RUN}:3", 2, {"page": 1})
    assert step.statements == [("insert", (1,))]
    assert told == [
        ("heartbeat", "", {"page": 2}), ("stream", "text", "a"),
        ("stream", "verdicts", {"approved": True, "limit": "1"}), ("emit", "progress", {"half": "0.5"}),
    ]  # fmt: skip
