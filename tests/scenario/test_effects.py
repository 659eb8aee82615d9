"""What happens to steps of each effect class: in good times, when they fail, and when the worker dies."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from perdure import (
    DID_NOT_HAPPEN,
    STILL_UNKNOWN,
    Context,
    Happened,
    NoRetry,
    Retries,
    RunFailed,
    Settings,
    agent,
    current_step,
    tool,
)
from perdure.errors import AlreadySettled, InvalidInput, NotFound, StepError, UnknownOutcome
from tests.scenario.worlds import Box, play, settle


def test_each_effect_class_runs_once_in_good_times(world):
    """Every tool acts once and its typed result reaches the agent."""
    box = Box()

    @tool(effect="read")
    async def look(n: int) -> int:
        box.note("read")
        return n + 1

    @tool(effect="keyed")
    async def put(n: int) -> str:
        box.note(current_step().key)
        return str(n)

    @tool(effect="once")
    def act(n: int) -> list[int]:
        box.note(threading.current_thread() is threading.main_thread())
        return [n]

    @agent
    async def all_of_them(ctx: Context) -> list[object]:
        return [await look(1), await put(2), await act(3), await ctx.step(lambda: 4, effect="read", name="plain")]

    async def scenario():
        await world.start(all_of_them)
        run = await world.rt.start(all_of_them)
        assert await run.result() == [2, "2", [3], 4]
        assert box.calls == ["read", f"{run.id}:2", False]

    play(world, scenario)


@pytest.mark.parametrize("effect", ["keyed", "once"])
def test_a_step_that_acts_is_admitted_before_it_runs(world, effect):
    """`step.started` is durable before the tool's first line (fence before spend)."""
    seen = []

    @tool(effect=effect)
    async def act() -> None:
        step = current_step()
        events = await world.rt.store.events(step.run)
        seen.append([event.type for event in events if event.step == step.step])

    @agent
    async def acting(ctx: Context) -> None:
        await act()

    async def scenario():
        await world.start(acting)
        await (await world.rt.start(acting)).result()
        assert seen == [["step.started"]]

    play(world, scenario)


@pytest.mark.parametrize("effect", ["read", "keyed", "transaction"])
def test_a_repeatable_step_in_flight_at_a_crash_runs_again(world, effect):
    """After the crash the step runs again, under the same key, and the run ends with its result."""
    box = Box()

    @tool(effect=effect)
    async def act() -> str:
        box.note(current_step().key)
        await box.wait()
        return "done"

    @agent
    async def acting(ctx: Context) -> str:
        return await act()

    async def scenario():
        await world.start(acting)
        run = await world.rt.start(acting)
        await settle()
        assert len(box.calls) == 1
        await world.restart(acting)
        box.open()
        assert await (await world.rt.run(run.id)).result() == "done"
        assert box.calls == [f"{run.id}:1"] * 2
        assert (await world.status(run)).attempt == 2

    play(world, scenario)


def once_agent(box, probe=None):
    """An agent with one `once` step that waits at the gate."""

    @tool(effect="once")
    async def pay(amount: int) -> str:
        box.note("pay")
        await box.wait()
        return f"paid {amount}"

    if probe is not None:
        pay.reconcile(probe)

    @agent
    async def paying(ctx: Context) -> str:
        try:
            return await pay(7)
        except UnknownOutcome as error:
            return f"gave up: {error.type}"

    return paying


def test_a_once_step_in_flight_at_a_crash_waits_for_a_person(world):
    """The step is not repeated: its outcome is unknown, and the run says what to do."""
    box = Box()
    paying = once_agent(box)

    async def scenario():
        await world.start(paying)
        run = await world.rt.start(paying)
        await settle()
        await world.restart(paying)
        row = await world.becomes(run, "waiting")
        assert row.wait["kind"] == "unknown"
        assert "perdure resolve" in row.reason
        assert box.calls == ["pay"]
        await world.restart(paying)  # asked once, and remembered
        assert (await world.becomes(run, "waiting")).wait["kind"] == "unknown"
        assert (await world.types(run)).count("step.unknown") == 1

    play(world, scenario)


