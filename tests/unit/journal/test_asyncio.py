"""asyncio is the programming model: what it offers means the same inside a run, and always happens in one order."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from perdure import Context, agent
from perdure.errors import AgentError, NotJsonError, ReceiveTimeout, StepError
from tests.unit.journal.driver import BEGIN_US, Drive, Plan
from tests.unit.journal.scenarios import (
    SCENARIOS,
    as_they_complete,
    broken,
    cancelling_a_task,
    child,
    compensating,
    gathering,
    grouped,
    in_background,
    racing,
    shielding,
    sleeping,
    timed,
    undo,
    with_people,
    work,
)


@pytest.mark.parametrize(
    ("name", "value"),
    {
        "gathering": ["A", "B", "C", "D"],
        "gathering_failures": ["A", "b", "C"],
        "waiting_for_failure": [4, 4, 0],
        "queueing": ["1A", "2C", "1B", "2D"],
        "synchronising": ["GO", "A", "B", "AA", "C", "BB", "CC", "c was told", "a was told", "b was told"],
        "generating": ["1A2C", "undone 2", "1B2C", "undone 1", "undone 2"],
        "with_context_variables": ["main>a", "main>b", "main"],
        "stacking": ["A", "B", "C", "undone c", "undone b", "undone a"],
        "with_children": ["b", "b", "a", "b", "c"],
        "remembering": {"log": [{"n": 20}, {"n": 1}, {"n": 2}], "done": True},
        "patching": [True, True, True],
    }.items(),
)
def test_each_tool_of_asyncio_does_what_it_does_elsewhere(name, value):
    """The same values on every supported Python, when results come in the order of the calls."""
    agent, plan = SCENARIOS[name]
    assert Drive(agent, state={"old": 1}).start().play(None, plan).value == value


def test_gather_keeps_the_order_of_the_call_whatever_the_order_of_results():
    """Results in the order of the arguments; the next step is only asked for when all are there."""
    drive = Drive(gathering).start()
    for step in (3, 1, 2):
        assert drive.brain.steps == 3
        drive.complete(step, f"r{step}")
    drive.complete(4, "r4")
    assert drive.value == ["r1", "r2", "r3", "r4"]


def test_as_completed_yields_in_the_order_of_results_and_starts_in_the_order_of_the_code():
    """Steps 1 to 8 are the coroutines as they were handed over; the first to end is the first to come."""
    drive = Drive(as_they_complete).start()
    assert [text.split()[-1] for text in drive.waits] == [f'{{"item":"{item}"}}' for item in "abcdefgh"]
    drive.complete(8, "h")
    drive.complete(3, "c")
    drive.complete(10, "cc")
    drive.complete(9, "hh")
    assert drive.play().value[:2] == ["ccc", "hhh"]


def test_as_completed_keeps_its_timeout():
    """What has not come when the timer rings is reported as late."""

    @agent
    async def impatient(ctx: Context) -> list[str]:
        """Wait for five seconds."""
        seen = []
        for next_result in asyncio.as_completed([work("a"), work("b")], timeout=5):
            try:
                seen.append(await next_result)
            except TimeoutError:
                seen.append("late")
        return seen

    drive = Drive(impatient).start()
    drive.complete(3, "B")
    drive.fire(1)
    assert drive.value == ["B", "late"]


def test_losers_of_a_race_are_cancelled_and_clean_up():
    """Their steps are withdrawn in the order of birth, then each cleans up with a step of its own."""
    drive = Drive(racing).start()
    drive.complete(3, "C")
    assert [event.step for event in drive.journal if event.type == "step.cancelled"] == [1, 2, 4, 5]
    assert [text.split()[-1] for text in drive.waits] == [f'{{"item":"{item}"}}' for item in "abde"]
    assert drive.play().value == ["C", *["cancelled"] * 4]


def test_a_failure_in_a_group_cancels_the_groups_around_it():
    """The inner group ends first, then the outer one; all siblings clean up before the error is seen."""
    drive = Drive(grouped).start()
    drive.fail(6, "y", "ValueError")
    assert drive.waits[4:] == ['#7 tool undo {"item":"x"}']
    drive.complete(7, "")
    assert [text.split()[2:] for text in drive.waits] == [["undo", f'{{"item":"{item}"}}'] for item in "abcd"]
    assert drive.play().value[-1] == "Z"


def test_a_timeout_is_a_timer_and_its_ringing_cancels_what_it_guards():
    """The step in flight is withdrawn; the code goes on with TimeoutError."""
    drive = Drive(timed).start()
    drive.complete(2, "A")
    drive.fire(1)
    assert drive.types.count("step.cancelled") == 1
    assert drive.play().value == ["A", "late", "C", "D"]


def test_a_timeout_that_is_not_needed_is_withdrawn():
    """Nothing is left waiting for it."""
    drive = Drive(timed).start()
    drive.complete(2, "A")
    drive.complete(3, "B")
    assert not any("sleep" in text and text.startswith("#1 ") for text in drive.waits)


def test_a_shield_outlives_its_waiter():
    """wait_for gives up, the shielded step goes on, and its result is there later."""
    drive = Drive(shielding).start()
    timer = next(step for step, command in drive.brain.pending.items() if command.kind == "sleep")
    drive.fire(timer)
    assert drive.play().value == ["impatient", "A"]
    assert "step.cancelled" not in drive.types


def test_sleep_is_a_durable_timer_in_the_runs_own_time():
    """Each sleeper wakes at its hour; no time passes in between."""
    drive = Drive(sleeping).start()
    begin = drive.brain.now_us
    assert f"#2 sleep sleep due {begin - BEGIN_US + 3_600_000_000}" in drive.waits
    assert drive.play().value == [f"{hours} h, after {float(hours)} h" for hours in (0, 1, 12, 24)]


def test_the_longest_sleep_ends_with_the_year_9999():
    """`sleep(math.inf)` and absurd timeouts are waits like others."""

    @agent
    async def patient(ctx: Context) -> None:
        """Sleep for ever."""
        async with asyncio.timeout(1e15):
            await ctx.ask("Really?", timeout=float("inf"))
            await asyncio.sleep(float("inf"))

    drive = Drive(patient).start()
    drive.answer(2, None)
    assert drive.types.count("timer.started") == 2
    assert drive.journal[-1].data["due"].startswith("9999-12-31T23:59:59")


def test_a_background_task_ends_before_the_run_or_with_it():
    """Nobody holds it, and it works; what is not done when the run ends is dropped."""
    drive = Drive(in_background).start()
    drive.complete(3, "B")
    drive.complete(1, "Z")
    drive.fire(5)
    assert drive.value == ["B"]


def test_a_task_may_swallow_its_cancellation():
    """The message reaches it, and its result reaches whoever awaits it."""
    assert Drive(cancelling_a_task).start().play().value == [["enough"], "ANYWAY"]


def test_cancelling_a_run_lets_it_clean_up():
    """CancelledError at the await; steps of clean-up still run; then the run is cancelled."""

    @agent
    async def tidy(ctx: Context) -> None:
        """Clean up."""
        try:
            await work("a")
        finally:
            await undo("a")

    drive = Drive(tidy).start()
    drive.cancel()
    assert drive.waits == ['#2 tool undo {"item":"a"}']
    drive.complete(2, "done")
    assert drive.brain.outcome is not None
    assert drive.brain.outcome.cancelled


def test_a_run_may_refuse_to_be_cancelled():
    """An agent that swallows CancelledError and returns has succeeded."""

    @agent
    async def stubborn(ctx: Context) -> str:
        """Go on."""
        with contextlib.suppress(asyncio.CancelledError):
            await work("a")
        return await work("b")

    drive = Drive(stubborn).start()
    drive.cancel()
    assert drive.play().value == "B"


def test_a_run_that_cancels_itself_has_failed():
    """Nobody asked for it, so it is an error."""

    @agent
    async def confused(ctx: Context) -> None:
        """Cancel the wrong task."""
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await work("a")

    with pytest.raises(asyncio.CancelledError, match="cancelled itself"):
        _ = Drive(confused).start().value


def test_exception_groups_are_outcomes_like_others():
    """Several failures of one group end the run as one group."""

    @agent
    async def unlucky(ctx: Context) -> None:
        """Fail twice at once."""
        async with asyncio.TaskGroup() as group:
            for item in "ab":
                group.create_task(_fail_cleaning_up(item))

    async def _fail_cleaning_up(item: str) -> None:
        try:
            await work(item)
        except asyncio.CancelledError:
            raise ValueError(item) from None

    drive = Drive(unlucky).start()
    drive.fail(1)
    with pytest.raises(ExceptionGroup) as caught:
        _ = drive.value
    assert caught.group_contains(StepError)
    assert caught.group_contains(ValueError, match="b")


def test_messages_that_come_early_wait_and_late_ones_wake():
    """Each is taken once, in order, per topic; a deadline is a timer."""
    drive = Drive(with_people).start()
    drive.message("spam", 0)
    drive.message("post", 1)
    drive.message("post", "2")
    assert drive.brain.unread_messages() == [("spam", 0)]
    drive.answer(1, "no")
    drive.decide(2, approved=False)
    drive.fire(max(drive.brain.pending))
    assert drive.value == [1, 2, False, "refused", "no post"]


def test_a_message_that_nobody_waits_for_is_kept_for_whoever_asks():
    """Two came before the first receive."""

    @agent
    async def slow(ctx: Context) -> list[int]:
        """Work first."""
        await work("a")
        return [await ctx.receive("post"), await ctx.receive("post"), await ctx.receive("post", timeout=1)]

    drive = Drive(slow).start()
    drive.message("post", 1)
    drive.message("post", 2)
    drive.complete(1, "A")
    drive.fire(3)
    with pytest.raises(ReceiveTimeout, match="no message on 'post' within 1 s"):
        _ = drive.value


def test_two_results_of_one_commit_are_seen_one_after_the_other():
    """The code runs to its next wait between them, live as in a replay."""

    @agent
    async def watching(ctx: Context) -> list[timedelta]:
        """Note when each result came."""
        begin, seen = ctx.now(), []

        async def note(item: str) -> None:
            await work(item)
            seen.append(ctx.now() - begin)

        await asyncio.gather(note("a"), note("b"))
        return seen

    drive = Drive(watching).start()
    first, second = drive.play(seed=3).value
    assert first != second


def test_polling_ends_the_run_instead_of_hanging_the_node(monkeypatch):
    """A loop around sleep(0) can never learn anything: it fails, saying what to await."""
    monkeypatch.setattr("perdure.journal.loop.CALLBACKS_MOST", 10_000)

    @agent
    async def polling(ctx: Context) -> None:
        """Poll."""
        task = asyncio.create_task(work("a"))
        while not task.done():  # noqa: ASYNC110 - that is the point
            await asyncio.sleep(0)

    with pytest.raises(AgentError, match="Do not poll"):
        _ = Drive(polling).start().value


def test_a_failing_background_task_is_logged_while_the_run_goes_on(caplog):
    """As asyncio does when nobody asks for the exception of a task."""

    @agent
    async def careless(ctx: Context) -> str:
        """Forget a task."""
        asyncio.create_task(broken("x"))  # noqa: RUF006 - that is the point
        await work("a")
        return await work("b")

    with caplog.at_level(logging.ERROR, "perdure.agent"):
        drive = Drive(careless).start()
        drive.fail(2)
        drive.complete(1, "A")
        gc.collect()
    assert caplog.text.count("never retrieved") == 1
    assert drive.play().value == "B"
    with caplog.at_level(logging.ERROR, "perdure.agent"):
        Drive.of(careless, drive.journal)
    assert caplog.text.count("never retrieved") == 1  # a replay does not tell it again


def test_a_generator_that_is_left_early_cleans_up_unless_that_is_left_to_the_collector(caplog):
    """Dropped by the code, at once, with steps. In a cycle, its time would be the collector's: never, and a warning."""

    async def numbers(name: str) -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await undo(name)

    async def leave(name: str) -> None:
        last, generator = None, numbers(name)
        try:
            async for _ in generator:
                raise ValueError(name)  # noqa: TRY301 - that is the point
        except ValueError as error:
            last = error if name == "in a cycle" else None  # its traceback holds this very frame
        assert name != "at once" or last is None

    collect: Callable[[], int]

    @agent
    async def leaving(ctx: Context) -> None:
        """Leave two generators early."""
        await leave("at once")
        await work("a")
        await leave("in a cycle")
        collect()
        await work("b")

    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()
        for collector in (gc.collect, lambda: pool.submit(gc.collect).result()):
            caplog.clear()
            collect = collector
            drive = Drive(leaving).start()
            drive.complete(1, "A")
            assert [text.split(" ", 2)[2] for text, _ in drive.asked] == [
                'work {"item":"a"}', 'undo {"item":"at once"}', 'work {"item":"b"}',
            ]  # fmt: skip
            assert caplog.text.count("contextlib.aclosing") == 1


