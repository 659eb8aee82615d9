"""Children, sessions, continuations and forks: runs that belong together."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import BaseModel, Field

from perdure import Context, RunCancelled, RunFailed, agent, tool
from perdure.errors import ChildFailed, IdempotencyMismatch, InvalidInput, InvalidSetting, NotFound, SessionBusy
from perdure.store.contract import RunFilter
from tests.scenario.worlds import Box, play, settle


@agent
async def child(ctx: Context, n: int) -> int:
    """Sleep, then give the double; fail for a negative number."""
    if n < 0:
        raise ValueError(f"{n} is negative")
    await asyncio.sleep(n)
    return n * 2


@agent
async def parent(ctx: Context, numbers: list[int]) -> list[int]:
    """A child for each number."""
    return list(await asyncio.gather(*(ctx.spawn(child, n) for n in numbers)))


def test_children_run_beside_each_other_and_their_results_are_joined(world):
    """Spawned runs are real runs with a parent; awaiting a handle gives the child's result."""

    async def scenario():
        await world.start(child, parent)
        run = await world.rt.start(parent, [3, 1, 2])
        await world.clock.advance(1.5)
        assert (await world.status(run)).wait["kind"] == "child"
        await world.clock.advance(2)
        assert await run.result() == [6, 2, 4]
        children = await world.rt.runs(RunFilter(parent=run.id))
        assert {one.id for one in children} == {f"{run.id}.{n}" for n in (1, 2, 3)}

    play(world, scenario)


def test_a_family_survives_crashes_with_nothing_spawned_twice(world):
    """Workers die before, between and after the children's ends; each child runs to one end."""

    async def scenario():
        await world.start(child, parent)
        run = await world.rt.start(parent, [1, 2, 3, 4])
        await world.restart(child, parent)
        for _ in range(5):
            await world.clock.advance(0.9)
            await world.restart(child, parent)
        await world.clock.advance(1)
        assert await (await world.rt.run(run.id)).result() == [2, 4, 6, 8]
        assert len(await world.rt.runs()) == 5

    play(world, scenario)


def test_the_failure_of_a_child_reaches_its_parent(world):
    """ChildFailed carries the error; a parent that does not catch it fails and its other children are cancelled."""

    @agent
    async def catching(ctx: Context) -> str:
        try:
            await ctx.spawn(child, -1)
        except ChildFailed as error:
            return f"{error.type} in {error.run.removeprefix(ctx.run.id)}"
        return ""

    async def scenario():
        await world.start(child, parent, catching)
        assert await (await world.rt.start(catching)).result() == "ValueError in .1"
        run = await world.rt.start(parent, [50, -1])
        with pytest.raises(RunFailed, match="negative"):
            await run.result()
        await world.becomes(f"{run.id}.1", "cancelled")

    play(world, scenario)


class Found(BaseModel):
    """A result whose JSON says another name."""

    user_id: int = Field(alias="userId")


@agent
async def finding(ctx: Context) -> Found:
    return Found.model_validate({"userId": 3})


@agent
async def looking(ctx: Context) -> Found:
    found = await ctx.spawn(finding)
    return found.model_copy(update={"user_id": found.user_id + 1})


def test_results_with_aliases_reach_parents_and_callers(world):
    """As the model, also after a restart."""

    async def scenario():
        await world.start(looking, finding)
        run = await world.rt.start(looking)
        assert (await run.result()).user_id == 4
        await world.restart(looking, finding)
        assert (await (await world.rt.run(run.id)).result()).user_id == 4

    play(world, scenario)


def test_cancelling_a_parent_cancels_the_whole_tree(world):
    """Grandchildren too; detached children go on."""

    @agent
    async def grandparent(ctx: Context) -> None:
        ctx.spawn(child, 5, detach=True)
        await ctx.spawn(parent, [100, 200])

    async def scenario():
        await world.start(child, parent, grandparent)
        run = await world.rt.start(grandparent)
        await world.clock.advance(1)
        await world.rt.cancel(run.id)
        for id in (run.id, f"{run.id}.2", f"{run.id}.2.1", f"{run.id}.2.2"):
            await world.becomes(id, "cancelled")
        await world.clock.advance(5)
        assert await (await world.rt.run(f"{run.id}.1")).result() == 10

    play(world, scenario)


