"""The agents of all workloads. A step does nothing and returns 1,022 characters, which is 1 KiB as JSON."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from perdure.agents.agent import agent
from perdure.agents.context import Context
from perdure.agents.tool import DID_NOT_HAPPEN, Happened, tool

PAYLOAD = "x" * 1_022
STEP_SECONDS = 0.02
PAUSE_SECONDS = 0.2

#: When agent code came by, in seconds of time.monotonic, which all processes of a machine share. A journal would add
#: what is to be measured.
marks: list[float] = []


@tool(effect="read")
async def work(number: int) -> str:
    """Nothing, as quickly as possible."""
    return PAYLOAD


@agent
async def sequence(_: Context, steps: int) -> int:
    """One step after the other."""
    for number in range(steps):
        await work(number)
    return steps


@agent
async def parked(ctx: Context) -> None:
    """One step, then a wait for somebody outside."""
    await work(0)
    await ctx.receive("go")
    marks.append(time.monotonic())


@agent
async def pausing(ctx: Context, steps: int, more: int) -> None:
    """Steps, then for ever: a wait, and `more` steps with a mark before each and after the last."""
    for number in range(steps):
        await work(number)
    while True:
        await ctx.receive("go")
        for number in range(more):
            marks.append(time.monotonic())
            await work(number)
        marks.append(time.monotonic())


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
    with Path(path).open(encoding="ascii") as lines:
        written = any(line.startswith(f"{run} {step} ") for line in lines)
    return Happened(PAYLOAD) if written else DID_NOT_HAPPEN


@agent
async def read_lines(_: Context, path: str, run: int, steps: int) -> None:
    """Lines in a file, with pauses; a crash may write one twice."""
    for step in range(steps):
        await read_line(path, run, step)
        await asyncio.sleep(PAUSE_SECONDS)


@agent
async def once_lines(_: Context, path: str, run: int, steps: int) -> None:
    """Lines in a file, with pauses; nothing may write one twice."""
    for step in range(steps):
        await once_line(path, run, step)
        await asyncio.sleep(PAUSE_SECONDS)


AGENTS = [sequence, pausing, parked, family, read_lines, once_lines]
