"""Agents that use asyncio in every way it offers. What they return says in which order they saw things happen."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from perdure import Context, agent, tool
from perdure.errors import AskTimeout, ReceiveTimeout, StepError
from tests.unit.journal.driver import Plan


@tool(effect="read")
async def work(item: str) -> str:
    """The item in capitals."""
    return item.upper()


@tool(effect="read")
async def broken(item: str) -> str:
    """Always fails."""
    raise ValueError(item)


@tool(effect="once")
async def undo(item: str) -> str:
    """What clean-up does."""
    return f"undone {item}"


@agent
async def gathering(ctx: Context) -> list[str]:
    """Results come in the order of the call."""
    return [*await asyncio.gather(*(work(item) for item in "abc")), await work("d")]


@agent
async def gathering_failures(ctx: Context) -> list[str]:
    """Failures are results."""
    results = await asyncio.gather(work("a"), broken("b"), work("c"), return_exceptions=True)
    return [str(result) for result in results]


@agent
async def racing(ctx: Context) -> list[str]:
    """The first to end wins; the losers clean up, in the order of a set."""
    tasks = {asyncio.create_task(_with_clean_up(item)) for item in "abcde"}
    seen = []
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.wait(pending)
    seen += [task.result() for task in done] + ["cancelled" for task in pending if task.cancelled()]
    return seen


async def _with_clean_up(item: str) -> str:
    try:
        return await work(item)
    except asyncio.CancelledError:
        await undo(item)
        raise


@agent
async def waiting_for_failure(ctx: Context) -> list[int]:
    """FIRST_EXCEPTION returns early, ALL_COMPLETED does not."""
    tasks = [asyncio.ensure_future(step) for step in (work("a"), broken("b"), work("c"), work("d"))]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    everything, nothing = await asyncio.wait(tasks)
    assert tasks[1].exception() is not None
    return [len(done) + len(pending), len(everything), len(nothing)]


@agent
async def as_they_complete(ctx: Context) -> list[str]:
    """Coroutines, handed over as they are, in the order in which they end."""
    return [await next_result for next_result in asyncio.as_completed([_twice(item) for item in "abcdefgh"])]


async def _twice(item: str) -> str:
    return await work(item) + await work(item + item)


@agent
async def grouped(ctx: Context) -> list[str]:
    """Groups within groups; one failure cancels the others, which clean up."""
    seen: list[str] = []
    try:
        async with asyncio.TaskGroup() as outer:
            for item in "abcd":
                outer.create_task(_with_clean_up(item))
            async with asyncio.TaskGroup() as inner:
                inner.create_task(_with_clean_up("x"))
                inner.create_task(broken("y"))
    except* StepError as group:
        seen += [str(error) for error in group.exceptions]
    seen.append(await work("z"))
    return seen


@agent
async def timed(ctx: Context) -> list[str]:
    """asyncio.timeout, wait_for, and a timeout that is moved."""
    seen = []
    try:
        async with asyncio.timeout(5):
            seen.append(await work("a"))
            seen.append(await work("b"))
    except TimeoutError:
        seen.append("late")
    try:
        seen.append(await asyncio.wait_for(work("c"), 1))
    except TimeoutError:
        seen.append("late again")
    async with asyncio.timeout(100) as patience:
        patience.reschedule(None)
        seen.append(await work("d"))
    return seen


@agent
async def shielding(ctx: Context) -> list[str]:
    """The shielded work goes on when its waiter is given up."""
    inner = asyncio.create_task(work("a"))
    seen = []
    try:
        seen.append(await asyncio.wait_for(asyncio.shield(inner), 1))
    except TimeoutError:
        seen.append("impatient")
    seen.append(await inner)
    return seen


@agent
async def queueing(ctx: Context) -> list[str]:
    """Two producers, two consumers, one queue of one place."""
    queue: asyncio.Queue[str] = asyncio.Queue(1)
    seen: list[str] = []

    async def produce(items: str) -> None:
        for item in items:
            await queue.put(await work(item))

    async def consume(name: str) -> None:
        while True:
            seen.append(f"{name}{await queue.get()}")
            await work(seen[-1])
            queue.task_done()

    consumers = [asyncio.create_task(consume(name)) for name in "12"]
    await asyncio.gather(produce("ab"), produce("cd"))
    await queue.join()
    for consumer in consumers:
        consumer.cancel()
    await asyncio.gather(*consumers, return_exceptions=True)
    return seen


@agent
async def synchronising(ctx: Context) -> list[str]:
    """Event, Lock, Semaphore, Condition and Barrier."""
    go, lock, places = asyncio.Event(), asyncio.Lock(), asyncio.Semaphore(2)
    news, barrier = asyncio.Condition(), asyncio.Barrier(3)
    seen: list[str] = []

    async def take_part(name: str) -> None:
        await go.wait()
        async with places:
            seen.append(await work(name))
        async with lock:
            seen.append(await work(name + name))
        await barrier.wait()
        async with news:
            seen.append(f"{name} was told")
            news.notify()

    async with asyncio.TaskGroup() as group:
        for name in "abc":
            group.create_task(take_part(name))
        seen.append(await work("go"))
        async with news:
            go.set()
            await news.wait_for(lambda: any("told" in line for line in seen))
    return seen


@agent
async def sleeping(ctx: Context) -> list[str]:
    """Timers ring in the order of their time, whatever else happens."""
    begin = ctx.now()
    seen: list[str] = []

    async def nap(hours: float) -> None:
        await asyncio.sleep(hours * 3600)
        seen.append(f"{hours} h, after {(ctx.now() - begin).total_seconds() // 3600} h")
        await work(str(hours))

    await asyncio.gather(nap(24), nap(1), nap(0), nap(12))
    return seen


@agent
async def in_background(ctx: Context) -> list[str]:
    """A task that nobody holds on to lives all the same."""
    seen: list[str] = []

    async def note(item: str) -> None:
        seen.append(await work(item))

    for item in "abc":
        asyncio.create_task(note(item))  # noqa: RUF006 - that is the point
    await work("z")
    await asyncio.sleep(60)
    return seen


@agent
async def generating(ctx: Context) -> list[str]:
    """Generators that are left early clean up at once; so do their generators."""
    seen: list[str] = []

    async def count(name: str, items: str) -> AsyncGenerator[str, None]:
        try:
            for item in items:
                yield await work(name + item)
        finally:
            seen.append(await undo(name))

    async def both() -> AsyncIterator[str]:
        async with contextlib.aclosing(count("1", "ab")) as first:
            async for item in first:
                async for other in count("2", "cd"):
                    yield item + other
                    break

    async for item in both():
        seen.append(item)  # noqa: PERF401 - others append in between
    await work("last")
    return seen


_who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


@agent
async def with_context_variables(ctx: Context) -> list[str]:
    """Each task has a context of its own."""

    async def name(who: str) -> str:
        before = _who.get()
        _who.set(who)
        await work(who)
        return f"{before}>{_who.get()}"

    _who.set("main")
    return [*await asyncio.gather(name("a"), name("b")), _who.get()]


@agent
async def stacking(ctx: Context) -> list[str]:
    """Context managers that act on entering and on leaving."""
    seen: list[str] = []

    @contextlib.asynccontextmanager
    async def hold(item: str) -> AsyncIterator[str]:
        try:
            yield await work(item)
        finally:
            seen.append(await undo(item))

    with contextlib.suppress(StepError):
        async with contextlib.AsyncExitStack() as stack:
            for item in "abc":
                seen.append(await stack.enter_async_context(hold(item)))  # noqa: PERF401 - as above
            await broken("d")
    return seen


@agent
async def cancelling_a_task(ctx: Context) -> list[Any]:
    """A task may resist its cancellation, and swallow it."""
    seen: list[Any] = []

    async def stubborn() -> str:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError as error:
            seen.append(list(error.args))
        return await work("anyway")

    task = asyncio.create_task(stubborn())
    await work("a")
    task.cancel("enough")
    seen.append(await task)
    return seen


@agent
async def with_people(ctx: Context) -> list[Any]:
    """Questions, approvals, messages; each with a deadline."""
    seen: list[Any] = []

    async def ask() -> None:
        try:
            seen.append(await ctx.ask("Well?", bool, to="ann", timeout=3600))
        except AskTimeout:
            seen.append("no answer")

    async def approve() -> None:
        consent = await ctx.approve(undo, "x", to="bob", reason="Sure?")
        seen.append(await consent.perform() if consent else "refused")

    async def read() -> None:
        for _ in range(3):
            try:
                seen.append(await ctx.receive("post", int, timeout=60))
            except ReceiveTimeout:
                seen.append("no post")

    await asyncio.gather(ask(), approve(), read())
    return seen


@agent
async def child(ctx: Context, item: str) -> str:
    """Somebody else's run."""
    return item