def test_cancelling_one_child_is_its_parents_business(world):
    """The parent hears ChildFailed."""

    async def scenario():
        await world.start(child, parent)
        run = await world.rt.start(parent, [100])
        await settle()
        await world.rt.cancel(f"{run.id}.1", reason="not needed")
        with pytest.raises(RunFailed, match="cancelled"):
            await run.result()

    play(world, scenario)


def test_a_parent_waits_for_children_it_did_not_await(world):
    """An agent that returns early ends when its attached children have."""

    @agent
    async def careless(ctx: Context) -> str:
        ctx.spawn(child, 10)
        return "early"

    async def scenario():
        await world.start(child, careless)
        run = await world.rt.start(careless)
        await world.becomes(run, "waiting")
        await world.clock.advance(10.1)
        assert await run.result() == "early"

    play(world, scenario)


def test_a_child_may_live_in_a_session(world):
    """It waits its turn there, and its parent waits for it."""

    @agent
    async def counting(ctx: Context) -> int:
        ctx.state["n"] = ctx.state.get("n", 0) + 1
        return ctx.state["n"]

    @agent
    async def twice(ctx: Context) -> list[int]:
        return list(await asyncio.gather(*(ctx.spawn(counting, session="shared") for _ in range(3))))

    async def scenario():
        await world.start(counting, twice)
        run = await world.rt.start(twice)
        assert await run.result() == [1, 2, 3]

    play(world, scenario)


# Sessions.


class Purse(BaseModel):
    coins: int = 0
    log: list[str] = []


@agent(state=Purse)
async def saving(ctx: Context, amount: int) -> int:
    """Change the typed state before and after a wait."""
    ctx.state.coins += amount
    ctx.state.log.append(f"+{amount}")
    await asyncio.sleep(1)
    ctx.state.coins += 1
    return ctx.state.coins


def test_a_sessions_state_is_saved_with_the_commit_and_typed(world):
    """What one run leaves is what the next one finds; a crash in between changes nothing."""

    async def scenario():
        await world.start(saving)
        first = await world.rt.start(saving, 10, session="s")
        await world.restart(saving)
        await world.clock.advance(1.1)
        assert await (await world.rt.run(first.id)).result() == 11
        await world.restart(saving)
        second = await world.rt.start(saving, 5, session="s")
        other = await world.rt.start(saving, 5, session="t")
        await world.clock.advance(1.1)
        assert (await second.result(), await other.result()) == (17, 6)
        assert await world.rt.kernel.session_state("saving", "s") == {"coins": 17, "log": ["+10", "+5"]}

    play(world, scenario)


def test_a_session_runs_one_at_a_time_in_order(world):
    """Queued runs go by priority, then age, also after a restart."""
    box = Box()

    @tool(effect="read")
    async def note(n: int) -> None:
        box.note(n)

    @agent
    async def turn(ctx: Context, n: int) -> int:
        await note(n)
        await asyncio.sleep(1)
        return n

    async def scenario():
        await world.start(turn)
        runs = [await world.rt.start(turn, 0, session="s")]
        await settle()
        runs += [await world.rt.start(turn, n, session="s", priority=n == 3) for n in range(1, 5)]
        await settle()
        statuses = [(await world.status(run)).status for run in runs]
        assert statuses == ["waiting", "queued", "queued", "queued", "queued"]
        await world.clock.advance(1.01)
        await world.restart(turn)
        for _ in range(5):
            await world.clock.advance(1.01)
        assert [await (await world.rt.run(run.id)).result() for run in runs] == [0, 1, 2, 3, 4]
        assert [n for n, before in zip(box.calls, [None, *box.calls], strict=False) if n != before] == [0, 3, 1, 2, 4]

    play(world, scenario)


def test_a_busy_session_can_reject_interrupt_or_steer(world):
    """`reject` refuses, `interrupt` cancels the active run, `steer` hands the input to it."""

    @agent
    async def talking(ctx: Context, text: str) -> str:
        try:
            more = await ctx.receive("steer", timeout=100)
        except asyncio.CancelledError:
            await asyncio.sleep(1)
            raise
        return f"{text} {more['text']}"

    async def scenario():
        await world.start(talking)
        first = await world.rt.start(talking, "a", session="s")
        await settle()
        with pytest.raises(SessionBusy):
            await world.rt.start(talking, "b", session="s", busy="reject")
        second = await world.rt.start(talking, "c", session="s", busy="interrupt")
        await settle()
        assert (await world.status(second)).status == "queued"
        await world.clock.advance(1.1)
        with pytest.raises(RunCancelled):
            await first.result()
        same = await world.rt.start(talking, "d", session="s", busy="steer")
        assert same.id == second.id
        assert await second.result() == "c d"

    play(world, scenario)


