"""How long until something can be done at all, and what does a worker weigh that has nothing to do?"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from asyncio.subprocess import DEVNULL

from perdure.bench import children
from perdure.bench.agents import AGENTS, sequence
from perdure.bench.machine import resident_bytes
from perdure.bench.sizes import Bench
from perdure.runtime import Runtime


async def measure_start(bench: Bench) -> dict[str, float]:
    """`import perdure` beside an empty program, `perdure --help` as a whole, and an idle worker."""
    starts = bench.sizes.starts
    nothing = await _median_seconds(starts, "-c", "pass")
    return {
        "import_seconds": await _median_seconds(starts, "-c", "import perdure; perdure.Runtime") - nothing,
        "help_seconds": await _median_seconds(starts, "-m", "perdure", "--help"),
        "idle_worker_mb": float(await children.run("idle", bench.place.make_store("idle"))) / 1e6,
    }


async def weigh_idle_worker(store: str) -> str:
    """Bytes of memory of a worker that has done something and now waits."""
    async with Runtime(store, AGENTS) as runtime:
        await (await runtime.start(sequence, 1)).result()
        await runtime.idle()
        return str(resident_bytes())


async def _median_seconds(times: int, *words: str) -> float:
    return statistics.median([await _seconds(*words) for _ in range(times)])


async def _seconds(*words: str) -> float:
    start = time.perf_counter()
    process = await asyncio.create_subprocess_exec(sys.executable, "-P", *words, stdout=DEVNULL)
    if await process.wait():
        raise RuntimeError(f"python {' '.join(words)} ended with code {process.returncode}")
    return time.perf_counter() - start
