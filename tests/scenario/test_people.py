"""Questions, approvals and messages: what people and other runs say to a run."""

from __future__ import annotations

import asyncio
from datetime import date

import pytest
from pydantic import BaseModel, field_validator

from perdure import Context, RunFailed, StepError, agent, tool
from perdure.errors import AlreadySettled, ApprovalRejected, AskTimeout, InvalidInput, NotFound, ReceiveTimeout
from perdure.kernel.contract import Admission, Decision
from tests.scenario.worlds import Box, play, settle


class Verdict(BaseModel):
    approved: bool
    note: str = ""


@agent
async def asking(ctx: Context) -> str:
    """One question with a deadline."""
    try:
        verdict = await ctx.ask("Spend it?", Verdict, to="finance", timeout=60)
    except AskTimeout:
        return f"nobody at {ctx.now().second}"
    return f"{verdict.approved} {verdict.note}"


def test_an_answer_reaches_the_agent_as_its_type(world):
    """The question is listed with its schema; the answer arrives as the model, also after a restart."""

    async def scenario():
        await world.start(asking)
        run = await world.rt.start(asking)
        row = await world.becomes(run, "waiting")
        assert row.wait["kind"] == "ask"
        await world.restart(asking)
        [ask] = await world.rt.inbox(to="finance")
        assert (ask.title, ask.run) == ("Spend it?", run.id)
        await world.rt.answer(ask.id, {"approved": True, "note": "go"}, by="ann")
        assert await (await world.rt.run(run.id)).result() == "True go"
        assert await world.rt.inbox() == []

    play(world, scenario)


def test_an_answer_of_the_wrong_shape_is_refused_and_the_question_stays(world):
    """The caller learns what would fit; nothing is recorded."""

    async def scenario():
        await world.start(asking)
        run = await world.rt.start(asking)
        await world.becomes(run, "waiting")
        with pytest.raises(InvalidInput, match="approved"):
            await world.rt.answer(f"{run.id}:1", {"note": 3})
        with pytest.raises(NotFound):
            await world.rt.answer("nonsense", "yes")
        with pytest.raises(InvalidInput, match="answer"):
            await world.rt.approve(f"{run.id}:1")
        await world.rt.answer(f"{run.id}:1", {"approved": False})
        assert await run.result() == "False "

    play(world, scenario)


class Loud(BaseModel):
    said: str

    @field_validator("said")
    @classmethod
    def _check(cls, said: str) -> str:
        if not said.isupper():
            raise ValueError("too low")
        return said


def test_an_answer_that_only_looks_right_is_refused_or_raised_in_the_agent(world):
    """Text in a format is read before it counts; what only the type itself can check is the agent's to handle."""

    @agent
    async def planning(ctx: Context) -> str:
        day = await ctx.ask("When?", date)
        try:
            await ctx.ask("Which?", Loud)
        except InvalidInput as error:
            return f"{day:%d %B}; {error}"
        return ""

    async def scenario():
        await world.start(planning)
        run = await world.rt.start(planning)
        await world.becomes(run, "waiting")
        with pytest.raises(InvalidInput, match=r"'not a date' is not a 'date'. It wants: date"):
            await world.rt.answer(f"{run.id}:1", "not a date")
        await world.rt.answer(f"{run.id}:1", "2024-02-29")
        await settle()
        await world.rt.answer(f"{run.id}:2", {"said": "mouse"})
        expected = "29 February; the answer to 'Which?' does not fit: said: Value error, too low (got 'mouse')"
        assert await run.result() == expected

    play(world, scenario)


def test_the_second_answer_is_refused_unless_it_is_the_same(world):
    """One answer counts; saying it again is harmless, saying something else is an error."""

    async def scenario():
        await world.start(asking)
        run = await world.rt.start(asking)
        await world.becomes(run, "waiting")
        said = (True, False, True)
        answers = (world.rt.answer(f"{run.id}:1", {"approved": flag}) for flag in said)
        results = await asyncio.gather(*answers, return_exceptions=True)
        # Which of them comes first is the store's affair.
        counted = next(flag for flag, result in zip(said, results, strict=True) if result is None)
        refused = [type(None) if flag is counted else AlreadySettled for flag in said]
        assert [type(result) for result in results] == refused
        assert await run.result() == f"{counted} "
        assert (await world.types(run)).count("ask.answered") == 1

    play(world, scenario)


