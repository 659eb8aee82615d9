"""Forks and retries do nothing a second time, unasked, that happened or may have: neither a step nor with a consent."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from perdure import DID_NOT_HAPPEN, Context, Happened, RunFailed, agent, current_step, tool
from perdure.errors import InvalidInput, StepError
from perdure.kernel.history import read_deeds
from perdure.values.events import Event
from tests.scenario.worlds import Box, play, settle


def payer(box, effect="once", probe=None, **options):
    """A tool that notes its key and its attempt, and waits at the gate."""

    @tool(effect=effect, **options)
    async def pay(amount: int) -> str:
        step = current_step()
        box.note((step.key, step.attempt))
        await box.wait()
        return f"paid {amount}"

    if probe is not None:
        pay.reconcile(probe)
    return pay


def paying_agent(pay):
    """An agent with this one step."""

    @agent
    async def paying(ctx: Context) -> str:
        return await pay(7)

    return paying


def failing_beside(pay, *, pay_first, first_fails=1):
    """An agent that pays and looks at once; the look fails the first time it is let through."""
    looks = Box()

    @tool(effect="read", retries=0)
    async def look(n: int) -> int:
        looks.note(n)
        await looks.wait()
        if looks.count(n) <= first_fails:
            raise OSError("out of sight")
        return n

    @agent
    async def both(ctx: Context) -> list[object]:
        if pay_first:
            return list(await asyncio.gather(pay(7), look(1)))
        return list(await asyncio.gather(look(1), pay(7)))

    return both, looks


async def asked_about(world, run, step):
    """The run waits for a person to say what became of `step`."""
    row = await world.becomes(run, "waiting")
    assert (row.wait["kind"], row.wait["step"]) == ("unknown", step), row.wait
    event = (await world.journal(run))[-1]
    assert (event.type, event.step) == ("step.unknown", step)


@pytest.mark.parametrize("crash", [False, True], ids=["cancelled in flight", "cancelled after a crash"])
@pytest.mark.parametrize("effect", ["once", "keyed"])
@pytest.mark.parametrize(("outcome", "calls"), [("happened", 1), ("run-again", 2), ("fail", 1)])
def test_the_retry_of_a_cancelled_run_asks_what_became_of_its_step(world, effect, crash, outcome, calls):
    """Not even a keyed step runs by itself: in the fork it has another key. Another crash changes nothing."""
    box = Box()
    paying = paying_agent(payer(box, effect))

    async def scenario():
        await world.start(paying)
        run = await world.rt.start(paying)
        await settle()
        if crash:
            await world.restart(paying)
        await world.rt.cancel(run.id)
        await world.becomes(run, "cancelled")
        before = len(box.calls)
        again = await world.rt.retry(run.id)
        await asked_about(world, again, 1)
        await world.restart(paying)
        await asked_about(world, again, 1)
        assert len(box.calls) == before == (2 if crash and effect == "keyed" else 1)
        box.open()
        await world.rt.resolve(again.id, 1, outcome, result="by hand" if outcome == "happened" else None)
        if outcome == "fail":
            with pytest.raises(RunFailed):
                await (await world.rt.run(again.id)).result()
        else:
            expected = "by hand" if outcome == "happened" else "paid 7"
            assert await (await world.rt.run(again.id)).result() == expected
        assert len(box.calls) == before + calls - 1
        assert {key for key, _ in box.calls[before:]} <= {f"{again.id}:1"}

    play(world, scenario)


@pytest.mark.parametrize(("verdict", "expected", "calls"), [("happened", "seen", 1), ("not", "paid 7", 2)])
def test_a_probe_settles_it_for_the_retry(world, verdict, expected, calls):
    """The probe is asked before anything runs, and no person is."""
    box = Box()
    paying = paying_agent(
        payer(box, probe=lambda amount: Happened("seen") if verdict == "happened" else DID_NOT_HAPPEN)
    )

    async def scenario():
        await world.start(paying)
        run = await world.rt.start(paying)
        await settle()
        await world.rt.cancel(run.id)
        await world.becomes(run, "cancelled")
        box.open()
        again = await world.rt.retry(run.id)
        assert await again.result() == expected
        assert len(box.calls) == calls
        assert "step.unknown" not in await world.types(again)

    play(world, scenario)


@pytest.mark.parametrize("pay_first", [True, False], ids=["begun before", "begun after"])
@pytest.mark.parametrize("effect", ["once", "keyed"])
def test_the_retry_of_a_failed_step_asks_about_the_one_beside_it(world, effect, pay_first):
    """What failed is tried again; the payment that was in flight meanwhile is settled, whichever began first."""
    box = Box()
    both, looks = failing_beside(payer(box, effect), pay_first=pay_first)
    step = 1 if pay_first else 2

    async def scenario():
        await world.start(both)
        run = await world.rt.start(both)
        await settle()
        looks.open()
        with pytest.raises(RunFailed, match="out of sight"):
            await run.result()
        again = await world.rt.retry(run.id)
        await world.becomes(again, "waiting")
        await world.restart(both)
        assert (await world.becomes(again, "waiting")).wait["kind"] == "unknown"
        await world.rt.resolve(again.id, step, "happened", result="paid by hand")
        result = await (await world.rt.run(again.id)).result()
        assert result == (["paid by hand", 1] if pay_first else [1, "paid by hand"])
        assert (len(box.calls), looks.calls) == (1, [1, 1])

    play(world, scenario)


@pytest.mark.parametrize("pay_first", [True, False], ids=["begun before", "begun after"])
def test_a_retry_keeps_what_was_done_beside_the_failed_step(world, pay_first):
    """A payment that was made while another step failed is not made again; what fails again may be retried again."""
    box = Box()
    both, looks = failing_beside(payer(box), pay_first=pay_first, first_fails=2)

    async def scenario():
        await world.start(both)
        run = await world.rt.start(both)
        await settle()
        box.open()
        await world.until(run, "step.completed")
        looks.open()
        with pytest.raises(RunFailed):
            await run.result()
        again = await world.rt.retry(run.id)
        with pytest.raises(RunFailed):
            await again.result()
        third = await world.rt.retry(again.id)
        assert sorted(map(str, await third.result())) == ["1", "paid 7"]
        assert (len(box.calls), looks.calls) == (1, [1, 1, 1])

    play(world, scenario)


def test_the_retry_of_a_run_that_failed_after_its_last_step_repeats_nothing(world):
    """The agent's own mistake is no reason to pay twice: mended code goes on behind the payment."""
    box = Box()
    box.open()
    pay = payer(box)

    @agent(name="work")
    async def wrong(ctx: Context) -> str:
        raise KeyError(await pay(7))

    @agent(name="work")
    async def mended(ctx: Context) -> str:
        return await pay(7)

    async def scenario():
        await world.start(wrong)
        run = await world.rt.start(wrong)
        with pytest.raises(RunFailed, match="paid 7"):
            await run.result()
        await world.restart(mended)
        assert await (await world.rt.retry(run.id)).result() == "paid 7"
        assert len(box.calls) == 1

    play(world, scenario)


