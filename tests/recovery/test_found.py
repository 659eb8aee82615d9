"""Bugs that the boundaries, the chaos or the simulator found, each as small as it gets. A bug that is fixed stays here."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from pydantic import TypeAdapter

from perdure import Context, Runtime, agent, tool
from perdure.agents.attempt import current_step
from perdure.agents.context import RunInfo, run_agent
from perdure.errors import StoreBroken
from perdure.journal.brain import Brain
from perdure.journal.commands import Call
from perdure.kernel.starting import put_signal
from perdure.store import MemoryStore, SqliteStore, Store
from perdure.testing import simulator
from perdure.testing.boundaries import MemoryDisk, try_out
from perdure.testing.host import SimulatedClock, SimulatedHost, run_simulated
from perdure.testing.workflows import WORKFLOWS
from perdure.values.clock import from_iso
from perdure.values.events import Event
from perdure.values.json import encode


@tool(effect="read")
async def price(item: int) -> int:
    """Ten times the item."""
    return item * 10


@tool(effect="keyed", approval="owner", retries=1)
async def guarded(step: str) -> str:
    """Fails the first time."""
    if not tried:
        tried.append(step)
        raise ConnectionError("cut off")
    return "done"


tried: list[str] = []

TypeAdapter(int)  # pydantic looks for its plugins now, and not inside of an agent

PLAIN = """
import asyncio
import importlib.metadata

from perdure import Context, Runtime, agent

@agent
async def plain(ctx: Context) -> int:
    return 1

async def main() -> None:
    list(importlib.metadata.entry_points())
    async with Runtime("memory://", [plain]) as rt:
        assert await (await rt.start(plain)).result() == 1

asyncio.run(main())
"""


@agent
async def payer(ctx: Context) -> str:
    """One step that needs consent and is retried."""
    return await guarded("pay")


@agent
async def tidy(ctx: Context) -> None:
    """Waits until it is cancelled, then cleans up with a step."""
    try:
        await ctx.receive("never")
    finally:
        await price(1)
        await ctx.emit("progress", {"clean": True})


@agent
async def racer(ctx: Context) -> list[list[int]]:
    """Takes results as they come."""

    async def one(item: int) -> list[int]:
        return [item, await price(item)]

    return sorted([await first for first in asyncio.as_completed([one(item) for item in range(12)])])


@agent
async def stopper(ctx: Context) -> list[int]:
    """The usual way to take the first and stop the others, each of which cleans up with a step of its own."""

    async def one(item: int) -> int:
        try:
            return await ctx.receive(f"topic {item}")
        finally:
            await price(item)

    tasks = [asyncio.create_task(one(item)) for item in range(12)]
    done, pending = await asyncio.wait([*tasks, asyncio.create_task(ctx.receive("go"))], return_when="FIRST_COMPLETED")
    for task in pending:
        task.cancel()
    await asyncio.wait(pending)
    return [len(done)]


@agent
async def napper(ctx: Context) -> str:
    """Sleeps a little."""
    await asyncio.sleep(1)
    return "rested"


@agent
async def adder(ctx: Context) -> int:
    """Adds one to what its session remembers, then takes a step."""
    ctx.state["total"] = ctx.state.get("total", 0) + 1
    await price(1)
    await ctx.receive("go")
    return int(ctx.state["total"])


@agent
async def joiner(ctx: Context, number: int) -> list[int]:
    """Says which runs of its session came before it."""
    ctx.state["came"] = [*ctx.state.get("came", []), number]
    await price(number)
    return list(ctx.state["came"])


@agent
async def collector(ctx: Context, count: int) -> list[int]:
    """Takes `count` messages."""
    return [await ctx.receive("number", int) for _ in range(count)]


@agent
async def waiter(ctx: Context) -> str:
    """Waits for one message."""
    return str(await ctx.receive("go"))


@tool(effect="keyed")
async def put() -> str:
    """Does it."""
    return "done"


@agent
async def twofold(ctx: Context) -> list[str]:
    """A step after a second, and a question that nobody answers within the same second."""

    async def nap_and_put() -> str:
        await asyncio.sleep(1)
        return await put()

    async def ask() -> str:
        try:
            return await ctx.ask("Anybody?", str, timeout=1)
        except TimeoutError:
            return "nobody"

    return list(await asyncio.gather(nap_and_put(), ask()))


@agent
async def flighty(ctx: Context) -> None:
    """Asks, and thinks better of it."""
    asking = asyncio.create_task(ctx.ask("Anybody?"))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait([asking])


@agent
async def napping_putter(ctx: Context) -> None:
    """A timer and a step at once."""
    await asyncio.gather(asyncio.sleep(1), put())


acted: list[int] = []


@tool(effect="once")
async def act() -> None:
    """Acts, and takes a minute to say so."""
    acted.append(current_step().attempt)
    await asyncio.sleep(60)


@agent
async def actor(ctx: Context) -> None:
    """Acts once."""
    await act()


@agent
async def hearer(ctx: Context) -> str:
    """Ends with the first letter of its session."""
    return await ctx.receive("letter", str)


@agent
async def listener(ctx: Context) -> list[int]:
    """Hears two numbers, with a step under way that keeps it in memory."""
    napping = asyncio.create_task(act())
    heard = [await ctx.receive("n", int) for _ in range(2)]
    napping.cancel()
    return heard


@agent
async def sleepy(ctx: Context) -> None:
    """Sleeps for an hour."""
    await asyncio.sleep(3600)


@agent
async def leaver(ctx: Context, left: int) -> str:
    """Leaves a child behind and goes on in a new run, whose first step is a wait."""
    if left == 0:
        return str(await ctx.receive("go"))
    ctx.spawn(napper, detach=True)
    ctx.continue_as(left - 1)


@tool(effect="keyed")
async def stare() -> None:
    """Takes a minute."""
    await asyncio.sleep(60)


@agent
async def impatient(ctx: Context) -> str:
    """Gives a step a second, then waits."""
    try:
        async with asyncio.timeout(1):
            await stare()
    except TimeoutError:
        return str(await ctx.receive("go"))
    return "stared"


def runtime_on(host: SimulatedHost, store: Store, *agents, **options) -> Runtime:
    """A node on `host`."""
    return Runtime(store, agents, clock=SimulatedClock(host), dice=lambda: 0.5, **options)


def types_of(events: list[Event]) -> list[str]:
    """The types of a journal's events."""
    return [event.type for event in events]


