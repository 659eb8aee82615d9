"""Agents that do whatever a plan says: a plan is JSON, drawn by dice, so that every seed brings code of its own.

`wanderer` follows a plan and returns what each line of it brought. Tools return what can be foretold; what depends on
timing comes back as ANYTHING, so `fits` can tell for every run that succeeded whether it came to what it had to.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from perdure.agents.agent import AnyAgent, agent
from perdure.agents.attempt import current_step
from perdure.agents.context import Context
from perdure.agents.tool import DID_NOT_HAPPEN, Happened, tool
from perdure.errors import AlreadySettled, PerdureError
from perdure.testing.workflows import the_world

Plan = list[list[Any]]

#: Stands for what nobody can foretell.
ANYTHING = "*"

#: Asked by every tool before and after it acts: takes time, or kills.
the_pace: ContextVar[Callable[[str], Awaitable[None]]] = ContextVar("perdure_pace")


@tool(effect="read")
async def read(tag: str, after: str) -> str:
    """Changes nothing."""
    await the_pace.get()("read")
    return f"read {tag}"


@tool(effect="keyed")
async def put(tag: str, after: str) -> str:
    """Safe to repeat with its key."""
    return await _act("put", tag, keyed=True)


@tool(effect="once")
async def ship(tag: str, after: str) -> str:
    """Must not be repeated, and nobody can ask."""
    return await _act("ship", tag)


@tool(effect="once")
async def wire(tag: str, after: str) -> str:
    """Must not be repeated; a probe can ask."""
    return await _act("wire", tag)


@wire.reconcile
async def _ask_the_bank(tag: str, after: str) -> Any:
    await the_pace.get()("probe")
    deed = the_world.get().find_result(f"wire {tag}")
    return Happened(deed.result) if deed is not None else DID_NOT_HAPPEN


@tool(effect="keyed", retries=5)
async def flaky(tag: str, after: str) -> str:
    """Fails at first: before it acts, or when it has acted already."""
    if tag.endswith("early") and current_step().attempt == 1:
        raise ConnectionError("cut off")
    result = await _act("flaky", tag, keyed=True)
    if tag.endswith("late") and current_step().attempt == 1:
        raise ConnectionError("cut off")
    return result


@tool(effect="once", approval="owner")
async def guarded(tag: str) -> str:
    """Must not be repeated, and not without consent."""
    return await _act("guarded", tag)


@tool(effect="read")
async def poison(tag: str) -> str:
    """Kills whoever runs it."""
    await the_pace.get()("poison")
    return f"survived {tag}"


@tool(effect="read", timeout=0.4, retries=1)
async def slow(tag: str, after: str) -> str:
    """Takes too long, every time."""
    await asyncio.sleep(60)
    return f"slow {tag}"


async def _act(name: str, tag: str, *, keyed: bool = False) -> str:
    await the_pace.get()(f"before {name}")
    result = the_world.get().act(name, f"{name} {tag}", keyed=keyed)
    await the_pace.get()(f"after {name}")
    return result


@agent
async def wanderer(ctx: Context, plan: Plan, depth: int = 0) -> list[Any]:
    """Follows `plan`, line by line."""
    done: list[Any] = []
    for line in plan:
        done.append(await _LINES[line[0]](ctx, _last(done), *line[1:]))
    return done


@agent
async def tally(ctx: Context, number: int) -> int:
    """Adds a number to its session's state, around a step."""
    ctx.state["total"] = ctx.state.get("total", 0) + number
    await put(f"{number}", "")
    ctx.state["numbers"] = [*ctx.state.get("numbers", []), number]
    return int(ctx.state["total"])


AGENTS: list[AnyAgent] = [wanderer, tally]


def _go(ctx: Context, plan: Plan) -> Awaitable[list[Any]]:
    # As a plain function: an agent that is called inside another is part of that run.
    begun: Awaitable[list[Any]] = wanderer.function(ctx, plan)
    return begun


def _last(done: list[Any]) -> str:
    return next((entry for entry in reversed(done) if isinstance(entry, str) and " " in entry), "")


async def _failing_softly(work: Awaitable[Any]) -> Any:
    try:
        return await work
    except PerdureError as error:
        return f"{type(error).__name__}"


async def _nap(ctx: Context, after: str, seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "rested"


async def _ask(ctx: Context, after: str, question: str, timeout: float | None) -> Any:
    return await _failing_softly(ctx.ask(question, str, timeout=timeout))


async def _hear(ctx: Context, after: str, topic: str, timeout: float) -> Any:
    return await _failing_softly(ctx.receive(topic, timeout=timeout))


async def _tell(ctx: Context, after: str, session: str, tag: str) -> str:
    # Forks send the same again: by its value a letter can be told from those of another run.
    await ctx.send(session, "tell", [ctx.run.id, tag], agent="wanderer")
    return "told"


async def _all(ctx: Context, after: str, plans: list[Plan]) -> list[Any]:
    return list(await asyncio.gather(*(_go(ctx, plan) for plan in plans)))


async def _group(ctx: Context, after: str, plans: list[Plan]) -> list[Any]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_collect(_go(ctx, plan))) for plan in plans]
    return [task.result() for task in tasks]


async def _first(ctx: Context, after: str, plans: list[Plan]) -> str:
    tasks = [asyncio.create_task(_collect(_go(ctx, plan))) for plan in plans]
    _done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    return ANYTHING


async def _within(ctx: Context, after: str, seconds: float, plan: Plan) -> str:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await _go(ctx, plan)
    return ANYTHING


async def _collect(work: Awaitable[Any]) -> Any:
    return await work