@pytest.mark.parametrize("in_pool", [False, True])
def test_a_run_that_nothing_can_wake_fails_instead_of_waiting_for_ever(in_pool):
    """The error names what can be waited for; a thread that would set the future cannot reach into a run."""

    @agent
    async def stuck(ctx: Context) -> None:
        """Wait for an event that nobody sets, or for a thread."""
        await work("a")
        await (asyncio.wrap_future(pool.submit(int)) if in_pool else asyncio.Event().wait())

    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()
        drive = Drive(stuck).start()
        assert drive.brain.outcome is None
        drive.complete(1, "A")
        with pytest.raises(AgentError, match=r"nothing can bring.*ctx.receive.*ctx.ask.*a step"):
            _ = drive.value


def _everything_that_wakes(ctx: Context) -> list[Callable[[], Any]]:
    return [
        lambda: work("a"), lambda: asyncio.sleep(60), lambda: ctx.ask("Well?"), lambda: ctx.approve("fire"),
        lambda: ctx.receive("post"), lambda: ctx.spawn(child, "c"), lambda: ctx.spawn(child, "c", detach=True),
    ]  # fmt: skip


@pytest.mark.parametrize("number", range(7))
def test_a_run_that_something_can_wake_waits(number):
    """In its own code or in a task; what it waits for may come after any number of messages that nobody reads."""

    @agent
    async def waiting(ctx: Context) -> None:
        """Wait for an event that a task sets when something else has come."""
        came = asyncio.Event()

        async def wait() -> None:
            await _everything_that_wakes(ctx)[number]()
            came.set()

        task = asyncio.create_task(wait())
        await came.wait()
        await task

    drive = Drive(waiting).start()
    for value in range(3):
        drive.message("spam", value)
        assert not drive.over
    drive.play(plan=Plan(mail=[("post", 1)]))
    assert drive.value is None


