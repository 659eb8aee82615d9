"""W6: how long does a run with a long journal take to come back in a new process, up to its next line of code?

The same with an empty journal is taken off: what remains is reading and replaying.
"""

from __future__ import annotations

import statistics
import time

from perdure.bench import children
from perdure.bench.agents import AGENTS, marks, pausing
from perdure.bench.sizes import Bench
from perdure.runtime import Runtime


async def measure_replay(bench: Bench) -> dict[str, float]:
    """Two lengths of journal."""
    sizes = bench.sizes
    none = await _milliseconds_to_return(bench, 0)
    short = await _milliseconds_to_return(bench, sizes.short_journal_steps)
    long = await _milliseconds_to_return(bench, sizes.long_journal_steps)
    return {"replay_1000_ms": short - none, "replay_10000_ms": long - none}


async def prepare(store: str, steps: int) -> str:
    """Bring a run to its wait; returns its id."""
    async with Runtime(store, AGENTS) as runtime:
        handle = await runtime.start(pausing, steps, 0)
        await runtime.idle()
        return handle.id


async def wake(store: str, run: str) -> str:
    """Milliseconds from sending the run a message until its code goes on after the wait."""
    async with Runtime(store, AGENTS) as runtime:
        start = time.monotonic()
        await runtime.send(run, "go")
        await runtime.idle()
    # The last one: in the replay the code also passes its earlier waits.
    return str((marks[-1] - start) * 1e3)


async def _milliseconds_to_return(bench: Bench, steps: int) -> float:
    store = bench.place.make_store(f"steps_{steps}")
    run = await children.run("prepare", store, steps)
    return statistics.median([float(await children.run("wake", store, run)) for _ in range(bench.sizes.returns)])