async def _child(ctx: Context, after: str, plan: Plan, detach: bool) -> Any:
    child = ctx.spawn(wanderer, plan, 1, detach=detach)
    return "spawned" if detach else await _failing_softly(child)


async def _children(ctx: Context, after: str, plans: list[Plan]) -> list[Any]:
    return list(await asyncio.gather(*(_failing_softly(ctx.spawn(wanderer, plan, 1)) for plan in plans)))


async def _consent(ctx: Context, after: str, tag: str) -> str:
    consent = await ctx.approve(guarded, tag, to="owner")
    if not consent:
        return "refused"
    result = await consent.perform()
    with contextlib.suppress(AlreadySettled):
        await consent.perform()
    return str(result)


async def _undo(ctx: Context, after: str, tag: str) -> str:
    ctx.compensate(ship, tag, "")
    return "to-undo"


async def _fail(ctx: Context, after: str, message: str) -> str:
    raise ValueError(message)


async def _again(ctx: Context, after: str, plan: Plan) -> str:
    ctx.continue_as(plan, 1)


async def _emit(ctx: Context, after: str, note: str) -> str:
    await ctx.emit("progress", {"note": note, "dice": ctx.random.random(), "at": ctx.now().isoformat()})
    return "noted"


_LINES: dict[str, Callable[..., Awaitable[Any]]] = {
    "read": lambda _, after, tag: read(tag, after),
    "put": lambda _, after, tag: put(tag, after),
    "ship": lambda _, after, tag: ship(tag, after),
    "wire": lambda _, after, tag: wire(tag, after),
    "flaky": lambda _, after, tag: flaky(tag, after),
    "slow": lambda _, after, tag: _failing_softly(slow(tag, after)),
    "poison": lambda _, after, tag: poison(tag),
    "guarded": lambda _, after, tag: _failing_softly(guarded(tag)),
    "consent": _consent, "nap": _nap, "ask": _ask, "hear": _hear, "tell": _tell, "all": _all, "group": _group,
    "first": _first, "within": _within, "child": _child, "children": _children, "undo": _undo, "fail": _fail,
    "again": _again, "emit": _emit,
}  # fmt: skip


class Planner:
    """Draws plans. Every tag is used once, so that a deed can be told from any other."""

    def __init__(self, dice: random.Random, poison_rate: float = 0.0) -> None:
        self._dice = dice
        self._poison_rate = poison_rate
        self._tags = 0

    def draw(self, depth: int = 0) -> Plan:
        """A plan of a few lines; lines with plans in them get rarer with depth."""
        lines = [self._line(depth) for _ in range(self._dice.randint(1, 5 - depth))]
        if depth == 0 and self._dice.random() < self._poison_rate:
            return [["poison", self._tag()]]
        if depth == 0 and self._dice.random() < 0.1:
            lines.append(["fail", "as planned"])
        elif depth == 0 and self._dice.random() < 0.1:
            lines.append(["again", self.draw(1)])
        return lines

    def _line(self, depth: int) -> list[Any]:
        dice = self._dice
        nested = ["all", "group", "first", "within", "child", "children"] if depth < 2 else []
        simple = ["read", "put", "ship", "wire", "flaky", "slow", "guarded", "consent", "nap", "ask", "hear", "tell"]
        kind = dice.choice(simple + nested + ["put", "ship", "undo", "emit"])
        match kind:
            case "nap":
                return [kind, dice.choice([0.01, 0.1, 0.5, 2.0])]
            case "ask":
                return [kind, f"{self._tag()}?", dice.choice([None, 0.5, 3.0])]
            case "hear":
                return [kind, dice.choice(["tell", "unasked"]), dice.choice([0.05, 0.5, 3.0])]
            case "tell":
                return [kind, dice.choice(["a", "b", "c"]), self._tag()]
            case "flaky":
                return [kind, self._tag() + dice.choice(["", " early", " late"])]
            case "all" | "group" | "first" | "children":
                return [kind, [self.draw(depth + 1) for _ in range(dice.randint(1, 3))]]
            case "within":
                return [kind, dice.choice([0.01, 0.2, 1.0]), self.draw(depth + 1)]
            case "child":
                return [kind, self.draw(depth + 1), dice.random() < 0.2]
            case _:
                return [kind, self._tag()]

    def _tag(self) -> str:
        self._tags += 1
        return f"t{self._tags}"


def foretell(plan: Plan) -> list[Any]:
    """What `wanderer` has to return for a plan that does not fail or go on in another run."""
    return [_foretell_line(*line) for line in plan]


def fits(actual: Any, foretold: Any) -> bool:
    """True when a result is what was foretold."""
    if foretold == ANYTHING:
        return True
    if isinstance(foretold, list):
        return isinstance(actual, list) and len(actual) == len(foretold) and all(map(fits, actual, foretold))
    return bool(actual == foretold)


def _foretell_line(kind: str, *details: Any) -> Any:
    match kind:
        case "read" | "put" | "ship" | "wire" | "flaky":
            return f"{kind} {details[0]}"
        case "slow":
            return "StepTimeout"
        case "all" | "group":
            return [foretell(plan) for plan in details[0]]
        case "children":
            return [foretell(plan) if not _ends_oddly(plan) else ANYTHING for plan in details[0]]
        case "child":
            return "spawned" if details[1] else foretell(details[0])
        case "nap" | "tell" | "undo" | "emit":
            return {"nap": "rested", "tell": "told", "undo": "to-undo", "emit": "noted"}[kind]
        case _:
            return ANYTHING


def _ends_oddly(plan: Plan) -> bool:
    return any(line[0] in {"fail", "again"} for line in plan)