def test_code_that_cannot_go_on_compensates_and_cleans_up(monkeypatch):
    """Stuck, polling, or with a state that cannot be saved: groups cancel their tasks, compensations run, it fails."""
    monkeypatch.setattr("perdure.journal.loop.CALLBACKS_MOST", 1_000)

    async def tidy() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await undo("task")

    @agent
    async def failing(ctx: Context, how: str) -> None:
        """Fail in one of three ways."""
        ctx.compensate(undo, "main")
        await work("a")
        async with asyncio.TaskGroup() as group:
            group.create_task(tidy())
            if how == "state":
                ctx.state["bad"] = object()
                await work("b")
            while how == "polling":  # noqa: ASYNC110 - that is the point
                await asyncio.sleep(0)

    for how, error in (("stuck", AgentError), ("polling", AgentError), ("state", NotJsonError)):
        drive = Drive(failing, how=how).start()
        drive.complete(1, "A")
        assert [text.split()[-1] for text in drive.waits] == ['{"item":"task"}']
        drive.complete(max(drive.brain.pending), "")
        assert [text.split()[-1] for text in drive.waits] == ['{"item":"main"}']
        drive.fail(max(drive.brain.pending), "no")
        with pytest.raises(error) as caught:
            _ = drive.value
        assert caught.value.__notes__ == ["compensation undo failed: no"]
        assert drive.saved == {}


