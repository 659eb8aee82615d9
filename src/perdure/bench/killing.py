"""W5: after kill -9 in the middle of the work, how soon do all runs move again, and what was lost or done twice?

The evidence is a file: each step writes one line, with the time and its process. Twice: with `read` steps, which may
be repeated, and with `once` steps, whose probe looks into the file.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import NamedTuple

from perdure.bench import children
from perdure.bench.agents import AGENTS, once_lines, read_lines
from perdure.bench.sizes import Bench
from perdure.runtime import Runtime
from perdure.store.contract import RunFilter

_VARIANTS = {agent.name: agent for agent in (read_lines, once_lines)}
_LOOK_SECONDS = 0.005


class Line(NamedTuple):
    """A step that happened."""

    run: int
    step: int
    #: seconds of time.monotonic, which all processes of a machine share
    time: float
    process: int


async def measure_recovery(bench: Bench) -> dict[str, float]:
    """Both variants; times are those of the `read` steps, as on the peers."""
    reads = await _kill_and_resume(bench, read_lines.name)
    onces = await _kill_and_resume(bench, once_lines.name)
    return {
        "all_resumed_seconds": reads["resumed"],
        "all_resumed_from_exec_seconds": reads["resumed_from_exec"],
        "lost": reads["lost"] + onces["lost"],
        "repeated": onces["repeated"],
        "repeated_reads": reads["repeated"],
    }


async def begin(store: str, path: str, variant: str, runs: int, steps: int) -> None:
    """The worker to be killed: it starts the runs and would see them through."""
    async with Runtime(store, AGENTS) as runtime:
        started = [await runtime.start(_VARIANTS[variant], path, run, steps) for run in range(runs)]
        await asyncio.gather(*[handle.result() for handle in started])


async def resume(store: str, runs: int) -> str:
    """The worker that takes over. Returns when it was ready, in seconds of time.monotonic."""
    async with Runtime(store, AGENTS) as runtime:
        ready = time.monotonic()
        for run in await runtime.runs(RunFilter(limit=runs)):
            await (await runtime.run(run.id)).result()
    return str(ready)


async def _kill_and_resume(bench: Bench, variant: str) -> dict[str, float]:
    sizes, store = bench.sizes, bench.place.make_store(variant)
    effects = bench.place.directory / f"{variant}.txt"
    effects.touch()
    victim = await children.start("begin", store, effects, variant, sizes.killed_runs, sizes.killed_steps)
    try:
        # Looks from outside, as on the peers: the victim must not spend time on telling.
        while victim.returncode is None and count_lines(effects) < sizes.kill_after_lines:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_SECONDS)
    finally:
        victim.kill()
        await victim.communicate()
    executed = time.monotonic()
    ready = float(await children.run("resume", store, sizes.killed_runs))
    return judge(read_effects(effects), victim.pid, sizes.killed_runs, sizes.killed_steps, executed, ready)


def judge(lines: list[Line], victim: int, runs: int, steps: int, executed: float, ready: float) -> dict[str, float]:
    """What the lines say. Runs that were complete before the kill have nothing to resume."""
    first: dict[int, float] = {}
    for line in lines:
        if line.process != victim:
            first.setdefault(line.run, line.time)
    resumed = max(first.values(), default=ready)
    return {
        # Recovered runs may move before the runtime says that it is ready.
        "resumed": max(0.0, resumed - ready),
        "resumed_from_exec": resumed - executed,
        "lost": count_lost(lines, runs, steps),
        "repeated": count_repeated(lines),
    }


def count_lost(lines: list[Line], runs: int, steps: int) -> int:
    """Steps without a line."""
    happened = {(line.run, line.step) for line in lines}
    return sum((run, step) not in happened for run in range(runs) for step in range(steps))


def count_repeated(lines: list[Line]) -> int:
    """Lines too many."""
    return len(lines) - len({(line.run, line.step) for line in lines})


def read_effects(effects: Path) -> list[Line]:
    """The lines of such a file, in the order of writing."""
    words = [line.split() for line in effects.read_text(encoding="ascii").splitlines()]
    return [Line(int(run), int(step), float(time), int(process)) for run, step, time, process in words]


def count_lines(effects: Path) -> int:
    """How many steps have happened so far."""
    return effects.read_bytes().count(b"\n")