def test_an_idempotency_key_starts_one_run(world):
    """The same key and input give the same run, also at once and after a restart; another input is an error."""

    async def scenario():
        await world.start(child)
        runs = await asyncio.gather(*(world.rt.start(child, 1, idempotency_key="k") for _ in range(10)))
        assert len({run.id for run in runs}) == 1
        with pytest.raises(IdempotencyMismatch):
            await world.rt.start(child, 2, idempotency_key="k")
        await world.restart(child)
        again = await world.rt.start(child, 1, idempotency_key="k")
        assert again.id == runs[0].id
        await world.clock.advance(1.1)
        assert await again.result() == 2
        assert len(await world.rt.runs()) == 1

    play(world, scenario)


# Continuations.


@agent
async def looping(ctx: Context, round: int) -> list[object]:
    """Three runs, one after the other."""
    ctx.state["rounds"] = ctx.state.get("rounds", 0) + 1
    await ctx.receive("go")
    if round < 3:
        ctx.continue_as(round + 1)
    return [round, ctx.state["rounds"]]


@pytest.mark.parametrize("session", [None, "s"])
def test_a_continuation_takes_over_session_and_unread_messages(world, session):
    """The chain's end is the result; messages that were not read are read by the next link."""

    async def scenario():
        await world.start(looping)
        run = await world.rt.start(looping, 1, session=session)
        await settle()
        await run.send("go")
        await run.send("go")
        await settle()
        await world.restart(looping)
        await settle()
        last = await world.rt.run(f"{run.id}~3")
        await last.send("go")
        assert await (await world.rt.run(run.id)).result() == [3, 3 if session else 1]
        assert (await world.types(run))[-1] == "run.continued"

    play(world, scenario)


def test_a_parent_hears_the_end_of_its_childs_continuation_and_can_cancel_it(world):
    """The child is the whole chain."""

    @agent
    async def waiting_for(ctx: Context) -> list[object]:
        return await ctx.spawn(looping, 2)

    async def scenario():
        await world.start(looping, waiting_for)
        run = await world.rt.start(waiting_for)
        await settle()
        await world.rt.send(f"{run.id}.1", "go")
        await settle()
        await world.rt.send(f"{run.id}.1~2", "go")
        assert (await run.result())[0] == 3
        other = await world.rt.start(waiting_for)
        await settle()
        await world.rt.send(f"{other.id}.1", "go")
        await settle()
        await world.rt.cancel(other.id)
        await world.becomes(f"{other.id}.1~2", "cancelled")

    play(world, scenario)


# Forks and retries.


def forking(box):
    """An agent whose second step fails the first time."""

    @tool(effect="once", retries=0)
    async def act(name: str) -> str:
        box.note(name)
        if name == "fragile" and box.count("fragile") == 1:
            raise OSError("it broke")
        return f"{name}!"

    @agent
    async def working(ctx: Context, prefix: str) -> list[object]:
        dice = ctx.random.random()
        first = await act(f"{prefix}1")
        second = await act("fragile")
        return [first, second, dice, prefix]

    return working


def test_a_retry_goes_on_from_the_failed_step(world):
    """What happened before it is not repeated; the failed run stays failed."""
    box = Box()
    working = forking(box)

    async def scenario():
        await world.start(working)
        run = await world.rt.start(working, "a")
        with pytest.raises(RunFailed):
            await run.result()
        again = await world.rt.retry(run.id)
        assert (await again.result())[:2] == ["a1!", "fragile!"]
        assert box.calls == ["a1", "fragile", "fragile"]
        assert (await world.status(run)).status == "failed"
        assert (await world.status(again)).forked_from == (run.id, 4)

    play(world, scenario)