def test_code_that_does_not_let_itself_be_told_is_ended():
    """Neither a return value nor a second wait changes that the run has failed."""

    @agent
    async def deaf(ctx: Context, again: int) -> str:
        """Wait once more for what does not come."""
        for _ in range(again + 1):
            with contextlib.suppress(BaseException):
                await asyncio.Event().wait()
        return "all is well"

    for again in (0, 1, 5):
        with pytest.raises(AgentError, match="nothing can bring"):
            _ = Drive(deaf, again=again).start().value


def test_a_state_is_checked_before_the_run_ends_well():
    """While the code can still undo what it did; a check takes nothing away from what is saved later."""

    @agent
    async def checking(ctx: Context, value: Any) -> str:
        """Ask as the end of every agent does."""
        ctx.state["value"] = object() if value is None else value
        try:
            ctx._brain.check_state()
        except NotJsonError:
            await undo("a")
        return "done"

    assert Drive(checking, value=1).start().saved == {"value": 1}
    drive = Drive(checking, value=None).start()
    assert drive.waits == ['#1 tool undo {"item":"a"}']
    drive.complete(1, "")
    with pytest.raises(NotJsonError):
        _ = drive.value


def test_compensations_run_in_reverse_after_a_failure_and_the_failure_stays():
    """Last registered first; one that fails is noted and keeps none of the others from running."""
    drive = Drive(compensating).start()
    for step in (1, 2, 3):
        drive.complete(step, "")
    drive.fail(4, "d", "ValueError")
    undone = []
    while not drive.over:
        step = max(drive.brain.pending)
        undone.append(drive.command(step).arguments["item"])
        drive.fail(step, "no") if undone == ["c"] else drive.complete(step, "")
    assert undone == ["c", "b", "a"]
    with pytest.raises(StepError, match="d") as caught:
        _ = drive.value
    assert caught.value.__notes__ == ["compensation undo failed: no"]


def test_compensations_run_after_a_cancellation():
    """Only what was registered by then."""
    drive = Drive(compensating).start()
    drive.complete(1, "")
    drive.cancel()
    drive.play(plan=Plan())
    undone = [text.split()[-1] for text, _ in drive.asked if "undo" in text]
    assert undone == ['{"item":"b"}', '{"item":"a"}']
    assert drive.brain.outcome is not None
    assert drive.brain.outcome.cancelled