@pytest.mark.parametrize("restart", [False, True])
def test_a_question_expires_exactly_at_its_deadline(world, restart):
    """Never early, also across a restart."""

    async def scenario():
        await world.start(asking)
        run = await world.rt.start(asking)
        await world.becomes(run, "waiting")
        await world.clock.advance(59.999)
        if restart:
            await world.restart(asking)
        assert (await world.status(run)).status == "waiting"
        await world.clock.advance(0.0011)
        await world.becomes(run, "succeeded")
        assert await (await world.rt.run(run.id)).result() == "nobody at 0"
        events = await world.journal(run)
        opened = next(e for e in events if e.type == "ask.opened")
        expired = next(e for e in events if e.type == "ask.expired")
        assert 60_000_000 <= expired.time_us - opened.time_us < 60_002_000
        with pytest.raises(AlreadySettled):
            await world.rt.answer(f"{run.id}:1", {"approved": True})

    play(world, scenario)


def test_a_deadline_that_passed_while_nobody_ran_expires_at_the_next_start(world):
    """The worker was down at the deadline: the question expires when one comes."""

    async def scenario():
        await world.start(asking)
        run = await world.rt.start(asking)
        await world.becomes(run, "waiting")
        await world.crash()
        await world.clock.advance(3600)
        await world.start(asking)
        await world.becomes(run, "succeeded")
        assert "ask.expired" in await world.types(run)

    play(world, scenario)


def test_when_answer_and_deadline_race_one_of_them_wins(world):
    """Whatever comes first is what the agent sees, and it is the only result."""

    async def scenario():
        await world.start(asking)
        runs = [await world.rt.start(asking) for _ in range(8)]
        for run in runs:
            await world.becomes(run, "waiting")
        answers = [asyncio.create_task(world.rt.answer(f"{run.id}:1", {"approved": True})) for run in runs[:4]]
        await world.clock.advance(60.0)
        late = [asyncio.create_task(world.rt.answer(f"{run.id}:1", {"approved": True})) for run in runs[4:]]
        done = await asyncio.gather(*answers, *late, return_exceptions=True)
        await world.clock.advance(1)
        for run, outcome in zip(runs, done, strict=True):
            expected = "True " if outcome is None else "nobody"
            assert (await run.result()).startswith(expected)

    play(world, scenario)


def test_a_question_nobody_waits_for_is_withdrawn(world):
    """When the agent gives up, ends or is cancelled, its questions leave the inbox."""

    @agent
    async def restless(ctx: Context) -> str:
        try:
            async with asyncio.timeout(5):
                await ctx.ask("first?")
        except TimeoutError:
            pass
        second = asyncio.ensure_future(ctx.ask("second?"))
        third = asyncio.ensure_future(ctx.ask("third?"))
        await ctx.ask("last?")
        return f"{second} {third}"

    @agent
    async def leaving(ctx: Context) -> str:
        unanswered = asyncio.ensure_future(ctx.ask("unanswered?"))
        await asyncio.sleep(1)
        return "gone" if not unanswered.done() else ""

    async def scenario():
        await world.start(restless, leaving)
        run = await world.rt.start(restless)
        await world.clock.advance(5.1)
        assert sorted(ask.title for ask in await world.rt.inbox()) == ["last?", "second?", "third?"]
        await world.rt.cancel(run.id)
        await world.becomes(run, "cancelled")
        assert await world.rt.inbox() == []
        other = await world.rt.start(leaving)
        await world.clock.advance(0.5)
        assert len(await world.rt.inbox()) == 1
        await world.clock.advance(1)
        assert await other.result() == "gone"
        assert await world.rt.inbox() == []

    play(world, scenario)