def test_a_retry_keeps_the_child_that_succeeded(world):
    """Its parent failed afterwards: the child, and what it paid, is not done again."""
    box = Box()
    box.open()
    paying = paying_agent(payer(box))
    tries = Box()

    @tool(effect="read", retries=0)
    async def look() -> int:
        tries.note("look")
        await tries.wait()
        if len(tries.calls) == 1:
            raise OSError("out of sight")
        return 1

    @agent
    async def parent(ctx: Context) -> list[object]:
        return list(await asyncio.gather(look(), ctx.spawn(paying)))

    async def scenario():
        await world.start(parent, paying)
        run = await world.rt.start(parent)
        await world.until(run, "child.ended")
        tries.open()
        with pytest.raises(RunFailed):
            await run.result()
        assert await (await world.rt.retry(run.id)).result() == [1, "paid 7"]
        assert len(box.calls) == 1

    play(world, scenario)


def test_the_retry_of_a_cancelled_run_repeats_no_message(world):
    """It goes on waiting where it waited; what it had sent meanwhile is sent."""

    @agent
    async def hearing(ctx: Context) -> list[str]:
        return [await ctx.receive("word", str), await ctx.receive("word", str)]

    @agent
    async def telling(ctx: Context, to: str) -> str:
        waiting = asyncio.ensure_future(ctx.receive("go", str))
        await asyncio.sleep(0)
        await ctx.send(to, "word", "hello")
        return await waiting

    async def scenario():
        await world.start(hearing, telling)
        other = await world.rt.start(hearing)
        run = await world.rt.start(telling, other.id)
        await world.becomes(run, "waiting")
        await world.rt.cancel(run.id)
        await world.becomes(run, "cancelled")
        again = await world.rt.retry(run.id)
        await world.rt.send(again.id, "go", "done")
        assert await again.result() == "done"
        await world.rt.send(other.id, "word", "bye")
        assert await other.result() == ["hello", "bye"]

    play(world, scenario)