def test_a_fork_takes_another_input_or_result(world):
    """Same dice, other input or a result that is given instead of run."""
    box = Box()
    box.note("fragile")
    working = forking(box)

    async def scenario():
        await world.start(working)
        run = await world.rt.start(working, "a")
        original = await run.result()
        with_result = await world.rt.fork(run.id, at=2, result="given")
        assert await with_result.result() == ["a1!", "given", original[2], "a"]
        with_input = await world.rt.fork(run.id, at=1, input="b")
        assert await with_input.result() == ["b1!", "fragile!", original[2], "b"]
        later = await world.rt.fork(run.id, at=2, input="c")
        assert await later.result() == ["a1!", "fragile!", original[2], "c"]
        assert box.calls == ["fragile", "a1", "fragile", "b1", "fragile", "fragile"]
        with pytest.raises(NotFound, match="no step 9"):
            await world.rt.fork(run.id, at=9)

    play(world, scenario)


def test_a_fork_keeps_what_was_in_flight_and_asks_and_spawns_its_own(world):
    """Settlements after the cut are copied; open questions and children are opened again for the fork."""
    box = Box()

    @tool(effect="once")
    async def act(name: str) -> str:
        box.note(name)
        await box.wait(name)
        return name

    @agent
    async def busy(ctx: Context) -> list[object]:
        slow = asyncio.ensure_future(act("slow"))
        question = asyncio.ensure_future(ctx.ask("well?"))
        spawned = ctx.spawn(child, 100)
        await asyncio.sleep(0)
        quick = await act("quick")
        return [await slow, quick, await question, await spawned]

    async def scenario():
        await world.start(busy, child)
        box.open("quick")
        run = await world.rt.start(busy)
        await settle()
        box.open("slow")
        await world.becomes(run, "waiting")
        started = [e for e in await world.journal(run) if e.type == "step.started"]
        steps = {e.data["args"]["name"]: e.step for e in started}
        fork = await world.rt.fork(run.id, at=steps["quick"])
        await world.becomes(fork, "waiting")
        assert box.calls.count("slow") == 1
        asks = await world.rt.inbox()
        assert {ask.run for ask in asks} == {run.id, fork.id}
        for ask in asks:
            await world.rt.answer(ask.id, "yes")
        await world.clock.advance(101)
        assert await run.result() == await fork.result() == ["slow", "quick", "yes", 200]

    play(world, scenario)


def test_a_retry_of_an_approved_step_asks_again(world):
    """Consent is for one use: the retry goes back to the request, and a fork past it is refused."""
    box = Box()

    @tool(effect="once", approval=True)
    async def pay() -> str:
        box.note("pay")
        if box.count("pay") == 1:
            raise OSError("no money")
        return "paid"

    @agent
    async def paying(ctx: Context) -> str:
        return await pay()

    async def scenario():
        await world.start(paying)
        run = await world.rt.start(paying)
        await world.becomes(run, "waiting")
        await world.rt.approve((await world.rt.inbox())[0].id)
        with pytest.raises(RunFailed):
            await run.result()
        with pytest.raises(InvalidInput, match="consent"):
            await world.rt.fork(run.id, at=2)
        again = await world.rt.retry(run.id)
        await world.becomes(again, "waiting")
        await world.rt.approve((await world.rt.inbox())[0].id)
        assert await again.result() == "paid"

    play(world, scenario)


class Collector:
    """Collects words, and forgets nothing while it lives."""

    def __init__(self) -> None:
        self.words: list[str] = []

    async def run(self, ctx: Context, topic: str, count: int = 2) -> list[str]:
        while len(self.words) < count:
            self.words.append(await ctx.receive(topic, str))
        return self.words


def test_a_class_is_an_agent_with_an_instance_for_each_run(world):
    """Fields are rebuilt by the replay, and two runs share none; the input is checked against `run`."""
    collector = agent(concurrency=5)(Collector)

    async def scenario():
        await world.start(collector)
        one, two = [await world.rt.start(collector, "word") for _ in range(2)]
        await one.send("word", "a")
        await two.send("word", "b")
        await settle()
        await world.restart(collector)
        await world.rt.send(one.id, "word", "c")
        assert await (await world.rt.run(one.id)).result() == ["a", "c"]
        assert (await world.status(two)).status == "waiting"
        assert await (await world.rt.start_json("Collector", {"topic": "word", "count": 0})).result() == []
        with pytest.raises(InvalidInput, match=r"Collector: .*topic"):
            await world.rt.start_json("Collector", {"count": 1})

    play(world, scenario)


def test_a_class_without_an_async_run_is_no_agent():
    """The error says what it needs."""

    class Idle:
        def run(self) -> None: ...

    with pytest.raises(InvalidSetting, match="Idle is a class: it needs an `async def run"):
        agent(Idle)  # type: ignore[arg-type]
