"""The agents of all workloads. A step does nothing and returns 1,022 characters, which is 1 KiB as JSON."""

from __future__ import annotations

import asyncio
import os
import time

from perdure.agents.agent import agent
from perdure.agents.context import Context
from perdure.agents.tool import DID_NOT_HAPPEN, Happened, tool

PAYLOAD = "x" * 1_022
STEP_SECONDS = 0.02
PAUSE_SECONDS = 0.2


class Marks:
    """When agent code came by. Its own process reads them; a journal would add what is to be measured."""

    def __init__(self) -> None:
        #: seconds of time.perf_counter
        self.times: list[float] = []
        self._waiting: asyncio.Future[float] | None = None

    def add(self) -> None:
        """Here is agent code now."""
        now = time.perf_counter()
        self.times.append(now)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(now)

    def expect(self) -> asyncio.Future[float]:
        """The time of the next mark."""
        self._waiting = asyncio.get_running_loop().create_future()
        return self._waiting


marks = Marks()


@tool(effect="read")
async def work(number: int) -> str:
    """Nothing, as quickly as possible."""
    return PAYLOAD


@agent
async def sequence(ctx: Context, steps: int) -> int:
    """One step after the other."""
    for number in range(steps):
        await work(number)
    return steps


@agent
async def marked_sequence(ctx: Context, steps: int) -> int:
    """One step after the other, with a mark before each."""
    for number in range(steps):
        marks.add()
        await work(number)
    return steps


@agent
async def parked(ctx: Context) -> None:
    """One step, then a wait for somebody outside."""
    await work(0)
    await ctx.receive("go")
    marks.add()


@agent
async def returning(ctx: Context, steps: int) -> None:
    """Many steps, then wait after wait."""
    for number in range(steps):
        await work(number)
    while True:
        await ctx.receive("go")
        marks.add()


@agent
async def family(ctx: Context, children: int) -> int:
    """Children of one step each, all at once."""
    return sum(await asyncio.gather(*[ctx.spawn(sequence, 1) for _ in range(children)]))


async def _write_line(path: str, run: int, step: int) -> str:
    line = f"{run} {step} {time.monotonic()} {os.getpid()}\n"
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)
    await asyncio.sleep(STEP_SECONDS)
    return PAYLOAD


read_line = tool(effect="read", name="read_line")(_write_line)
once_line = tool(effect="once", name="once_line")(_write_line)


@once_line.reconcile
def _find_line(path: str, run: int, step: int) -> object:
    with open(path, encoding="ascii") as lines:
        written = any(line.startswith(f"{run} {step} ") for line in lines)
    return Happened(PAYLOAD) if written else DID_NOT_HAPPEN


@agent
async def read_lines(ctx: Context, path: str, run: int, steps: int) -> None:
    """Lines in a file, with pauses; a crash may write one twice."""
    for step in range(steps):
        await read_line(path, run, step)
        await asyncio.sleep(PAUSE_SECONDS)


@agent
async def once_lines(ctx: Context, path: str, run: int, steps: int) -> None:
    """Lines in a file, with pauses; nothing may write one twice."""
    for step in range(steps):
        await once_line(path, run, step)
        await asyncio.sleep(PAUSE_SECONDS)


AGENTS = [sequence, marked_sequence, parked, returning, family, read_lines, once_lines]