def test_a_failure_that_the_agent_got_over_is_not_what_a_retry_goes_back_to(world):
    """Where a later payment is in doubt, that is what went wrong: nothing before it is repeated."""
    box, before = Box(), Box()
    pay = payer(box)

    @tool(effect="read", retries=0)
    async def look() -> None:
        before.note("look")
        raise OSError("out of sight")

    @tool(effect="once")
    async def book() -> None:
        before.note("book")

    async def begin(ctx):
        with contextlib.suppress(StepError):
            await look()
        await book()
        paying = asyncio.ensure_future(pay(7))
        await ctx.receive("go")
        return paying

    @agent(name="work")
    async def wrong(ctx: Context) -> str:
        await begin(ctx)
        raise KeyError("mistaken")

    @agent(name="work")
    async def mended(ctx: Context) -> str:
        return await (await begin(ctx))

    async def scenario():
        await world.start(wrong)
        run = await world.rt.start(wrong)
        await settle()
        await world.rt.send(run.id, "go")
        with pytest.raises(RunFailed, match="mistaken"):
            await run.result()
        await world.restart(mended)
        again = await world.rt.retry(run.id)
        await world.becomes(again, "waiting")
        await world.rt.resolve(again.id, await step_of(world, run, "pay"), "happened", result="seen")
        await world.rt.send(again.id, "go")
        assert await again.result() == "seen"
        assert (len(box.calls), before.calls) == (1, ["look", "book"])

    play(world, scenario)


def test_mended_code_settles_what_was_in_flight_when_the_old_code_failed(world):
    """The agent's own mistake ended the run: the retry goes on from there, and runs no payment by itself."""
    box, done = Box(), Box()
    done.open()
    pay, book = payer(box, "keyed"), payer(done)

    @agent(name="work")
    async def wrong(ctx: Context) -> list[str]:
        paying = asyncio.ensure_future(pay(7))
        await asyncio.sleep(0)
        raise KeyError(await book(1), paying)

    @agent(name="work")
    async def mended(ctx: Context) -> list[str]:
        paying = asyncio.ensure_future(pay(7))
        await asyncio.sleep(0)
        return [await book(1), await paying]

    async def scenario():
        await world.start(wrong)
        run = await world.rt.start(wrong)
        with pytest.raises(RunFailed):
            await run.result()
        await world.restart(mended)
        again = await world.rt.retry(run.id)
        await world.becomes(again, "waiting")
        await world.rt.resolve(again.id, await step_of(world, run, "pay"), "happened", result="seen")
        assert await again.result() == ["paid 1", "seen"]
        assert (len(box.calls), len(done.calls)) == (1, 1)

    play(world, scenario)


def test_what_the_clean_up_left_in_doubt_is_not_the_retrys(world):
    """The retry goes on as if nobody had cancelled: the steps of the clean-up are not its own."""
    box, done = Box(), Box()
    done.open()
    undo, book = payer(box, name="undo"), payer(done)

    @agent
    async def tidy(ctx: Context) -> str:
        waiting = asyncio.ensure_future(ctx.receive("go", str))
        await asyncio.sleep(0)
        try:
            await book(1)
            return await waiting
        except asyncio.CancelledError:
            undoing = asyncio.ensure_future(undo(1))
            await asyncio.sleep(0)
            await asyncio.wait([undoing], timeout=5)
            raise

    async def scenario():
        await world.start(tidy)
        run = await world.rt.start(tidy)
        await world.becomes(run, "waiting")
        await world.rt.cancel(run.id)
        await settle()
        assert len(box.calls) == 1
        await world.clock.advance(5.1)
        await world.becomes(run, "cancelled")
        again = await world.rt.retry(run.id)
        await world.rt.send(again.id, "go", "done")
        assert await again.result() == "done"
        assert (len(box.calls), len(done.calls)) == (1, 1)

    play(world, scenario)


