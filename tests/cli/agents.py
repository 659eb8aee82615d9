"""Agents as a user would write them, in one file: the tests copy it and give it to the command line."""

import asyncio
import os
from decimal import Decimal
from pathlib import Path

from pydantic import BaseModel

from perdure import Context, agent, tool


class Verdict(BaseModel):
    """What the person decides."""

    approved: bool
    note: str = ""


@tool(effect="read")
async def price(item: str) -> Decimal:
    """Current price of one item in euros."""
    return Decimal("19.90")


@tool(effect="once", retries=0)
async def order(item: str, quantity: int) -> str:
    """Place the order; returns its number."""
    return f"order-{item}-{quantity}"


@agent
async def buyer(ctx: Context, items: list[str]) -> dict[str, str]:
    """Order a list of items, with a person's consent."""
    prices = await asyncio.gather(*(price(i) for i in items))
    ctx.state["spent"] = str(sum(prices))
    await ctx.emit("progress", {"quoted": len(items)})
    verdict = await ctx.ask("Spend it?", Verdict, to="finance", timeout=86_400)
    if not verdict.approved:
        return {}
    await asyncio.sleep(0.05)
    return {i: await order(i, 1) for i in items}


@agent
async def adder(ctx: Context, a: int, b: int = 2) -> int:
    """Several parameters, one of them with a default."""
    return a + b


@agent
async def failing(ctx: Context) -> None:
    """Fails in its only step."""
    await ctx.step(explode)


def explode() -> None:
    """What cannot go well."""
    raise ValueError("no good can come of this")


@agent
async def sleeper(ctx: Context) -> str:
    """Sleeps for a day."""
    await asyncio.sleep(86_400)
    return "rested"


@agent
async def listener(ctx: Context) -> list[str]:
    """Collects two messages."""
    return [await ctx.receive("word", str), await ctx.receive("word", str)]


@tool(effect="once", approval="boss")
async def pay(amount: str) -> str:
    """Needs consent."""
    return f"paid {amount}"


@agent
async def payer(ctx: Context, amount: str) -> str:
    """Pays, once the boss agrees."""
    return await pay(amount)


@tool(effect="once")
def charge(mark: str) -> str:
    """Ends its process the first time, as a power cut would."""
    if not Path(mark).exists():
        Path(mark).touch()
        os._exit(9)
    return "charged again"


@agent
async def cashier(ctx: Context, mark: str) -> str:
    """One effect of which nobody knows whether it happened."""
    done: str = await charge(mark)
    return done


@agent
async def parent(ctx: Context) -> dict[str, str]:
    """Waits for a child that waits for a person."""
    return await ctx.spawn(buyer, ["pen"])
