"""W1: what does one durable step cost, alone? And growth: does that stay so in a long run and in a full store?"""

from __future__ import annotations

import asyncio
import statistics
import time
from itertools import pairwise

from perdure.agents.agent import Agent
from perdure.bench.agents import AGENTS, PAYLOAD, marked_sequence, marks, sequence
from perdure.bench.figures import percentile
from perdure.bench.machine import commit_times, stored_bytes
from perdure.bench.sizes import Bench
from perdure.runtime import Runtime

#: What a step's result takes as JSON.
_PAYLOAD_BYTES = len(PAYLOAD) + 2
_WARM_UP_STEPS = 20
#: "Step 10": earlier ones also pay for their run's start.
_FIRST_STEP = 10
#: Events of a run beside the two of each step: queued, started, succeeded.
_OTHER_EVENTS = 3
_FILLING_STEPS = 50
_FILLING_RUNS = 100


async def measure_steps(bench: Bench) -> dict[str, float]:
    """W1: runs of steps, one at a time, and bare commits before and after: the disk's mood must not decide."""
    sizes = bench.sizes
    raw = commit_times(bench.directory, sizes.raw_commits // 2)
    async with Runtime(bench.url, AGENTS) as runtime:
        await _run(runtime, _WARM_UP_STEPS)
        runs = [await _run(runtime, sizes.sequential_steps) for _ in range(sizes.sequential_runs)]
    raw += commit_times(bench.directory, sizes.raw_commits - len(raw))
    step, commit = statistics.median(runs) / sizes.sequential_steps, percentile(raw, 0.5)
    return {"step_ms_p50": step * 1e3, "step_vs_raw_commit": step / commit, "raw_commit_ms_p50": commit * 1e3}


async def measure_growth(bench: Bench) -> dict[str, float]:
    """A long run beside fresh ones, what its journal takes on the disk, and a store that is full of others."""
    sizes = bench.sizes
    figures = {}
    async with Runtime(bench.url, AGENTS) as runtime:
        await _run(runtime, _WARM_UP_STEPS)
        figures["flat_step_ratio"] = await _flat_step_ratio(runtime, sizes.long_run_steps, sizes.window_steps)
    steps = _WARM_UP_STEPS + sizes.long_run_steps + sizes.window_steps + 2 * (_FIRST_STEP + sizes.window_steps)
    figures["journal_ratio"] = stored_bytes(bench.file) / (steps * _PAYLOAD_BYTES)
    if sizes.stored_events:
        figures["million_ratio"] = await _full_store_ratio(bench)
    return figures


async def _flat_step_ratio(runtime: Runtime, late: int, window: int) -> float:
    before = await _step_times(runtime, _FIRST_STEP + window)
    long = await _step_times(runtime, late + window)
    after = await _step_times(runtime, _FIRST_STEP + window)
    early = before[_FIRST_STEP:] + after[_FIRST_STEP:]
    return statistics.median(long[late:]) / statistics.median(early)


async def _step_times(runtime: Runtime, steps: int) -> list[float]:
    marks.clear()
    await _run(runtime, steps, marked_sequence)
    return [later - earlier for earlier, later in pairwise(marks)]


async def _full_store_ratio(bench: Bench) -> float:
    sizes = bench.sizes
    async with Runtime(f"{bench.url}.full", AGENTS) as full, Runtime(f"{bench.url}.empty", AGENTS) as empty:
        await _fill(full, sizes.stored_events)
        await _run(empty, _WARM_UP_STEPS)
        # By turns: the disk's speed may change meanwhile.
        steps, rounds = sizes.sequential_steps, range(sizes.sequential_runs)
        pairs = [(await _run(full, steps), await _run(empty, steps)) for _ in rounds]
    in_full, in_empty = ([pair[side] for pair in pairs] for side in (0, 1))
    return statistics.median(in_full) / statistics.median(in_empty)


async def _fill(runtime: Runtime, events: int) -> None:
    while events > 0:
        handles = await asyncio.gather(*[runtime.start(sequence, _FILLING_STEPS) for _ in range(_FILLING_RUNS)])
        await asyncio.gather(*[handle.result() for handle in handles])
        events -= _FILLING_RUNS * (2 * _FILLING_STEPS + _OTHER_EVENTS)


async def _run(runtime: Runtime, steps: int, agent: Agent[int, int] = sequence) -> float:
    """Seconds from the start of a run until its result is there."""
    start = time.perf_counter()
    await (await runtime.start(agent, steps)).result()
    return time.perf_counter() - start