def test_a_keyed_step_that_timed_out_is_settled_before_it_is_retried(world):
    """It was stopped half-way, and another key would not show the service that it is the same request."""
    box = Box()
    paying = paying_agent(payer(box, "keyed", timeout=5, retries=0))

    async def scenario():
        await world.start(paying)
        run = await world.rt.start(paying)
        await world.clock.advance(5.1)
        with pytest.raises(RunFailed):
            await run.result()
        again = await world.rt.retry(run.id)
        await asked_about(world, again, 1)
        assert len(box.calls) == 1

    play(world, scenario)


def test_what_a_person_let_fail_is_asked_about_again_by_a_retry(world):
    """`fail` tells the agent that nobody knows; that is not leave to run it again."""
    box = Box()
    paying = paying_agent(payer(box))

    async def scenario():
        await world.start(paying)
        run = await world.rt.start(paying)
        await settle()
        await world.restart(paying)
        await world.becomes(run, "waiting")
        await world.rt.resolve(run.id, 1, "fail")
        with pytest.raises(RunFailed):
            await (await world.rt.run(run.id)).result()
        again = await world.rt.retry(run.id)
        await asked_about(world, again, 1)
        assert len(box.calls) == 1

    play(world, scenario)


def test_a_step_that_failed_by_its_own_word_is_simply_tried_again(world):
    """There is no doubt: a tool that raised says itself that it did not do it."""
    box = Box()

    @tool(effect="keyed", retries=0)
    async def pay() -> str:
        box.note(current_step().key)
        if len(box.calls) == 1:
            raise OSError("no money")
        return "paid"

    @agent
    async def paying(ctx: Context) -> str:
        return await pay()

    async def scenario():
        await world.start(paying)
        run = await world.rt.start(paying)
        with pytest.raises(RunFailed):
            await run.result()
        again = await world.rt.retry(run.id)
        assert await again.result() == "paid"
        assert box.calls == [f"{run.id}:1", f"{again.id}:1"]

    play(world, scenario)


def busy_agent(pay):
    """An agent that pays in the background, and looks once it is told to."""

    @tool(effect="read")
    async def look() -> int:
        return 1

    @agent
    async def busy(ctx: Context) -> list[object]:
        paying = asyncio.ensure_future(pay(7))
        await ctx.receive("go")
        return [await look(), await paying]

    return busy


async def step_of(world, run, name, type="step.started"):
    """The number of the step of this name."""
    return next(e.step for e in await world.journal(run) if e.type == type and e.data["name"] == name)


@pytest.mark.parametrize("effect", ["once", "keyed", "transaction"])
def test_a_live_run_is_not_forked_behind_a_step_that_it_still_does(world, effect):
    """Both would do it. Once it is settled, the fork takes its result along; a given result needs no waiting."""
    box = Box()
    busy = busy_agent(payer(box, effect))

    async def scenario():
        await world.start(busy)
        run = await world.rt.start(busy)
        await settle()
        await world.rt.send(run.id, "go")
        await settle()
        pay, look = await step_of(world, run, "pay"), await step_of(world, run, "look")
        for step in (pay, look):
            with pytest.raises(InvalidInput, match=f"step {pay} .* not settled yet"):
                await world.rt.fork(run.id, at=step)
        given = await world.rt.fork(run.id, at=pay, result="given")
        await world.rt.send(given.id, "go")
        assert await given.result() == [1, "given"]
        box.open()
        assert await run.result() == [1, "paid 7"]
        fork = await world.rt.fork(run.id, at=look)
        assert await fork.result() == [1, "paid 7"]
        assert len(box.calls) == 1

    play(world, scenario)