@agent
async def with_children(ctx: Context) -> list[str]:
    """Children are awaited late, twice, or by nobody but the end of the run."""
    children = [ctx.spawn(child, item) for item in "abc"]
    ctx.spawn(child, "d")
    ctx.spawn(child, "e", detach=True)
    await work("x")
    first, second = await asyncio.gather(children[1], children[1])
    return [first, second, *await asyncio.gather(*children)]


@agent
async def dicing(ctx: Context) -> Any:
    """Time, chance and names that no replay changes."""

    async def throw(item: str) -> list[Any]:
        await work(item)
        return [ctx.now().isoformat(), ctx.random.random(), str(ctx.uuid()), asyncio.get_running_loop().time()]

    return await asyncio.gather(*(throw(item) for item in "abc"))


@agent
async def remembering(ctx: Context) -> dict[str, Any]:
    """State is changed by assignment, deep inside, and by taking away."""
    ctx.state["log"] = [{"n": 0}]
    log = ctx.state["log"]

    async def note(item: str) -> None:
        ctx.state[item] = await work(item)
        log.append({"n": len(log)})
        log[0]["n"] += 10
        ctx.state.pop("old", None)
        await work(item)
        del ctx.state[item]

    await asyncio.gather(note("a"), note("b"))
    ctx.state["done"] = True
    return dict(ctx.state)