@pytest.mark.parametrize(
    ("outcome", "result", "expected", "calls"),
    [
        ("happened", "by hand", "by hand", 1),
        ("run-again", None, "paid 7", 2),
        ("fail", None, "gave up: UnknownOutcome", 1),
    ],
)
def test_a_person_settles_an_unknown_outcome(world, outcome, result, expected, calls):
    """It happened (the given result counts), it did not (it runs again), or it failed."""
    box = Box()
    paying = once_agent(box)

    async def scenario():
        await world.start(paying)
        run = await world.rt.start(paying)
        await settle()
        await world.restart(paying)
        await world.becomes(run, "waiting")
        box.open()
        await world.rt.resolve(run.id, 1, outcome, result=result)
        assert await (await world.rt.run(run.id)).result() == expected
        assert len(box.calls) == calls

    play(world, scenario)


def test_a_resolution_of_the_wrong_type_is_refused(world):
    """The caller hears what is wrong, the run still waits, and a right one settles it."""
    box = Box()
    paying = once_agent(box)

    async def scenario():
        await world.start(paying)
        run = await world.rt.start(paying)
        await settle()
        await world.restart(paying)
        await world.becomes(run, "waiting")
        with pytest.raises(InvalidInput, match="string"):
            await world.rt.resolve(run.id, 1, "happened", result=12)
        with pytest.raises(NotFound):
            await world.rt.resolve(run.id, 2, "fail")
        assert (await world.becomes(run, "waiting")).wait["kind"] == "unknown"
        await world.rt.resolve(run.id, 1, "happened", result="right")
        assert await (await world.rt.run(run.id)).result() == "right"

    play(world, scenario)


def test_two_people_cannot_settle_the_same_step_differently(world):
    """While the first word waits to be carried out, it may be repeated, and another is refused."""
    box = Box()
    paying = once_agent(box)

    async def scenario():
        await world.start(paying)
        run = await world.rt.start(paying)
        await settle()
        await world.restart(paying)
        await world.becomes(run, "waiting")
        await world.rt.pause(run.id)
        await world.becomes(run, "paused")
        await world.rt.resolve(run.id, 1, "happened", result="x", by="ann")
        await world.rt.resolve(run.id, 1, "happened", result="x", by="bob")
        with pytest.raises(AlreadySettled, match="settled as happened by ann"):
            await world.rt.resolve(run.id, 1, "run-again")
        await world.rt.resume(run.id)
        assert await (await world.rt.run(run.id)).result() == "x"

    play(world, scenario)
    assert box.calls == ["pay"]


def test_a_step_of_a_run_that_went_on_elsewhere_is_settled_in_its_own_run(world):
    """The run that continues another has steps of its own: what is said of the first never reaches it."""
    box = Box()
    paying = once_agent(box)

    @agent
    async def moving_on(ctx: Context, part: int) -> str:
        if part == 1:
            await ctx.continue_as(2)
        return await paying(ctx)

    async def scenario():
        await world.start(moving_on)
        run = await world.rt.start(moving_on, 1)
        await settle()
        await world.restart(moving_on)
        await world.becomes(f"{run.id}~2", "waiting")
        with pytest.raises(AlreadySettled, match="has succeeded"):
            await world.rt.resolve(run.id, 1, "run-again")
        await world.rt.resolve(f"{run.id}~2", 1, "happened", result="x")
        await world.becomes(f"{run.id}~2", "succeeded")

    play(world, scenario)


def test_a_crash_right_after_a_resolution_asks_again(world):
    """`run-again` begins a new attempt; dying in it is a new unknown, not a silent repetition."""
    box = Box()
    paying = once_agent(box)

    async def scenario():
        await world.start(paying)
        run = await world.rt.start(paying)
        await settle()
        await world.restart(paying)
        await world.becomes(run, "waiting")
        await world.rt.resolve(run.id, 1, "run-again")
        await settle()
        assert len(box.calls) == 2
        await world.restart(paying)
        assert (await world.becomes(run, "waiting")).wait["kind"] == "unknown"
        assert len(box.calls) == 2
        await world.rt.resolve(run.id, 1, "happened", result="x")
        assert await (await world.rt.run(run.id)).result() == "x"

    play(world, scenario)


@pytest.mark.parametrize(
    ("probe", "expected", "calls"),
    [
        (lambda amount: Happened(f"found {amount}"), "found 7", 1),
        (lambda amount: DID_NOT_HAPPEN, "paid 7", 2),
    ],
)
def test_a_probe_that_knows_settles_the_outcome(world, probe, expected, calls):
    """`Happened` gives the result, `DID_NOT_HAPPEN` runs the step again; no person is asked."""
    box = Box()
    paying = once_agent(box, probe)

    async def scenario():
        await world.start(paying)
        run = await world.rt.start(paying)
        await settle()
        box.open()
        await world.restart(paying)
        assert await (await world.rt.run(run.id)).result() == expected
        assert len(box.calls) == calls
        assert "step.unknown" not in await world.types(run)

    play(world, scenario)