def test_a_fork_behind_a_step_that_a_dead_run_left_open_has_it_settled(world):
    """Also where the fork begins later than that step, and through another crash."""
    box = Box()
    busy = busy_agent(payer(box, "keyed"))

    async def scenario():
        await world.start(busy)
        run = await world.rt.start(busy)
        await settle()
        await world.rt.send(run.id, "go")
        await settle()
        await world.rt.cancel(run.id)
        await world.becomes(run, "cancelled")
        fork = await world.rt.fork(run.id, at=await step_of(world, run, "look"))
        await world.becomes(fork, "waiting")
        await world.restart(busy)
        assert (await world.becomes(fork, "waiting")).wait["kind"] == "unknown"
        await world.rt.resolve(fork.id, await step_of(world, run, "pay"), "happened", result="seen")
        assert await (await world.rt.run(fork.id)).result() == [1, "seen"]
        assert len(box.calls) == 1

    play(world, scenario)


def test_an_attempt_that_a_person_ordered_is_known_to_the_fork(world):
    """`run-again` settles nothing by itself: the fork takes along what the attempt after it brought."""
    box = Box()
    busy = busy_agent(payer(box))

    async def scenario():
        await world.start(busy)
        run = await world.rt.start(busy)
        await settle()
        await world.restart(busy)
        pay = (await world.until(run, "step.unknown")).step
        await world.rt.resolve(run.id, pay, "run-again")
        await settle()
        await world.rt.send(run.id, "go")
        await settle()
        box.open()
        assert await (await world.rt.run(run.id)).result() == [1, "paid 7"]
        fork = await world.rt.fork(run.id, at=await step_of(world, run, "look"))
        assert await fork.result() == [1, "paid 7"]
        assert len(box.calls) == 2

    play(world, scenario)


# Consent.


async def consent(world):
    """Say yes to all that is asked for; how often that was."""
    asks = await world.rt.inbox()
    for ask in asks:
        await world.rt.approve(ask.id)
    await settle()
    return len(asks)


@pytest.mark.parametrize("effect", ["once", "keyed"])
def test_consent_is_not_inherited_by_a_retry(world, effect):
    """An attempt in flight used it up: another one is denied in the fork, and the retry of that asks anew."""
    box = Box()
    paying = paying_agent(payer(box, effect, approval="boss"))

    async def scenario():
        await world.start(paying)
        run = await world.rt.start(paying)
        await world.becomes(run, "waiting")
        assert await consent(world) == 1
        await world.rt.cancel(run.id)
        await world.becomes(run, "cancelled")
        box.open()
        again = await world.rt.retry(run.id)
        await asked_about(world, again, 2)
        await world.restart(paying)
        await asked_about(world, again, 2)
        await world.rt.resolve(again.id, 2, "run-again")
        with pytest.raises(RunFailed, match="needs the consent of boss"):
            await (await world.rt.run(again.id)).result()
        assert len(box.calls) == 1
        third = await world.rt.retry(again.id)
        await world.becomes(third, "waiting")
        assert await consent(world) == 1
        assert await third.result() == "paid 7"
        assert len(box.calls) == 2

    play(world, scenario)


def test_consent_is_not_inherited_by_a_fork_behind_the_step_that_has_it(world):
    """The step goes along as begun; whoever lets it run again is no substitute for who consented."""
    box = Box()
    busy = busy_agent(payer(box, "keyed", approval="boss"))

    async def scenario():
        await world.start(busy)
        run = await world.rt.start(busy)
        await world.becomes(run, "waiting")
        assert await consent(world) == 1
        await world.restart(busy)
        await world.rt.send(run.id, "go")
        await settle()
        pay, look = await step_of(world, run, "pay"), await step_of(world, run, "look")
        with pytest.raises(InvalidInput, match="not settled yet"):
            await world.rt.fork(run.id, at=look)
        await world.rt.cancel(run.id)
        await world.becomes(run, "cancelled")
        box.open()
        before = len(box.calls)
        fork = await world.rt.fork(run.id, at=look)
        await world.becomes(fork, "waiting")
        await world.rt.resolve(fork.id, pay, "run-again")
        with pytest.raises(RunFailed, match="needs the consent of boss"):
            await fork.result()
        assert len(box.calls) == before

    play(world, scenario)