def test_a_question_taken_back_at_once_is_never_in_the_inbox(world):
    """Opened and given up in one commit."""

    @agent
    async def fickle(ctx: Context) -> str:
        question = asyncio.ensure_future(ctx.ask("never mind"))
        await asyncio.sleep(0)
        question.cancel()
        return await ctx.receive("go")

    async def scenario():
        await world.start(fickle)
        run = await world.rt.start(fickle)
        await world.becomes(run, "waiting")
        assert await world.rt.inbox() == []
        await run.send("go", "gone")
        assert await run.result() == "gone"
        assert [t for t in await world.types(run) if t.startswith("ask.")] == ["ask.opened", "ask.withdrawn"]

    play(world, scenario)


def test_what_a_timeout_sets_off_is_written_beside_an_expiry_of_the_same_moment(world):
    """The timer and the question's deadline are due together, and the agent ends at once: its end is written."""

    @tool(effect="read", retries=5)
    async def failing() -> None:
        raise OSError

    @agent
    async def torn(ctx: Context) -> object:
        async def expire() -> None:
            try:
                await ctx.ask("soon?", timeout=10)
            except AskTimeout:
                await ctx.receive("never")

        try:
            async with asyncio.timeout(10):
                await asyncio.gather(failing(), expire(), ctx.ask("later?"))
        except TimeoutError:
            return await ctx.receive("go")
        return None

    async def scenario():
        await world.start(torn)
        run = await world.rt.start(torn)
        await world.becomes(run, "waiting")
        await world.clock.advance(10.0)
        await world.becomes(run, "waiting")
        assert await world.rt.inbox() == []
        await run.send("go", "on")
        assert await run.result() == "on"

    play(world, scenario)


# Approvals.


def approving(box, **options):
    """A tool that pays."""

    @tool(effect="once", **options)
    async def pay(to: str, amount: int) -> str:
        box.note((to, amount))
        return f"{amount} to {to}"

    return pay


def test_an_approved_action_is_performed_once_with_its_arguments(world):
    """`ctx.approve` opens the request, `perform` uses it up."""
    box = Box()
    pay = approving(box)

    @agent
    async def careful(ctx: Context) -> list[str]:
        approval = await ctx.approve(pay, "bob", 5, to="boss")
        first = await approval.perform()
        try:
            await approval.perform()
        except AlreadySettled:
            return [first, approval.by or "", approval.note or ""]
        return []

    async def scenario():
        await world.start(careful)
        run = await world.rt.start(careful)
        row = await world.becomes(run, "waiting")
        assert row.wait["kind"] == "approval"
        await world.restart(careful)
        [request] = await world.rt.inbox(to="boss")
        await world.rt.approve(request.id, by="ann", note="fine")
        assert await (await world.rt.run(run.id)).result() == ["5 to bob", "ann", "fine"]
        assert box.calls == [("bob", 5)]
        with pytest.raises(AlreadySettled):
            await world.rt.reject(request.id)

    play(world, scenario)


def test_a_tool_that_needs_consent_asks_for_it_by_itself(world):
    """Each call opens a request; a refusal raises ApprovalRejected, and nothing is done."""
    box = Box()
    pay = approving(box, approval="boss")

    @agent
    async def paying(ctx: Context) -> str:
        await pay("bob", 1)
        try:
            return await pay("eve", 2)
        except ApprovalRejected as error:
            return str(error)

    async def scenario():
        await world.start(paying)
        run = await world.rt.start(paying)
        await world.becomes(run, "waiting")
        await world.rt.approve((await world.rt.inbox())[0].id)
        await world.until(run, "approval.granted")
        await world.becomes(run, "waiting")
        await world.restart(paying)
        await world.rt.reject((await world.rt.inbox())[0].id, by="ann", note="not her")
        assert await (await world.rt.run(run.id)).result() == "ann refused pay: not her"
        assert box.calls == [("bob", 1)]

    play(world, scenario)