def broken(amount):
    """A probe that cannot say."""
    raise RuntimeError("the bank is closed")


@pytest.mark.parametrize(
    ("probe", "why"),
    [
        (lambda amount: STILL_UNKNOWN, "died"),
        (broken, "the bank is closed"),
        (lambda amount: Happened(object()), "probe failed"),
    ],
)
def test_a_probe_that_does_not_know_asks_a_person(world, probe, why):
    """STILL_UNKNOWN, an exception or a result of the wrong type: a person decides, and nothing else breaks."""
    box = Box()
    paying = once_agent(box, probe)

    async def scenario():
        await world.start(paying)
        run = await world.rt.start(paying)
        await settle()
        await world.restart(paying)
        event = await world.until(run, "step.unknown")
        assert why in event.data["why"]
        await world.rt.resolve(run.id, 1, "happened", result="ok")
        assert await (await world.rt.run(run.id)).result() == "ok"

    play(world, scenario)


def test_a_run_of_unknown_outcome_can_be_cancelled(world):
    """Cancelling ends the wait; the step stays of unknown outcome in the journal."""
    box = Box()
    paying = once_agent(box)

    async def scenario():
        await world.start(paying)
        run = await world.rt.start(paying)
        await settle()
        await world.restart(paying)
        await world.becomes(run, "waiting")
        await world.rt.cancel(run.id, reason="enough")
        await world.becomes(run, "cancelled")
        events = await world.journal(run)
        assert [e.data["outcome"] for e in events if e.type == "step.cancelled"] == ["unknown"]
        assert events[-1].data["reason"] == "enough"

    play(world, scenario)


def test_failures_are_retried_with_backoff_that_survives_a_restart(world):
    """The moment of the next attempt is journaled; a restart in between neither forgets nor hurries it."""
    box = Box()

    @tool(effect="read", retries=Retries(3, first_seconds=10, factor=2))
    async def flaky() -> int:
        box.note(current_step().attempt)
        if len(box.calls) < 3:
            raise OSError("not yet")
        return len(box.calls)

    @agent
    async def trying(ctx: Context) -> int:
        return await flaky()

    async def scenario():
        await world.start(trying)
        run = await world.rt.start(trying)
        row = await world.becomes(run, "waiting")
        assert row.wait["kind"] == "retry"
        await world.clock.advance(9.9)
        assert box.calls == [1]
        await world.restart(trying)
        await world.clock.advance(0.09)
        assert box.calls == [1]
        await world.clock.advance(0.02)
        assert box.calls == [1, 2]
        await world.clock.advance(21)
        assert await (await world.rt.run(run.id)).result() == 3

    play(world, scenario)


@pytest.mark.parametrize(
    ("retries", "failed_attempt", "seconds"),
    [
        (Retries(first_seconds=1, factor=2.0, most_seconds=60), 3, 4),
        (Retries(first_seconds=1, factor=2.0, most_seconds=60), 1_000_000, 60),
        (Retries(first_seconds=1, factor=2, most_seconds=60), 1_000_000, 60),
        (Retries(first_seconds=0, factor=2.0), 1_000_000, 0),
        (Retries(first_seconds=1, factor=0.5), 1_000_000, 0),
        (Retries(first_seconds=7, factor=1), 1_000_000, 7),
    ],
)
def test_waits_grow_up_to_a_bound(retries, failed_attempt, seconds):
    """Also where the factor to that power is more than a number can hold."""
    assert retries.wait_seconds(failed_attempt, 0.0) == seconds


def test_some_errors_deserve_no_retry(world):
    """NoRetry, the tool's own `no_retry`, and arguments or results that do not fit fail the step at once."""
    box = Box()

    class Never(NoRetry):
        pass

    @tool(effect="read", retries=5, no_retry=[KeyError])
    async def fail(how: str) -> int:
        box.note(how)
        if how == "never":
            raise Never("no")
        if how == "listed":
            raise KeyError("x")
        return "not a number"  # type: ignore[return-value]

    @agent
    async def failing(ctx: Context) -> list[str]:
        errors = []
        for how in ("never", "listed", "wrong"):
            try:
                await fail(how)
            except StepError as error:
                errors.append(error.type)
        return errors

    async def scenario():
        await world.start(failing)
        run = await world.rt.start(failing)
        assert await run.result() == ["Never", "KeyError", "InvalidInput"]
        assert box.calls == ["never", "listed", "wrong"]

    play(world, scenario)