def replay(events: list[Event], agent) -> Brain:
    """The run of these events, once more from the start."""
    run = events[0].run
    brain = Brain(run, lambda brain: run_agent(agent, brain, RunInfo(run, agent.name, "1", None, None, 1)))
    brain.replay([Event(run, e.seq, e.type, e.time_us, e.step, e.attempt, e.raw) for e in events])
    return brain


def test_a_retried_step_keeps_its_consent():
    """Consent is for the step: an attempt that failed has not used it up."""

    async def scenario(host):
        tried.clear()
        async with runtime_on(host, MemoryStore(clock=SimulatedClock(host)), payer) as rt:
            run = await rt.start(payer)
            async for event in run.events():
                if event.type == "approval.requested":
                    await rt.approve(event.data["id"])
            return await run.result()

    assert run_simulated(scenario) == "done"


def test_a_second_cancel_does_not_interrupt_the_clean_up():
    """Cancelled twice in one breath, the run still cleans up once, undisturbed."""

    async def scenario(host):
        async with runtime_on(host, MemoryStore(clock=SimulatedClock(host)), tidy) as rt:
            run = await rt.start(tidy)
            async for event in run.events():
                if event.type == "message.awaited":
                    await asyncio.gather(run.cancel(), run.cancel())
            return types_of(await rt.journal(run.id))

    assert "progress" in run_simulated(scenario)


def test_a_paused_run_with_a_timer_writes_nothing():
    """Paused while it sleeps, a run is written once and then left alone."""

    class Counting(MemoryStore):
        commits = 0

        async def commit(self, batch):
            self.commits += 1
            if self.commits > 100:
                raise StoreBroken("this store is tired")
            return await super().commit(batch)

    async def scenario(host):
        store = Counting(clock=SimulatedClock(host))
        async with runtime_on(host, store, napper) as rt:
            run = await rt.start(napper)
            async for event in run.events():
                if event.type == "timer.started":
                    await run.pause()
                if event.type == "run.paused":
                    await asyncio.sleep(5)
                    await run.resume()
            assert await run.result() == "rested"
        return store.commits

    assert run_simulated(scenario) < 20


