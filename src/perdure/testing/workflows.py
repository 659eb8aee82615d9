"""Reference workflows: between them they use everything an agent can ask of Perdure.

Each has a `program`, as a user would write it: it starts runs with keys, does its part, and returns what came out. It
may be stopped anywhere and run again from the top, on the same store, and must then come to the same outcome.

They act on `world()`, which the test sets, and nowhere else. Nothing in here knows about faults.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from perdure.agents.agent import AnyAgent, agent
from perdure.agents.attempt import current_step
from perdure.agents.context import Context
from perdure.agents.tool import tool
from perdure.errors import AlreadySettled, PerdureError, RunCancelled, RunFailed, StepError
from perdure.runtime import RunHandle, Runtime
from perdure.store.contract import RunFilter
from perdure.testing.world import World
from perdure.values.json import decode

#: The world that tools act on.
the_world: ContextVar[World] = ContextVar("perdure_world")


@tool(effect="read")
async def look(name: str, after: str = "") -> str:
    """Changes nothing. `after` names what the agent had learned before."""
    return f"saw {name}"


@tool(effect="keyed")
async def put(name: str, after: str = "") -> str:
    """Safe to repeat with the same key."""
    return the_world.get().act("put", f"put {name}", keyed=True)


@tool(effect="once")
async def ship(name: str, after: str = "") -> str:
    """Must not happen twice; nobody can ask whether it happened."""
    return the_world.get().act("ship", f"shipped {name}")


@tool(effect="once", approval="owner")
async def guarded_pay(amount: int) -> str:
    """Must not happen twice, and not without consent."""
    return the_world.get().act("guarded_pay", f"paid {amount}")


@tool(effect="keyed", retries=3)
async def flaky(name: str) -> str:
    """Fails the first time that it is tried."""
    if current_step().attempt == 1:
        raise ConnectionError("the line was cut")
    return the_world.get().act("flaky", f"at last {name}", keyed=True)


@tool(effect="transaction")
async def book(name: str) -> str:
    """Writes rows that commit together with the step."""
    current_step().execute("create table if not exists bookings (run text, step integer, name text)")
    step = current_step()
    step.execute("insert into bookings values (?, ?, ?)", (step.run, step.step, name))
    return f"booked {name}"


@agent
async def errand(ctx: Context, items: list[str]) -> list[str]:
    """One step after the other, each knowing the one before."""
    done = [""]
    for item in items:
        for act in (look, put, ship):
            done.append(await act(item, done[-1]))
        await ctx.emit("progress", {"done": len(done)})
    return done[1:]


@agent
async def fan(ctx: Context, width: int) -> list[str]:
    """Many steps at once, some of which fail at first."""
    many = await asyncio.gather(*(put(str(n)) for n in range(width)), *(ship(str(n)) for n in range(width)))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(flaky("a")), group.create_task(look("b"))]
    return [*many, *(task.result() for task in tasks)]


@agent
async def asker(ctx: Context, question: str) -> str:
    """Asks a person, and somebody who never answers."""
    answer = await ctx.ask(question, str, to="person")
    with contextlib.suppress(TimeoutError):
        await ctx.ask("Anybody?", str, to="nobody", timeout=0.5)
    return await ship(answer, answer)


@agent
async def sleeper(ctx: Context, naps: int) -> list[str]:
    """Timers one after the other, at once, and given up."""
    for nap in range(naps):
        await asyncio.sleep(0.2 + nap)
    await asyncio.gather(asyncio.sleep(0.3), asyncio.sleep(0.1))
    try:
        async with asyncio.timeout(0.25):
            await asyncio.sleep(60)
    except TimeoutError:
        return [await put("timed out")]
    return []


@agent
async def caller(ctx: Context, other: str, count: int) -> list[str]:
    """Talks to another session and listens for its replies."""
    heard = []
    for number in range(count):
        await ctx.send(other, "call", {"number": number, "from": ctx.run.session}, agent="responder")
        heard.append(await ctx.receive("reply"))
    await ctx.send(other, "call", {"number": -1}, agent="responder")
    return heard


@agent
async def responder(ctx: Context) -> int:
    """Answers every call until it is told to stop."""
    answered = 0
    while (call := await ctx.receive("call"))["number"] >= 0:
        await ship(f"echo {call['number']}")
        await ctx.send(call["from"], "reply", f"echo {call['number']}", agent="caller")
        answered += 1
    return answered


@agent
async def parent(ctx: Context, depth: int) -> list[Any]:
    """Has children that have children; one of them goes its own way."""
    own = await put(f"level {depth}")
    if depth == 0:
        return [own]
    first, second = ctx.spawn(parent, depth - 1), ctx.spawn(parent, depth - 1)
    if depth == 1:
        ctx.spawn(errand, ["alone"], detach=True)
    return [own, await first, await second]


@agent
async def saga(ctx: Context, name: str) -> str:
    """Books, then fails, and takes everything back in reverse."""
    ctx.compensate(ship, f"cancel hotel {name}")
    await put(f"hotel {name}")
    ctx.compensate(ship, f"cancel flight {name}")
    await ship(f"flight {name}")
    raise ValueError("no rental car")


@agent
async def counter(ctx: Context, by: int) -> int:
    """Adds to what its session remembers, around a step."""
    ctx.state["total"] = ctx.state.get("total", 0) + by
    await ship(f"{by}")
    ctx.state["log"] = [*ctx.state.get("log", []), by]
    return int(ctx.state["total"])


@agent
async def relay(ctx: Context, left: int, said: list[str]) -> list[str]:
    """Goes on in a new run each time, and takes its unread messages along."""
    await ctx.send(ctx.run.id, "note", f"note {left}")
    said = [*said, await put(f"leg {left}")]
    if left > 0:
        ctx.continue_as(left - 1, said)
    return [*said, await ctx.receive("note")]


@agent
async def spender(ctx: Context, amount: int) -> list[str]:
    """Pays with consent: asked for by the tool, and asked for beforehand."""
    first = await guarded_pay(amount)
    consent = await ctx.approve(guarded_pay, amount + 1, to="owner")
    second = await consent.perform() if consent else "refused"
    try:
        third = await guarded_pay(13)
    except StepError as error:
        third = error.type
    return [first, second, third]


@agent
async def waiter(ctx: Context, name: str) -> str:
    """Waits for ever; when it is cancelled it cleans up."""
    child = ctx.spawn(waiter_child, name)
    try:
        await put(f"open {name}")
        await ctx.receive("never")
    finally:
        await ship(f"close {name}")
    return await child


@agent
async def waiter_child(ctx: Context, name: str) -> str:
    """Waits for ever."""
    await put(f"child of {name}")
    return str(await ctx.receive("never"))


@agent
async def booker(ctx: Context, names: list[str]) -> list[str]:
    """Writes into the database of its own store, between other steps."""
    return [await act(name) for name in names for act in (book, ship)]


@agent
async def pausable(ctx: Context) -> list[str]:
    """Steps around a timer, so that there is something to pause."""
    first = await ship("before the pause")
    await asyncio.sleep(0.4)
    return [first, await ship("after the pause")]


AGENTS: list[AnyAgent] = [
    errand, fan, asker, sleeper, caller, responder, parent, saga, counter, relay, spender, waiter, waiter_child, booker,
    pausable,
]  # fmt: skip


async def attend(runtime: Runtime, world: World) -> None:
    """A person at work, until cancelled: answers, consents (never to 13), and looks up what nobody knows."""
    while True:
        await decide_asks(runtime)
        for run in await runtime.runs(RunFilter(limit=10_000)):
            if not run.status.terminal and (run.wait or {}).get("kind") == "unknown":
                await settle_unknown(runtime, world, run.id, (run.wait or {})["step"])
        await asyncio.sleep(0.03)


async def decide_asks(runtime: Runtime, note: Callable[[str, str], object] = lambda _what, _ask: None) -> None:
    """Answer and decide whatever is open. `note` hears `answer` before and `answer!` after each decision."""
    for ask in await runtime.inbox():
        if ask.to == "nobody":
            continue
        note("answer", ask.id)
        with contextlib.suppress(PerdureError):
            if ask.kind == "ask":
                await runtime.answer(ask.id, f"answer to {ask.title}")
            elif decode(ask.detail)["args"].get("amount") == 13:
                await runtime.reject(ask.id, note="bad luck")
            else:
                await runtime.approve(ask.id)
            note("answer!", ask.id)


async def settle_unknown(runtime: Runtime, world: World, run: str, step: int) -> None:
    """Say what became of a step, as a person would who looks at the world."""
    deed = world.find(run, step)
    with contextlib.suppress(PerdureError):
        if deed is not None:
            await runtime.resolve(run, step, "happened", result=deed.result)
        else:
            await runtime.resolve(run, step, "run-again")


async def outcome(handle: RunHandle[Any]) -> Any:
    """What a run came to: its result, or how it failed."""
    try:
        return await handle.result()
    except RunFailed as failure:
        return f"failed: {failure}"
    except RunCancelled:
        return "cancelled"


Program = Callable[[Runtime], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Workflow:
    """A program for a Runtime that has AGENTS. `small` ones are crashed at every pair of points."""

    name: str
    program: Program
    small: bool = True


async def _errand(runtime: Runtime) -> Any:
    return await outcome(await runtime.start(errand, ["pen", "ink"], idempotency_key="1"))


async def _fan(runtime: Runtime) -> Any:
    return await outcome(await runtime.start(fan, 3, idempotency_key="1"))


async def _asker(runtime: Runtime) -> Any:
    return await outcome(await runtime.start(asker, "Why?", idempotency_key="1"))


async def _sleeper(runtime: Runtime) -> Any:
    return await outcome(await runtime.start(sleeper, 2, idempotency_key="1"))


async def _talk(runtime: Runtime) -> Any:
    listening = await runtime.start(responder, session="r", idempotency_key="1")
    calling = await runtime.start(caller, "r", 2, session="c", idempotency_key="1")
    return [await outcome(calling), await outcome(listening)]


async def _family(runtime: Runtime) -> Any:
    top = await outcome(await runtime.start(parent, 2, idempotency_key="1"))
    alone = [run.id for run in await runtime.runs(RunFilter(agent="errand"))]
    return [top, [await outcome(await runtime.run(id)) for id in alone]]


async def _saga(runtime: Runtime) -> Any:
    return await outcome(await runtime.start(saga, "Rome", idempotency_key="1"))


async def _counter(runtime: Runtime) -> Any:
    handles = [await runtime.start(counter, by, session="s", idempotency_key=str(by)) for by in (1, 2, 3)]
    return [await outcome(handle) for handle in handles]


async def _relay(runtime: Runtime) -> Any:
    return await outcome(await runtime.start(relay, 2, [], session="baton", idempotency_key="1"))


async def _spender(runtime: Runtime) -> Any:
    return await outcome(await runtime.start(spender, 7, idempotency_key="1"))


async def _cancel(runtime: Runtime) -> Any:
    handle = await runtime.start(waiter, "door", idempotency_key="1")
    async for event in handle.events():
        if event.type == "message.awaited":
            break
    with contextlib.suppress(AlreadySettled):
        await handle.cancel("enough")
    ends = [await outcome(handle)]
    children = await runtime.runs(RunFilter(agent="waiter_child"))
    ends += [await outcome(await runtime.run(run.id)) for run in children]
    return ends


async def _fork(runtime: Runtime) -> Any:
    first = await runtime.start(errand, ["tea"], idempotency_key="1")
    before = await outcome(first)
    forks = [run for run in await runtime.runs(RunFilter(agent="errand")) if run.forked_from is not None]
    fork = await runtime.run(forks[0].id) if forks else await runtime.fork(first.id, at=2, result="put by hand")
    return [before, await outcome(fork)]


async def _booker(runtime: Runtime) -> Any:
    return await outcome(await runtime.start(booker, ["a", "b"], idempotency_key="1"))


async def _pause(runtime: Runtime) -> Any:
    handle = await runtime.start(pausable, idempotency_key="1")
    with contextlib.suppress(AlreadySettled):
        async for event in handle.events():
            if event.type == "timer.started":
                await handle.pause()
            if event.type == "run.paused":
                await asyncio.sleep(0.8)
                await handle.resume()
            if event.type == "timer.fired":
                break
        await handle.resume()
    return await outcome(handle)


WORKFLOWS = [
    Workflow("steps in sequence", _errand),
    Workflow("steps at once, with retries", _fan, small=False),
    Workflow("question and answer", _asker),
    Workflow("timers", _sleeper),
    Workflow("messages between sessions", _talk, small=False),
    Workflow("a tree of children", _family, small=False),
    Workflow("a saga that fails", _saga),
    Workflow("a session's state over runs", _counter),
    Workflow("continue as", _relay),
    Workflow("consent", _spender),
    Workflow("cancelled in the middle", _cancel),
    Workflow("fork", _fork),
    Workflow("rows of a transaction tool", _booker),
    Workflow("pause and resume", _pause),
]