def test_a_tool_that_exits_fails_its_step_only(world):
    """SystemExit in a tool is an error of the step, not the end of the worker."""

    @tool(effect="read", retries=0)
    async def leave() -> None:
        raise SystemExit(3)

    @tool(effect="read", retries=0)
    def leave_thread() -> None:
        raise SystemExit(4)

    @agent
    async def leaving(ctx: Context) -> list[str]:
        errors = []
        for tool_ in (leave, leave_thread):
            try:
                await tool_()
            except StepError as error:
                errors.append(error.type)
        return errors

    async def scenario():
        await world.start(leaving)
        assert await (await world.rt.start(leaving)).result() == ["SystemExit"] * 2

    play(world, scenario)


def test_a_tool_in_a_thread_may_raise_what_no_future_can_hold(world):
    """StopIteration fails its step like any other error; the step does not hang."""

    @tool(effect="read", retries=0)
    def exhausted() -> str:
        return next(iter(()))

    @agent
    async def taking(ctx: Context) -> str:
        try:
            return await exhausted()
        except StepError as error:
            return f"{error.type}: {error}"

    async def scenario():
        await world.start(taking)
        run = await world.rt.start(taking)
        assert "StopIteration" in await run.result()

    play(world, scenario)


_HANGING = """
import asyncio
import threading

from perdure import Context, Runtime, agent, tool

begun = threading.Event()

@tool(effect="read")
def hang() -> None:
    begun.set()
    threading.Event().wait()

@agent
async def hanging(ctx: Context) -> None:
    await hang()

async def main() -> None:
    async with Runtime("memory://", [hanging]) as rt:
        await rt.start(hanging)
        await asyncio.to_thread(begun.wait)
        await rt.stop(finish_seconds=0)
    print("stopped")

asyncio.run(main())
"""


def test_a_tool_that_hangs_does_not_keep_its_process_from_ending():
    """After stop() nothing waits for its thread: it ends with the process."""
    ended = subprocess.run([sys.executable, "-c", _HANGING], capture_output=True, text=True, timeout=30, check=False)

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "stopped\n", "")


def test_no_more_tools_run_at_once_than_there_are_threads(world):
    """The others wait their turn, and get it."""
    lock, box, most = threading.Lock(), Box(), []
    together = threading.Barrier(2)

    @tool(effect="read")
    def work(n: int) -> int:
        with lock:
            box.calls.append(n)
            most.append(len(box.calls))
        together.wait(10)
        with lock:
            box.calls.remove(n)
        return n

    @agent
    async def working(ctx: Context) -> list[int]:
        return list(await asyncio.gather(*(work(n) for n in range(6))))

    async def scenario():
        await world.start(working, settings=Settings(threads=2))
        assert await (await world.rt.start(working)).result() == list(range(6))
        assert max(most) == 2

    play(world, scenario)


def test_a_read_that_takes_too_long_is_tried_again(world):
    """A timeout is a failure like any other for a repeatable step."""
    box = Box()

    @tool(effect="read", timeout=5, retries=Retries(1, first_seconds=1))
    async def slow() -> str:
        box.note("slow")
        if len(box.calls) == 1:
            await box.wait()
        return "ok"

    @agent
    async def waiting(ctx: Context) -> str:
        return await slow()

    async def scenario():
        await world.start(waiting)
        run = await world.rt.start(waiting)
        await world.clock.advance(4.9)
        assert len(box.calls) == 1
        await world.clock.advance(0.2)
        failed = await world.until(run, "step.failed")
        assert failed.data["error"]["type"] == "StepTimeout"
        await world.clock.advance(1.1)
        assert await run.result() == "ok"

    play(world, scenario)


def test_a_once_step_that_takes_too_long_is_of_unknown_outcome(world):
    """Nobody knows what a stopped `once` tool did: its probe is asked, then a person."""
    box = Box()

    @tool(effect="once", timeout=5)
    async def pay() -> str:
        await box.wait()
        return "paid"

    @agent
    async def paying(ctx: Context) -> str:
        return await pay()

    async def scenario():
        await world.start(paying)
        run = await world.rt.start(paying)
        await world.clock.advance(5.1)
        row = await world.becomes(run, "waiting")
        assert row.wait["kind"] == "unknown"
        assert "timeout" in (await world.until(run, "step.unknown")).data["why"]
        await world.rt.resolve(run.id, 1, "happened", result="saw it")
        assert await run.result() == "saw it"

    play(world, scenario)


