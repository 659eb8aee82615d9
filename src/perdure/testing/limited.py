"""Agents that may not all run at once, and clients who want them to."""

from __future__ import annotations

import asyncio
import random

from perdure.agents.agent import AnyAgent, agent
from perdure.agents.context import Context
from perdure.agents.tool import tool
from perdure.runtime import Runtime
from perdure.testing.plans import put

_KEYS = ("red", "green", "blue", None)


@tool(effect="read")
async def hold(seconds: float) -> str:
    """Takes its time."""
    await asyncio.sleep(seconds)
    return "held"


@agent(concurrency=2, concurrency_per_key=1)
async def narrow(ctx: Context, tag: str, seconds: float) -> str:
    """Only two of these move at once, and one of a kind; one that sleeps does not count."""
    await hold(seconds)
    await asyncio.sleep(0.1)
    await hold(seconds)
    return await put(tag, "")


@agent(rate="3/s", rate_per_key="1/s")
async def paced(ctx: Context, tag: str) -> str:
    """Only three of these begin in a second, and one of a kind."""
    return await put(tag, "")


LIMITED: list[AnyAgent] = [narrow, paced]


class Crowd:
    """Clients who start limited agents."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._tags = 0

    async def press(self, runtime: Runtime) -> None:
        """Start some at once."""
        for _ in range(self._dice.choice([1, 2, 4])):
            self._tags += 1
            tag, key = f"crowd {self._tags}", self._dice.choice(_KEYS)
            if self._dice.random() < 0.6:
                await runtime.start(narrow, tag, self._dice.choice([0.05, 0.05, 0.4, 0.4, 3.0]), concurrency_key=key)
            else:
                await runtime.start(paced, tag, concurrency_key=key)
