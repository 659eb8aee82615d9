"""W1: what does one durable step cost, alone? And growth: does that stay so in a long run and in a full store?"""

from __future__ import annotations

import asyncio
import statistics
import time
from itertools import pairwise

from perdure.bench.agents import AGENTS, PAYLOAD, marks, pausing, sequence
from perdure.bench.figures import percentile
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
    raw = bench.place.commit_times(sizes.raw_commits // 2)
    async with Runtime(bench.place.make_store("steps"), AGENTS) as runtime:
        await _run(runtime, _WARM_UP_STEPS)
        runs = [await _run(runtime, sizes.sequential_steps) for _ in range(sizes.sequential_runs)]
    raw += bench.place.commit_times(sizes.raw_commits - len(raw))
    step, commit = statistics.median(runs) / sizes.sequential_steps, percentile(raw, 0.5)
    return {"step_ms_p50": step * 1e3, "step_vs_raw_commit": step / commit, "raw_commit_ms_p50": commit * 1e3}


async def measure_growth(bench: Bench) -> dict[str, float]:
    """A long run beside fresh ones, what their journals take on the disk, and a store that is full of others."""
    sizes, store = bench.sizes, bench.place.make_store("long")
    figures = {}
    async with Runtime(store, AGENTS) as runtime:
        figures["flat_step_ratio"] = await _flat_step_ratio(runtime, bench)
    steps = sizes.long_run_steps + sizes.windows * (_FIRST_STEP + 2 * sizes.window_steps)
    figures["journal_ratio"] = bench.place.stored_bytes(store) / (steps * _PAYLOAD_BYTES)
    if sizes.stored_events:
        figures["million_ratio"] = await _full_store_ratio(bench)
    return figures


async def _flat_step_ratio(runtime: Runtime, bench: Bench) -> float:
    sizes = bench.sizes
    long = await _pause_after(runtime, sizes.long_run_steps, sizes.window_steps)
    late: list[float] = []
    early: list[float] = []
    # By turns: the disk's speed may change meanwhile.
    for _ in range(sizes.windows):
        late += await _step_times(runtime, long)
        early += await _step_times(runtime, await _pause_after(runtime, _FIRST_STEP, sizes.window_steps))
    return statistics.median(late) / statistics.median(early)


async def _pause_after(runtime: Runtime, steps: int, more: int) -> str:
    handle = await runtime.start(pausing, steps, more)
    await runtime.idle()
    return handle.id


async def _step_times(runtime: Runtime, run: str) -> list[float]:
    """Seconds of each of the steps that a run takes until it waits again."""
    marks.clear()
    await runtime.send(run, "go")
    await runtime.idle()
    return [later - earlier for earlier, later in pairwise(marks)]


async def _full_store_ratio(bench: Bench) -> float:
    sizes = bench.sizes
    stores = [bench.place.make_store(name) for name in ("full", "empty")]
    async with Runtime(stores[0], AGENTS) as full, Runtime(stores[1], AGENTS) as empty:
        await _fill(full, sizes.stored_events)
        await _run(empty, _WARM_UP_STEPS)
        # By turns, as above.
        steps, rounds = sizes.sequential_steps, range(sizes.sequential_runs)
        pairs = [(await _run(full, steps), await _run(empty, steps)) for _ in rounds]
    in_full, in_empty = ([pair[side] for pair in pairs] for side in (0, 1))
    return statistics.median(in_full) / statistics.median(in_empty)


async def _fill(runtime: Runtime, events: int) -> None:
    while events > 0:
        handles = await asyncio.gather(*[runtime.start(sequence, _FILLING_STEPS) for _ in range(_FILLING_RUNS)])
        await asyncio.gather(*[handle.result() for handle in handles])
        events -= _FILLING_RUNS * (2 * _FILLING_STEPS + _OTHER_EVENTS)


async def _run(runtime: Runtime, steps: int) -> float:
    """Seconds from the start of a run until its result is there."""
    start = time.perf_counter()
    await (await runtime.start(sequence, steps)).result()
    return time.perf_counter() - start
