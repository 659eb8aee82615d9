"""Promises of the public types, checked by mypy in `make types`; nothing here runs.

Each `type: ignore` is a call that must be refused: mypy reports it as unused when it is not.
"""

from __future__ import annotations

from decimal import Decimal
from typing import assert_type

from perdure import Child, Context, RunHandle, Runtime, agent, tool


@tool(effect="read")
async def price(item: str, quantity: int = 1) -> Decimal:
    return Decimal(quantity) * len(item)


@agent
async def buyer(ctx: Context, items: list[str], limit: int) -> dict[str, str]:
    return {item: str(limit) for item in items}


@agent(version="2", busy="reject")
async def greeter(ctx: Context, name: str) -> str:
    return f"hello {name}"


class Collector:
    def __init__(self) -> None:
        self.seen: list[str] = []

    async def run(self, ctx: Context, topic: str) -> list[str]:
        self.seen.append(await ctx.receive(topic, str))
        return self.seen


class Counter:
    async def run(self, ctx: Context, limit: int) -> int:
        return limit


collector = agent(Collector)
counter = agent(version="2")(Counter)


async def starting_a_class(rt: Runtime, ctx: Context) -> None:
    assert_type(await rt.start(collector, "news"), RunHandle[list[str]])
    assert_type(await rt.start(counter, 3), RunHandle[int])
    assert_type(await ctx.spawn(counter, 3), int)
    await rt.start(collector, 3)  # type: ignore[misc]


async def starting(rt: Runtime) -> None:
    run = await rt.start(buyer, ["pen"], 3, session="acme", idempotency_key="po-1")
    assert_type(run, RunHandle[dict[str, str]])
    assert_type(await run.result(), dict[str, str])
    await rt.start(buyer, ["pen"], "three")  # type: ignore[misc]
    await rt.start(buyer, ["pen"])  # type: ignore[misc]
    await rt.start(greeter, "Ada", nonsense=1)  # type: ignore[call-arg]


async def calling(ctx: Context) -> None:
    assert_type(await price("pen", quantity=2), Decimal)
    await price(3)  # type: ignore[arg-type]
    child = ctx.spawn(greeter, "Ada")
    assert_type(child, Child[str])
    assert_type(await child, str)
    ctx.spawn(greeter, 3)  # type: ignore[misc]
    assert_type(await ctx.ask("How many?", int), int)
