"""W2, W3, W7: how much gets done when much is to be done at once, and how long does one call take when nothing is?"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable

from perdure.bench.agents import AGENTS, family, sequence
from perdure.bench.figures import percentile
from perdure.bench.sizes import Bench
from perdure.runtime import Runtime

_WARM_UP_RUNS = 20


async def measure_concurrent_steps(bench: Bench) -> dict[str, float]:
    """W2: runs of several steps, all at once."""
    runs, steps = bench.sizes.concurrent_runs, bench.sizes.concurrent_steps
    async with Runtime(bench.place.make_store("runs"), AGENTS) as runtime:
        await _run_all(runtime, _WARM_UP_RUNS, 1)
        seconds = await _median_seconds(bench.sizes.rounds, lambda: _run_all(runtime, runs, steps))
    return {"steps_per_second": runs * steps / seconds}


async def measure_short_runs(bench: Bench) -> dict[str, float]:
    """W3: runs of one step, all at once; then one call after the other, as the caller sees them."""
    runs = bench.sizes.short_runs
    async with Runtime(bench.place.make_store("runs"), AGENTS) as runtime:
        await _run_all(runtime, _WARM_UP_RUNS, 1)
        seconds = await _median_seconds(bench.sizes.rounds, lambda: _run_all(runtime, runs, 1))
        calls = [await _seconds(lambda: _run_all(runtime, 1, 1)) for _ in range(bench.sizes.idle_calls)]
    return {
        "runs_per_second": runs / seconds,
        "idle_call_ms_p50": percentile(calls, 0.5) * 1e3,
        "idle_call_ms_p99": percentile(calls, 0.99) * 1e3,
    }


async def measure_children(bench: Bench) -> dict[str, float]:
    """W7: one run starts many children of one step and waits for all."""
    children = bench.sizes.children

    async def join() -> None:
        await (await runtime.start(family, children)).result()

    async with Runtime(bench.place.make_store("runs"), AGENTS) as runtime:
        await _run_all(runtime, _WARM_UP_RUNS, 1)
        seconds = await _median_seconds(bench.sizes.rounds, join)
    return {"join_1000_seconds": seconds * 1_000 / children}


async def _run_all(runtime: Runtime, runs: int, steps: int) -> None:
    handles = await asyncio.gather(*[runtime.start(sequence, steps) for _ in range(runs)])
    await asyncio.gather(*[handle.result() for handle in handles])


async def _median_seconds(rounds: int, work: Callable[[], Awaitable[None]]) -> float:
    return statistics.median([await _seconds(work) for _ in range(rounds)])


async def _seconds(work: Callable[[], Awaitable[None]]) -> float:
    start = time.perf_counter()
    await work()
    return time.perf_counter() - start
