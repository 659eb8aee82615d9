"""W4: what does a run cost that waits for somebody, and how soon does it move when they come?

Many park before the first look, so that what a node keeps for all its runs (caches, the runs that waited last, room
in the log) is not counted as theirs.
"""

from __future__ import annotations

import asyncio
import gc
import random
import time

from perdure.bench.agents import AGENTS, marks, parked
from perdure.bench.figures import percentile
from perdure.bench.machine import resident_bytes
from perdure.bench.sizes import Bench
from perdure.runtime import Runtime


async def measure_parking(bench: Bench) -> dict[str, float]:
    """Park, look, wait, wake."""
    sizes, place = bench.sizes, bench.place
    store = place.make_store("parked")
    async with Runtime(store, AGENTS) as runtime:
        (warm,) = await _park_in_batches(runtime, sizes.parked_warm_up, sizes.parked_batch, 1)
        await _seconds_to_wake(runtime, warm)
        disk, memory = place.stored_bytes(store), _resident_bytes_at_rest()
        some = await _park_in_batches(runtime, sizes.parked_runs, sizes.parked_batch, sizes.wakes)
        grown = _resident_bytes_at_rest() - memory
        figures = {
            "rss_bytes_per_parked": grown / sizes.parked_runs,
            "disk_bytes_per_parked": (place.stored_bytes(store) - disk) / sizes.parked_runs,
            "idle_cpu_percent": await _idle_cpu_percent(sizes.idle_seconds),
        }
        wakes = [await _seconds_to_wake(runtime, run) for run in some]
    figures["wake_ms_p50"] = percentile(wakes, 0.5) * 1e3
    figures["wake_ms_p99"] = percentile(wakes, 0.99) * 1e3
    return figures


async def _park_in_batches(runtime: Runtime, runs: int, batch: int, some: int) -> list[str]:
    """Park many, and name some of them in random order: a list of all would count as theirs."""
    dice = random.Random(runs)  # noqa: S311 - the same sample in every measurement
    chosen = set(dice.sample(range(runs), some))
    named = []
    for first in range(0, runs, batch):
        ids = await _park(runtime, min(batch, runs - first))
        named += [run for number, run in enumerate(ids, first) if number in chosen]
    dice.shuffle(named)
    return named


async def _park(runtime: Runtime, runs: int) -> list[str]:
    handles = await asyncio.gather(*[runtime.start(parked) for _ in range(runs)])
    await runtime.idle()
    return [handle.id for handle in handles]


async def _seconds_to_wake(runtime: Runtime, run: str) -> float:
    """From sending until the first line of the agent's code after the wait."""
    marks.clear()
    start = time.monotonic()
    await runtime.send(run, "go")
    await runtime.idle()
    return marks[-1] - start


def _resident_bytes_at_rest() -> int:
    gc.collect()
    return resident_bytes()


async def _idle_cpu_percent(seconds: float) -> float:
    before = time.process_time()
    await asyncio.sleep(seconds)
    return (time.process_time() - before) / seconds * 100