def test_heartbeats_keep_a_step_alive_and_pass_on_their_details(world):
    """Without a heartbeat in time the attempt is dead; the next one continues from the last details."""
    box = Box()

    @tool(effect="keyed", heartbeat_timeout=10, retries=Retries(1, first_seconds=1))
    async def crawl() -> object:
        step = current_step()
        if step.attempt == 1:
            for page in (1, 2, 3):
                step.heartbeat({"page": page})
                await box.wait(page)
            await box.wait("never")
        return step.last_heartbeat

    @agent
    async def crawling(ctx: Context) -> object:
        return await crawl()

    async def scenario():
        await world.start(crawling)
        run = await world.rt.start(crawling)
        await settle()
        for page in (1, 2):
            await world.clock.advance(8)
            box.open(page)
            await settle()
        await world.clock.advance(9)
        assert "step.failed" not in await world.types(run)
        await world.clock.advance(2.5)
        assert (await world.until(run, "step.failed")).data["error"]["type"] == "StepTimeout"
        assert await run.result() == {"page": 3}

    play(world, scenario)


def test_details_of_a_heartbeat_survive_a_crash(world):
    """The attempt after a crash sees what the one before last reported."""
    box = Box()

    @tool(effect="keyed")
    async def crawl() -> object:
        step = current_step()
        if step.attempt == 1:
            step.heartbeat(41)
            await box.wait()
        return step.last_heartbeat

    @agent
    async def crawling(ctx: Context) -> object:
        return await crawl()

    async def scenario():
        await world.start(crawling)
        run = await world.rt.start(crawling)
        await world.clock.advance(0.1)
        await world.until(run, "step.heartbeat")
        await world.restart(crawling)
        assert await (await world.rt.run(run.id)).result() == 41

    play(world, scenario)


def test_a_transaction_commits_its_sql_with_the_step_exactly_once(world):
    """A crash in flight runs it again, and the rows are there once; refused SQL fails its own step only."""
    box = Box()

    @tool(effect="transaction")
    async def create() -> None:
        current_step().execute("create table if not exists orders (id text primary key)")

    @tool(effect="transaction")
    async def insert(id: str) -> str:
        current_step().execute("insert into orders values (?)", (id,))
        box.note(id)
        if len(box.calls) == 1:
            await box.wait()
        return id

    @agent
    async def ordering(ctx: Context) -> list[str]:
        await create()
        done: list[object] = list(await asyncio.gather(insert("a"), insert("b"), return_exceptions=True))
        try:
            await insert("b")
        except StepError as error:
            done.append(error.type)
        return [str(one) for one in done]

    async def scenario():
        await world.start(ordering)
        run = await world.rt.start(ordering)
        await settle()
        box.open()
        await world.restart(ordering)
        assert await (await world.rt.run(run.id)).result() == ["a", "b", "StatementFailed"]

    play(world, scenario)


def test_a_failed_step_fails_its_run_with_the_original_error(world):
    """Type and message of the tool's exception reach whoever asks for the result."""

    @tool(effect="read", retries=0)
    async def fail() -> None:
        raise LookupError("nowhere")

    @agent
    async def failing(ctx: Context) -> None:
        await fail()

    async def scenario():
        await world.start(failing)
        run = await world.rt.start(failing)
        with pytest.raises(RunFailed, match="nowhere") as caught:
            await run.result()
        assert caught.value.type == "LookupError"

    play(world, scenario)


def test_a_step_nobody_waits_for_any_more_is_stopped(world):
    """A tool whose agent gave up is cancelled, cleans up, and the run goes on."""
    box = Box()

    @tool(effect="read")
    async def slow() -> None:
        try:
            await box.wait()
        finally:
            box.note("cleaned up")

    @agent
    async def impatient(ctx: Context) -> str:
        try:
            async with asyncio.timeout(3):
                await slow()
        except TimeoutError:
            return "enough"
        return "not reached"

    async def scenario():
        await world.start(impatient)
        run = await world.rt.start(impatient)
        await world.clock.advance(3.1)
        assert await run.result() == "enough"
        await settle()
        assert box.calls == ["cleaned up"]
        assert "step.cancelled" in await world.types(run)

    play(world, scenario)