def test_a_consent_that_is_not_used_yet_stays_with_the_original(world):
    """A fork behind it would act on it as well: it is refused, and asks for itself where it begins earlier."""
    box = Box()
    box.open()
    pay = payer(box)

    @agent
    async def careful(ctx: Context) -> str:
        decision = await ctx.approve(pay, 7)
        await ctx.receive("go")
        return await decision.perform()

    async def scenario():
        await world.start(careful)
        run = await world.rt.start(careful)
        await world.becomes(run, "waiting")
        assert await consent(world) == 1
        with pytest.raises(InvalidInput, match=f"perdure fork {run.id} --at 1"):
            await world.rt.fork(run.id, at=2)
        fork = await world.rt.fork(run.id, at=1)
        await world.becomes(fork, "waiting")
        assert await consent(world) == 1
        for each in (run, fork):
            await world.rt.send(each.id, "go")
            assert await each.result() == "paid 7"
        assert len(box.calls) == 2

    play(world, scenario)


def test_a_consent_that_came_after_the_cut_is_not_copied(world):
    """The fork asks for its own; only one of them may be paid by the yes to the original."""
    box = Box()
    box.open()
    pay = payer(box, "keyed", approval="boss")

    @tool(effect="read")
    async def look() -> int:
        return 1

    @agent
    async def busy(ctx: Context) -> list[object]:
        paying = asyncio.ensure_future(pay(7))
        await asyncio.sleep(0)
        return [await look(), await paying]

    async def scenario():
        await world.start(busy)
        run = await world.rt.start(busy)
        await world.becomes(run, "waiting")
        assert await consent(world) == 1
        assert await run.result() == [1, "paid 7"]
        fork = await world.rt.fork(run.id, at=await step_of(world, run, "look"))
        await world.becomes(fork, "waiting")
        assert len(box.calls) == 1
        assert await consent(world) == 1
        assert await fork.result() == [1, "paid 7"]
        assert [key for key, _ in box.calls] == [f"{run.id}:3", f"{fork.id}:3"]

    play(world, scenario)


def test_a_retry_that_must_ask_again_does_not_repeat_what_was_done_meanwhile(world):
    """Going back to the question would pay the other bill again: it is refused, and says how to do just that."""
    box = Box()
    box.open()
    pay = payer(box)

    @tool(effect="once", approval="boss")
    async def transfer() -> str:
        raise OSError("no money")

    @agent
    async def both(ctx: Context) -> list[str]:
        return list(await asyncio.gather(transfer(), pay(7)))

    async def scenario():
        await world.start(both)
        run = await world.rt.start(both)
        await world.becomes(run, "waiting")
        assert await consent(world) == 1
        with pytest.raises(RunFailed):
            await run.result()
        with pytest.raises(InvalidInput, match=r"repeat step 2 \(pay\), which has happened"):
            await world.rt.retry(run.id)
        fork = await world.rt.fork(run.id, at=1)
        await world.becomes(fork, "waiting")
        assert len(await world.rt.inbox()) == 1

    play(world, scenario)


def test_an_event_that_nobody_can_read_keeps_nobody_from_forking_before_it():
    """What it would have said counts as unknown."""
    started = '{"step":1,"kind":"tool","name":"pay","effect":"once","args":{}}'
    deeds = read_deeds(
        [
            Event("run_1", 1, "step.started", 0, 1, 1, started),
            Event("run_1", 2, "step.failed", 0, 1, 1, '{"step":1,"err'),
            Event("run_1", 3, "step.started", 0, 2, 1, '{"step":2,"ki'),
            Event("run_1", 4, "step.resolved", 0, 2, 1, '{"step":2,"ki'),
        ]
    )

    assert [(deed.name, deed.settled, deed.happened) for deed in deeds.values()] == [
        ("pay", True, False),
        ("?", True, False),
    ]
    assert deeds[2].in_doubt