def test_a_person_can_edit_what_they_approve(world):
    """The edited arguments are validated, run as approved, and bound by a hash of their own."""
    box = Box()
    pay = approving(box, approval=True)

    @agent
    async def paying(ctx: Context) -> str:
        return await pay("bob", 100)

    async def scenario():
        await world.start(paying)
        run = await world.rt.start(paying)
        await world.becomes(run, "waiting")
        [request] = await world.rt.inbox()
        with pytest.raises(InvalidInput):
            await world.rt.approve(request.id, edit={"amount": "much"})
        await world.rt.approve(request.id, edit={"amount": 7})
        assert await run.result() == "7 to bob"
        events = await world.journal(run)
        requested = next(e for e in events if e.type == "approval.requested")
        granted = next(e for e in events if e.type == "approval.granted")
        assert requested.data["hash"] != granted.data["hash"]

    play(world, scenario)


def test_consent_holds_for_all_attempts_of_the_one_step_it_was_given_to(world):
    """A retry, and a second run after a crash, use the consent of their step; another call has none."""
    box = Box()

    @tool(effect="keyed", approval=True, retries=2)
    async def pay(amount: int) -> str:
        box.note(amount)
        if len(box.calls) == 1:
            raise OSError("try again")
        if len(box.calls) == 2:
            await box.wait()
        return "paid"

    @agent
    async def paying(ctx: Context) -> str:
        return await pay(3)

    async def scenario():
        await world.start(paying)
        run = await world.rt.start(paying)
        await world.becomes(run, "waiting")
        await world.rt.approve((await world.rt.inbox())[0].id)
        await settle()
        await world.clock.advance(5)
        assert box.calls == [3, 3]
        await world.restart(paying)
        assert await (await world.rt.run(run.id)).result() == "paid"
        assert box.calls == [3, 3, 3]

    play(world, scenario)


def test_the_gate_denies_arguments_that_were_not_approved(world):
    """Consent to one call is useless for another one, in this run and in others."""
    box = Box()
    pay = approving(box, approval=True)

    @agent
    async def cheating(ctx: Context) -> str:
        await ctx.approve(pay, "bob", 5)
        arguments, text = pay.signature.bind(("eve", 5_000), {})
        try:
            return await pay.issue(ctx._brain, "", arguments, text)
        except StepError as error:
            return error.type

    @agent
    async def stealing(ctx: Context) -> str:
        await ctx.receive("go")
        arguments, text = pay.signature.bind(("bob", 5), {})
        try:
            return await pay.issue(ctx._brain, "", arguments, text)
        except StepError as error:
            return error.type

    async def scenario():
        await world.start(cheating, stealing)
        thief = await world.rt.start(stealing)
        run = await world.rt.start(cheating)
        await world.becomes(run, "waiting")
        await world.rt.approve((await world.rt.inbox())[0].id)
        assert await run.result() == "Denied"
        await thief.send("go")
        assert await thief.result() == "Denied"
        assert box.calls == []

    play(world, scenario)


def test_what_is_performed_is_what_was_approved(world):
    """Also with a tool that wants no consent by itself: the arguments that an agent sees are a copy."""
    box = Box()
    pay = approving(box)

    @agent
    async def careless(ctx: Context) -> str:
        approval = await ctx.approve(pay, "bob", 5)
        approval.args["amount"] = 1_000_000
        return await approval.perform()

    async def scenario():
        await world.start(careless)
        run = await world.rt.start(careless)
        await world.becomes(run, "waiting")
        await world.rt.approve((await world.rt.inbox())[0].id)
        assert await run.result() == "5 to bob"
        assert box.calls == [("bob", 5)]

    play(world, scenario)


def test_an_approval_expires_and_is_withdrawn_like_a_question(world):
    """After its timeout AskTimeout is raised; late consent is refused."""
    box = Box()
    pay = approving(box)

    @agent
    async def hurried(ctx: Context) -> str:
        try:
            await ctx.approve(pay, "bob", 5, timeout=10)
        except AskTimeout:
            return "too late"
        return ""

    async def scenario():
        await world.start(hurried)
        run = await world.rt.start(hurried)
        await world.clock.advance(10.1)
        assert await run.result() == "too late"
        with pytest.raises(AlreadySettled):
            await world.rt.approve(f"{run.id}:1")

    play(world, scenario)