def test_as_completed_replays_alike():
    """Each result goes to the one that asked for it, live and in every replay."""

    async def scenario(host):
        async with runtime_on(host, MemoryStore(clock=SimulatedClock(host)), racer) as rt:
            run = await rt.start(racer)
            return await run.result(), await rt.journal(run.id)

    result, events = run_simulated(scenario)
    again = [replay(events, racer) for _ in range(5)]

    assert result == [[item, item * 10] for item in range(12)]
    assert [brain.outcome and brain.outcome.value for brain in again] == [
        "[" + ",".join(f"[{item},{item * 10}]" for item in range(12)) + "]"
    ] * 5


def test_a_set_of_tasks_replays_alike():
    """Tasks taken out of a set, as asyncio.wait gives it, clean up in the same order in every replay."""

    async def scenario(host):
        async with runtime_on(host, MemoryStore(clock=SimulatedClock(host)), stopper) as rt:
            run = await rt.start(stopper)
            await run.send("go", 1)
            await run.result()
            return await rt.journal(run.id)

    events = run_simulated(scenario)
    asked = [event.data["args"]["item"] for event in events if event.type == "step.started"]
    orders = []
    for _ in range(5):
        brain = replay(events, stopper)
        assert brain.divergence is None
        orders.append([call.arguments["item"] for call in brain.take_commands() if isinstance(call, Call)])

    assert orders == [asked] * 5


def test_what_an_agent_does_to_its_state_leaves_the_journal_alone():
    """Loaded again from the same store object, a run starts from the state that was recorded."""

    async def scenario(host):
        store = MemoryStore(clock=SimulatedClock(host))
        async with runtime_on(host, store, adder) as rt:
            first = await rt.start(adder, session="s")
            await first.send("go")
            assert await first.result() == 1
            second = await rt.start(adder, session="s")
            async for event in second.events():
                if event.type == "message.awaited":
                    break
        async with runtime_on(host, store, adder) as rt:
            await rt.send(second.id, "go")
            return await (await rt.run(second.id)).result()

    assert run_simulated(scenario) == 2


def test_the_first_model_of_a_process_may_be_made_by_an_agent():
    """Pydantic looks for plugins when it makes its first model; that is not the agent touching files."""
    ended = subprocess.run([sys.executable, "-c", PLAIN], capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stderr


def test_runs_of_a_session_go_in_the_order_they_were_started(tmp_path):
    """Whoever was started first goes first, also when the run before them ends just then."""

    async def scenario(host):
        async with runtime_on(host, SqliteStore(str(tmp_path / "s.db"), clock=SimulatedClock(host)), joiner) as rt:
            runs = [await rt.start(joiner, number, session="s") for number in range(4)]
            return [await run.result() for run in runs]

    assert run_simulated(scenario) == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3]]


def test_a_signal_that_is_taken_before_its_sender_hears_of_it_is_taken_once():
    """A run that is being loaded finds a signal in the store, and journals it, before the one who put it goes on."""
    flow = next(flow for flow in WORKFLOWS if flow.name == "cancelled in the middle")

    trials = [try_out(flow, (first, second), MemoryDisk()) for first in (22, 23) for second in range(24, 50)]

    assert {str(trial): trial.violations for trial in trials if trial.violations} == {}


def test_a_childs_end_does_not_reach_the_run_that_continues_its_parent():
    """Step 1 of the continuation is a step of its own: what came of a child of the run before is nothing to it."""

    async def scenario(host):
        async with runtime_on(host, MemoryStore(clock=SimulatedClock(host)), leaver, napper, waiter) as rt:
            run = await rt.start(leaver, 1)
            await run.events(0).__anext__()
            await asyncio.sleep(5)
            continued = await rt.run(f"{run.id}~2")
            await continued.send("go", "gone")
            return await run.result()

    assert run_simulated(scenario) == "gone"


