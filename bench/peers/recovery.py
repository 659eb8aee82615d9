"""W5 for every peer: kill its worker while runs are in flight, start it again, and count what became of the steps.

A peer brings two functions, one that starts the runs and one that starts the replacement. Evidence is the effect file
alone: one line per executed step, written by the step itself.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from children import Child
from workloads import PAYLOAD, Metrics, Sizes

STEP_SECONDS = 0.02
PAUSE_SECONDS = 0.2
RECOVERY_SECONDS_MAX = 60.0
KILL_POLL_SECONDS = 0.005
END_POLL_SECONDS = 0.05

Start = Callable[[], Awaitable[list[Child]]]


@dataclass(frozen=True)
class Effect:
    run: int
    step: int
    at: float
    pid: int


async def effect(path: str, run: int, step: int) -> str:
    """The body of every step of W5: append a line, take 20 ms, return 1 KiB."""
    line = f"{run} {step} {time.monotonic()} {os.getpid()}\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)
    await asyncio.sleep(STEP_SECONDS)
    return PAYLOAD


async def kill_and_recover(sizes: Sizes, path: Path, begin: Start, recover: Start) -> Metrics:
    """Start with `begin`, SIGKILL every process it returns, replace them with `recover`, and judge the effect file.

    The clock starts just before the first replacement is exec'd, so it includes the interpreter and the imports.
    """
    path.touch()
    alive = await begin()
    killed = {child.pid for child in alive}
    try:
        if not await reached(KILL_POLL_SECONDS, lambda: line_count(path) >= sizes.kill_after_lines):
            raise RuntimeError(f"only {line_count(path)} of {sizes.kill_after_lines} lines written within a minute")
        for child in alive:
            await child.kill()
        alive = await recover()
        expected = sizes.killed_runs * sizes.killed_steps
        await reached(END_POLL_SECONDS, lambda: len({(line.run, line.step) for line in effects(path)}) >= expected)
    finally:
        for child in alive:
            await child.kill()
    return judge(sizes, effects(path), killed, alive[0].started)


def judge(sizes: Sizes, lines: list[Effect], killed: set[int], started: float) -> Metrics:
    """Figures from the effect file. Runs that were complete before the kill are not part of "all resumed"."""
    times = Counter((line.run, line.step) for line in lines)
    pairs = [(run, step) for run in range(sizes.killed_runs) for step in range(sizes.killed_steps)]
    first_line: dict[int, float] = {}
    for line in lines:
        if line.pid not in killed:
            first_line.setdefault(line.run, line.at - started)
    ended = max((line.at for line in lines), default=started) - started
    return {
        "all_resumed_seconds": max(first_line.values(), default=0.0),
        "lost": sum(pair not in times for pair in pairs),
        "repeated": sum(count - 1 for count in times.values()),
        "first_resumed_seconds": min(first_line.values(), default=0.0),
        "all_done_seconds": ended,
        "resumed_runs": len(first_line),
    }


def effects(path: Path) -> list[Effect]:
    """Every complete line of the effect file, in the order of writing."""
    lines = path.read_text().split("\n")[:-1]
    return [Effect(int(run), int(step), float(at), int(pid)) for run, step, at, pid in map(str.split, lines)]


def line_count(path: Path) -> int:
    return path.read_bytes().count(b"\n")


async def reached(every_seconds: float, goal: Callable[[], bool]) -> bool:
    """Look again and again, for a minute at most: what is missing then counts as lost."""
    deadline = time.monotonic() + RECOVERY_SECONDS_MAX
    while not goal() and time.monotonic() < deadline:
        await asyncio.sleep(every_seconds)
    return goal()