# Messages.


@agent
async def collecting(ctx: Context, count: int) -> list[object]:
    """Receive some messages."""
    return [await ctx.receive("item") for _ in range(count)]


def test_messages_arrive_in_order_once_before_and_after_the_agent_asks(world):
    """Some are there before the agent receives, some come later; each is taken once, in order."""
    box = Box()

    @tool(effect="read")
    async def slow() -> None:
        await box.wait()

    @agent
    async def late(ctx: Context) -> list[object]:
        await slow()
        return [await ctx.receive("item") for _ in range(4)]

    async def scenario():
        await world.start(late)
        run = await world.rt.start(late)
        await settle()
        await run.send("item", 1)
        await run.send("other", "x")
        await run.send("item", 2)
        box.open()
        await settle()
        await run.send("item", 3)
        await run.send("item", 4)
        assert await run.result() == [1, 2, 3, 4]

    play(world, scenario)


def test_messages_survive_a_crash_at_every_point(world):
    """However often the worker dies between and after them, every message is received once, in order."""

    async def scenario():
        await world.start(collecting)
        run = await world.rt.start(collecting, 6)
        for number in range(6):
            handle = await world.rt.run(run.id)
            if number % 2:
                await settle()
            await handle.send("item", number)
            await world.restart(collecting)
        assert await (await world.rt.run(run.id)).result() == [0, 1, 2, 3, 4, 5]
        assert (await world.types(run)).count("message.received") == 6

    play(world, scenario)


def test_a_message_sent_while_no_worker_runs_is_received_later(world):
    """The store is the mailbox: a client alone can send."""

    async def scenario():
        await world.start(collecting)
        run = await world.rt.start(collecting, 1)
        await world.becomes(run, "waiting")
        await world.crash()
        await world.start()  # no agents: a client
        await world.rt.send(run.id, "item", "hello")
        await world.stop()
        await world.start(collecting)
        assert await (await world.rt.run(run.id)).result() == ["hello"]

    play(world, scenario)


def test_receiving_on_several_topics_and_with_a_timeout(world):
    """Topics do not mix; without a message in time ReceiveTimeout is raised, and later ones are kept."""

    @agent
    async def picky(ctx: Context) -> list[object]:
        got = list(await asyncio.gather(ctx.receive("a"), ctx.receive("b", int)))
        try:
            await ctx.receive("c", timeout=5)
        except ReceiveTimeout:
            got.append("none")
        got.append(await ctx.receive("a"))
        return got

    async def scenario():
        await world.start(picky)
        run = await world.rt.start(picky)
        await settle()
        for topic, value in (("b", 1), ("a", "x"), ("a", "y")):
            await run.send(topic, value)
        await world.clock.advance(5.1)
        assert await run.result() == ["x", 1, "none", "y"]

    play(world, scenario)


def test_a_session_keeps_messages_for_its_next_run(world):
    """Before the first run, between runs, and unread at the end of one: the next run receives them, in order."""

    @agent
    async def reading(ctx: Context, count: int) -> list[object]:
        return [await ctx.receive("note") for _ in range(count)]

    async def scenario():
        await world.start(reading)
        await world.rt.send("s", "note", 1, agent="reading")
        run = await world.rt.start(reading, 1, session="s")
        assert await run.result() == [1]
        await world.rt.send("s", "note", 2, agent="reading")
        await world.restart(reading)
        await world.rt.send("s", "note", 3, agent="reading")
        await world.rt.send("other", "note", "no", agent="reading")
        run = await world.rt.start(reading, 1, session="s")
        assert await run.result() == [2]
        run = await world.rt.start(reading, 2, session="s")
        await settle()
        await world.rt.send("s", "note", 4, agent="reading")
        assert await run.result() == [3, 4]

    play(world, scenario)