def test_mail_of_a_session_goes_to_the_run_that_has_begun():
    """Runs that wait for their turn leave the mail alone, also when somebody pauses them meanwhile."""

    async def scenario(host):
        async with runtime_on(host, MemoryStore(clock=SimulatedClock(host)), waiter) as rt:
            runs = [await rt.start(waiter, session="s") for _ in range(3)]
            for run in runs[1:]:
                await run.pause()
            await rt.send("s", "go", "first", agent="waiter")
            assert await runs[0].result() == "first"
            for run in runs[1:]:
                await run.resume()
                await rt.send("s", "go", "next", agent="waiter")
            return [await run.result() for run in runs[1:]], [types_of(await rt.journal(run.id)) for run in runs]

    results, journals = run_simulated(scenario)
    assert results == ["next", "next"]
    assert not any("run.quarantined" in types for types in journals)


def test_a_queued_run_of_a_busy_session_can_be_paused():
    """It is paused, not parked, and goes on when it is resumed and its turn has come."""

    async def scenario(host):
        async with runtime_on(host, MemoryStore(clock=SimulatedClock(host)), waiter) as rt:
            first, second = [await rt.start(waiter, session="s") for _ in range(2)]
            await second.pause()
            await asyncio.sleep(1)
            row = await second.status()
            assert (row.status, (row.wait or {})["kind"]) == ("queued", "pause")
            await second.resume()
            await first.send("go", "first")
            await second.send("go", "second")
            return await first.result(), await second.result(), types_of(await rt.journal(second.id))

    first, second, types = run_simulated(scenario)
    assert (first, second) == ("first", "second")
    assert "run.quarantined" not in types


def test_a_step_that_is_given_up_as_it_is_launched_is_settled():
    """One commit brings both the next attempt and the timeout that makes the agent give it up; the run goes on."""

    async def scenario(host):
        store = MemoryStore(clock=SimulatedClock(host))
        first = runtime_on(host, store, impatient)
        await first.kernel.start()
        run = await first.start(impatient)
        await asyncio.sleep(0.5)
        first.kernel.kill()
        store.bury(first.kernel.node)
        await asyncio.sleep(5)
        async with runtime_on(host, store, impatient) as rt:
            await asyncio.sleep(5)
            return (await rt.find(run.id)).status

    assert run_simulated(scenario) == "waiting"


def test_the_time_of_a_fork_does_not_go_back():
    """A clock that was set back does not make a fork older than what it shares."""

    async def scenario(host):
        clock = SimulatedClock(host)
        async with Runtime(MemoryStore(clock=clock), [napper], clock=clock) as rt:
            run = await rt.start(napper)
            await run.result()
            clock.ahead_us = -60_000_000
            fork = await rt.fork(run.id, at=1)
            times = [event.time_us for event in await rt.journal(fork.id)]
            return times == sorted(times)

    assert run_simulated(scenario)


def test_a_signal_that_a_slow_read_brings_again_is_taken_once():
    """What was put here is taken at once; when the store's answer brings it too, it is old news."""

    class Late(MemoryStore):
        async def signals(self, shards, after=None, limit=1000):
            found = await super().signals(shards, after, limit)
            for _ in range(20):
                await asyncio.sleep(0)
            return found

    async def scenario(host):
        async with runtime_on(host, Late(clock=SimulatedClock(host)), collector) as rt:
            run = await rt.start(collector, 30)
            for number in range(30):
                await run.send("number", number)
                for _ in range(number % 7):
                    await asyncio.sleep(0)
            return await run.result(timeout=60)

    assert run_simulated(scenario) == list(range(30))


def test_what_gathers_beside_a_draft_of_its_own_is_written():
    """A timer and a question are due at once: what the timer leads to is written after the expiry of the question."""

    async def scenario(host):
        async with runtime_on(host, MemoryStore(clock=SimulatedClock(host)), twofold) as rt:
            run = await rt.start(twofold)
            return await run.result(timeout=60)

    assert run_simulated(scenario) == ["done", "nobody"]


def test_a_question_that_is_withdrawn_at_once_is_not_left_open():
    """The inbox shows nothing of it."""

    async def scenario(host):
        async with runtime_on(host, MemoryStore(clock=SimulatedClock(host)), flighty) as rt:
            await (await rt.start(flighty)).result()
            return await rt.inbox()

    assert run_simulated(scenario) == []


def test_what_a_fork_copies_is_not_older_than_it_was():
    """A timer that had fired in the original has fired, in the fork, when it was due and not before."""

    async def scenario(host):
        clock = SimulatedClock(host)
        async with Runtime(MemoryStore(clock=clock), [napping_putter], clock=clock) as rt:
            run = await rt.start(napping_putter)
            await run.result()
            clock.ahead_us = -60_000_000
            return await rt.journal((await rt.fork(run.id, at=2)).id)

    events = {event.type: event for event in run_simulated(scenario)}
    assert events["timer.fired"].time_us >= from_iso(events["timer.started"].data["due"])


