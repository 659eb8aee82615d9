"""cluster: how much more do two nodes on two databases do than one node on one?

By work done for each second of CPU, of nodes and servers: where they share the cores of one machine, time would tell how
few there are. What is asked of a node is the same alone and beside another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import AsyncExitStack

from perdure.bench.agents import sequence
from perdure.bench.databases import split_urls
from perdure.bench.nodes import node, until_shared
from perdure.bench.processor import cpu_seconds, find_postmaster, servers_cpu_seconds
from perdure.bench.sizes import Bench
from perdure.runtime import Runtime


async def measure_scaling(bench: Bench) -> dict[str, float]:
    """2 is all that can be had. Nothing without a second database, or when a server's CPU cannot be seen from here."""
    alone, pair = bench.place.make_store("alone"), bench.place.make_store("pair")
    first, *others = [find_postmaster(url) for url in split_urls(pair)]
    postmasters = {each for each in (first, *others) if each is not None}
    if not others or first is None or None in others:
        return {}
    one = await _steps_per_cpu_second(bench, split_urls(alone)[0], 1, {first})
    two = await _steps_per_cpu_second(bench, pair, 2, postmasters)
    return {"scaling": 2 * two / one}


async def _steps_per_cpu_second(bench: Bench, store: str, count: int, postmasters: Collection[int]) -> float:
    sizes = bench.sizes
    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(node(store, sequence.name, sizes.lease_seconds)) for _ in range(count)]
        client = await stack.enter_async_context(Runtime(store, work=False))
        await until_shared(client, sequence.name, count, sizes.lease_seconds)

        def used() -> float:
            return sum(cpu_seconds(each.pid) for each in nodes) + servers_cpu_seconds(postmasters)

        runs = sizes.concurrent_runs * count
        await _run_all(client, runs, 1)
        before = used()
        for _ in range(sizes.scaling_rounds):
            await _run_all(client, runs, sizes.concurrent_steps)
        return runs * sizes.concurrent_steps * sizes.scaling_rounds / (used() - before)


async def _run_all(client: Runtime, runs: int, steps: int) -> None:
    handles = await asyncio.gather(*[client.start(sequence, steps) for _ in range(runs)])
    await asyncio.gather(*[handle.result() for handle in handles])
