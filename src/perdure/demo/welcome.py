"""What `perdure dev` shows to somebody who has no agent yet: one that works, streams, and waits for their word."""

from __future__ import annotations

import asyncio

from perdure import Context, agent, current_step, tool

_LETTER = (
    "Dear {name}, your order of three lamps has arrived at our shop in Porto. One of them was broken on the way, so we "
    "would like to send you 24.90 euros back. The other two are yours to collect, any day until six. Kind regards."
)


@tool(effect="read")
async def look_up_order(number: str) -> dict[str, object]:
    """The order, as a shop would know it."""
    await asyncio.sleep(0.4)
    return {"number": number, "lamps": 3, "broken": 1, "price": "24.90"}


@tool(effect="read")
async def draft_letter(name: str) -> str:
    """A letter, word by word, as a model would write it."""
    letter = _LETTER.format(name=name)
    for word in letter.split():
        current_step().stream(f"{word} ")
        await asyncio.sleep(0.03)
    return letter


@tool(approval=True)
async def refund(order: str, amount: str) -> str:
    """Pretends to send money back, once somebody has agreed to exactly this."""
    await asyncio.sleep(0.3)
    return f"refund-{order}"


@agent
async def welcome(ctx: Context, name: str = "Ann") -> dict[str, str]:
    """Looks an order up, writes a letter, and asks you before it sends money back. Needs no key and costs nothing."""
    await ctx.emit("progress", {"doing": "looking the order up"})
    order = await look_up_order("1042")
    await ctx.emit("progress", {"doing": "writing to the customer"})
    letter = await draft_letter(name)
    number = await refund("1042", str(order["price"]))
    return {"letter": letter, "refund": number}