@agent
async def telling(ctx: Context) -> bool:
    """Everything that needs no answer, in between steps."""
    for number in range(3):
        await ctx.emit("progress", {"done": number})
        await ctx.send("someone", "news", number)
        await work(str(number))
    return ctx.patched("better")


@agent
async def patching(ctx: Context) -> list[bool]:
    """A new path is taken where nothing is recorded ahead, and for good."""

    async def go(item: str) -> bool:
        await work(item)
        new = ctx.patched("path")
        await (work(item * 2) if new else undo(item))
        return new

    return [await go("a"), *await asyncio.gather(go("b"), go("c"))]


@agent
async def compensating(ctx: Context) -> None:
    """A saga that goes wrong at its last step."""
    for item in "abc":
        ctx.compensate(undo, item)
        await work(item)
    await asyncio.gather(broken("d"), work("e"))


#: name -> agent and what happens to it
SCENARIOS: dict[str, tuple[Any, Plan]] = {
    scenario.name: (scenario, Plan())
    for scenario in (
        gathering, gathering_failures, racing, waiting_for_failure, as_they_complete, grouped, timed, shielding,
        queueing, synchronising, sleeping, in_background, generating, with_context_variables, stacking,
        cancelling_a_task, with_children, dicing, remembering, telling, patching, compensating,
    )
}  # fmt: skip
SCENARIOS["with_people"] = (with_people, Plan(mail=[("post", 1), ("spam", 0), ("post", 2), ("post", 3)]))