@pytest.mark.parametrize(
    "seed",
    [1049],
)
def test_seeds_that_failed_once(seed):
    """What no small test shows."""
    assert simulator.main(["--seed", str(seed)]) == 0


def test_mail_that_finds_a_run_ended_is_for_the_next_of_its_session():
    """It was on its way to a run that ended meanwhile: it must not be taken away with it."""

    async def scenario(host):
        clock = SimulatedClock(host)
        async with Runtime(MemoryStore(clock=clock), [hearer], clock=clock) as rt:
            first = await rt.start(hearer, session="s")
            await rt.send("s", "letter", "for the first", agent="hearer")
            await first.result()
            await rt.send("s", "letter", "for the second", agent="hearer")
            [letter] = await rt.store.run_signals(first.id)
            await rt.kernel.live._wake(first.id, letter)
            second = await rt.start(hearer, session="s")
            return await second.result()

    assert run_simulated(scenario) == "for the second"


def test_a_run_that_is_resumed_hears_everything_in_the_order_of_its_journal():
    """What came while it was paused comes before what is being written as it is resumed."""

    class Slow(MemoryStore):
        async def commit(self, batch):
            await asyncio.sleep(1)
            return await super().commit(batch)

    async def scenario(host):
        clock = SimulatedClock(host)
        async with Runtime(Slow(clock=clock), [listener], clock=clock) as rt:
            run = await rt.start(listener)
            await asyncio.sleep(5)
            await run.pause()
            await run.send("n", 0)
            await asyncio.sleep(5)
            sending = asyncio.create_task(run.send("n", 1))
            await asyncio.sleep(0.5)
            await asyncio.gather(sending, run.resume())
            return await run.result()

    assert run_simulated(scenario) == [0, 1]


def test_a_timer_that_came_due_while_the_machine_slept_fires_when_it_wakes():
    """Alarms count the seconds awake, due times are wall time: the two are compared again with every lease renewal."""

    async def scenario(host):
        clock = SimulatedClock(host)
        async with Runtime(MemoryStore(clock=clock), [sleepy], clock=clock) as rt:
            run = await rt.start(sleepy)
            await asyncio.sleep(1)
            clock.ahead_us = 8 * 3_600_000_000
            await run.result()
            return host.time()

    assert run_simulated(scenario) < 10


def test_a_decision_is_about_the_attempt_that_it_was_made_for():
    """Said twice that attempt 1 did not happen: that says nothing of attempt 2, which is asked about again."""
    acted.clear()

    class Deadly(MemoryStore):
        async def commit(self, batch):
            verdicts = await super().commit(batch)
            if any(event.type == "run.resumed" for transaction in batch for event in transaction.events):
                nodes[-1].kernel.kill()
            return verdicts

        async def run_signals(self, run):
            for _ in range(10):
                await asyncio.sleep(0)
            return await super().run_signals(run)

    nodes = []

    async def scenario(host):
        store = Deadly(clock=SimulatedClock(host))
        client = Runtime(store, [actor], work=False, clock=SimulatedClock(host))
        await client.kernel.start(work=False)
        run = await client.start(actor)

        async def live_a_second():
            nodes.append(runtime_on(host, store, actor))
            await nodes[-1].kernel.start()
            await asyncio.sleep(1)
            nodes[-1].kernel.kill()
            store.bury(nodes[-1].kernel.node)

        await live_a_second()
        await live_a_second()
        await client.resolve(run.id, 1, "run-again")
        await client.pause(run.id)
        # A second client, that looked before the first one had spoken:
        said = {"step": 1, "attempt": 1, "outcome": "run-again", "result": None, "by": None}
        await put_signal(client.kernel, {"run": run.id, "agent": "actor"}, "resolve", encode(said))
        await live_a_second()
        await client.resume(run.id)
        await live_a_second()
        await live_a_second()
        return ((await client.find(run.id)).wait or {})["kind"]

    assert run_simulated(scenario) == "unknown"
    assert acted == [1, 2]