def test_agents_send_to_each_other(world):
    """A message leaves with the sender's commit and reaches a run, or a session, once."""

    @agent
    async def sender(ctx: Context, to: str) -> None:
        await ctx.send(to, "item", {"from": ctx.run.id})
        await ctx.send("box", "item", "for the session", agent="collecting")

    async def scenario():
        await world.start(collecting, sender)
        one = await world.rt.start(collecting, 1)
        two = await world.rt.start(collecting, 1, session="box")
        await settle()
        run = await world.rt.start(sender, one.id)
        assert await one.result() == [{"from": run.id}]
        assert await two.result() == ["for the session"]

    play(world, scenario)


def test_a_run_that_has_ended_takes_no_messages(world):
    """Sending to it is refused; one that was on its way is taken off the store."""

    async def scenario():
        await world.start(collecting)
        run = await world.rt.start(collecting, 1)
        await settle()
        await asyncio.gather(*(run.send("item", 0) for _ in range(5)), return_exceptions=True)
        assert await run.result() == [0]
        await settle()
        with pytest.raises(AlreadySettled):
            await run.send("item", 9)
        assert await world.rt.store.run_signals(run.id) == []

    play(world, scenario)


def test_input_is_validated_before_a_run_exists(world):
    """A wrong input is refused by name, and nothing is recorded."""

    async def scenario():
        await world.start(collecting)
        with pytest.raises(InvalidInput, match="count"):
            await world.rt.start(collecting, "many")
        with pytest.raises(InvalidInput):
            await world.rt.start_json("collecting", {"nonsense": 1})
        with pytest.raises(NotFound):
            await world.rt.start_json("unheard", 1)
        assert await world.rt.runs() == []

    play(world, scenario)


def test_an_agent_whose_state_json_cannot_hold_fails_alone(world):
    """A value without a JSON form ends that run with a clear error, and the worker goes on."""

    @agent
    async def careless(ctx: Context) -> None:
        ctx.state["lock"] = object()

    async def scenario():
        await world.start(careless, collecting)
        with pytest.raises(RunFailed, match="JSON"):
            await (await world.rt.start(careless)).result()
        assert await (await world.rt.start(collecting, 0)).result() == []

    play(world, scenario)


def test_two_consents_to_the_same_action_allow_it_twice(world):
    """Given before either is used, live and after a restart; a third time there is none."""
    box = Box()

    @tool(effect="keyed", approval="owner")
    async def pay(amount: int) -> int:
        box.note(amount)
        return amount

    @agent
    async def paying_twice(ctx: Context) -> list[object]:
        return await asyncio.gather(pay(5), pay(5))

    async def scenario():
        await world.start(paying_twice)
        run = await world.rt.start(paying_twice)
        await world.becomes(run, "waiting")
        await run.pause()
        await world.becomes(run, "paused")
        first, second = await world.rt.inbox()
        await world.rt.approve(first.id)
        await world.rt.approve(second.id)
        await settle()
        await world.restart(paying_twice)
        await world.rt.resume(run.id)
        assert await (await world.rt.run(run.id)).result() == [5, 5]
        used = [event.data["approval"] for event in await world.journal(run) if event.type == "step.started"]
        assert sorted(used) == sorted([first.id, second.id])

    play(world, scenario)
    assert box.calls == [5, 5]


def test_a_gate_that_names_a_consent_that_is_not_there_allows_nothing(world):
    """Whatever a policy engine says, the kernel knows which consents are unused."""
    box = Box()

    class Careless:
        def decide(self, admission: Admission) -> Decision:
            return Decision(allowed=True, approval="run_x:1")

    @tool(effect="keyed", retries=0)
    async def pay(amount: int) -> None:
        box.note(amount)

    @agent
    async def paying(ctx: Context) -> str:
        try:
            await pay(5)
        except StepError as error:
            return error.type
        return "paid"

    async def scenario():
        await world.start(paying)
        world.rt.kernel._gate = Careless()
        assert await (await world.rt.start(paying)).result() == "Denied"

    play(world, scenario)
    assert box.calls == []
