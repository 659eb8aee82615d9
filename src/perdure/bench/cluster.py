"""cluster: how soon does a run move that another node woke, and those of a node that was killed, or told to stop?

Only with a store that nodes can share. Nodes are processes that serve one agent with default settings.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time

from perdure.bench import children
from perdure.bench.agents import parked, read_lines, sequence
from perdure.bench.figures import percentile
from perdure.bench.killing import Line, count_lines, count_lost, count_repeated, read_effects
from perdure.bench.nodes import node, until_shared
from perdure.bench.scaling import measure_scaling
from perdure.bench.sizes import Bench
from perdure.runtime import Runtime
from perdure.store.contract import RunFilter
from perdure.values.runs import RunStatus

_LOOK_SECONDS = 0.005


async def measure_cluster(bench: Bench) -> dict[str, float]:
    """A signal from another node; the end of one of two nodes, by SIGKILL and by SIGTERM; two nodes beside one."""
    wakes = await _wake_from_another_node(bench)
    killed = await _take_over(bench, signal.SIGKILL)
    stopped = await _take_over(bench, signal.SIGTERM)
    return {
        "remote_wake_ms_p50": percentile(wakes, 0.5) * 1e3,
        "remote_wake_ms_p99": percentile(wakes, 0.99) * 1e3,
        "kill_takeover_seconds": killed["seconds"],
        "stop_takeover_seconds": stopped["seconds"],
        "lost": killed["lost"] + stopped["lost"],
        # A `read` step that was cut off may be repeated, but an orderly end cuts none off.
        "repeated": stopped["repeated"],
        "repeated_reads": killed["repeated"],
        **await measure_scaling(bench),
    }


async def _wake_from_another_node(bench: Bench) -> list[float]:
    """Seconds from sending until the first line of the agent's code after the wait, one run after the other."""
    sizes, store = bench.sizes, bench.place.make_store("wake")
    dice = random.Random(sizes.remote_parked_runs)  # noqa: S311 - the same sample in every measurement
    # This process is a node too, but of another agent.
    async with node(store, parked.name, sizes.lease_seconds) as other, Runtime(store, [sequence]) as here:
        sent = []
        for run in dice.sample(await _park(here, sizes.remote_parked_runs), sizes.wakes):
            handle = await here.run(run)
            sent.append(time.monotonic())
            await here.send(run, "go")
            await handle.result()
        woken = json.loads(await children.end("node", other))
    return [there - start for start, there in zip(sent, woken, strict=True)]


async def _park(runtime: Runtime, runs: int) -> list[str]:
    """Have runs wait on the node that serves them."""
    handles = await asyncio.gather(*[runtime.start(parked) for _ in range(runs)])
    waiting = RunFilter(agent=parked.name, statuses=(RunStatus.WAITING,), limit=runs)
    while len(await runtime.runs(waiting)) < runs:  # noqa: ASYNC110 - looks from outside
        await asyncio.sleep(_LOOK_SECONDS * 10)
    return [handle.id for handle in handles]


async def _take_over(bench: Bench, ending: signal.Signals) -> dict[str, float]:
    """End one of two nodes in the middle of the work of both."""
    sizes, store = bench.sizes, bench.place.make_store(ending.name.lower())
    effects = bench.place.directory / f"{ending.name}.txt"
    effects.touch()
    async with (
        node(store, read_lines.name, sizes.lease_seconds) as victim,
        node(store, read_lines.name, sizes.lease_seconds),
        Runtime(store, work=False) as client,
    ):
        await until_shared(client, read_lines.name, 2, sizes.lease_seconds)
        runs, steps = range(sizes.killed_runs), sizes.killed_steps
        handles = [await client.start(read_lines, str(effects), run, steps) for run in runs]
        while count_lines(effects) < sizes.kill_after_lines:  # noqa: ASYNC110 - looks from outside
            await asyncio.sleep(_LOOK_SECONDS)
        ended = time.monotonic()
        victim.send_signal(ending)
        for handle in handles:
            await handle.result()
    lines = read_effects(effects)
    return {
        "seconds": takeover_seconds(lines, victim.pid, ended),
        "lost": count_lost(lines, sizes.killed_runs, sizes.killed_steps),
        "repeated": count_repeated(lines),
    }


def takeover_seconds(lines: list[Line], victim: int, ended: float) -> float:
    """From the victim's end until the last of its unfinished runs moved elsewhere. Raises RuntimeError if it had none."""
    theirs = {line.run for line in lines if line.process == victim}
    moved: dict[int, float] = {}
    for line in lines:
        if line.run in theirs and line.process != victim:
            moved.setdefault(line.run, line.time)
    if not moved:
        raise RuntimeError("the node that was ended had no unfinished run: there was nothing to take over")
    return max(moved.values()) - ended
