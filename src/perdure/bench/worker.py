"""The processes of a measurement: `python -m perdure.bench.worker PROGRAM ...`, whose last line is the result."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

from perdure.bench import concurrent, killing, nodes, parking, replaying, sequential, starting
from perdure.bench.places import VARIABLE, place_at
from perdure.bench.sizes import Bench, Sizes


async def measure_cluster(bench: Bench) -> dict[str, float]:
    """Nodes on a server."""
    from perdure.bench import cluster  # noqa: PLC0415 - only who measures on PostgreSQL has its driver

    return await cluster.measure_cluster(bench)


async def measure_http(bench: Bench) -> dict[str, float]:
    """A server."""
    from perdure.bench import http  # noqa: PLC0415 - it limits itself to machines that have /proc and rlimits

    return await http.measure_http(bench)


WORKLOADS: dict[str, Callable[[Bench], Awaitable[dict[str, float]]]] = {
    "W1": sequential.measure_steps,
    "W2": concurrent.measure_concurrent_steps,
    "W3": concurrent.measure_short_runs,
    "W4": parking.measure_parking,
    "W5": killing.measure_recovery,
    "W6": replaying.measure_replay,
    "W7": concurrent.measure_children,
    "growth": sequential.measure_growth,
    "start": starting.measure_start,
    "http": measure_http,
    "cluster": measure_cluster,
}


async def measure(store: str, workload: str, directory: str, sizes: str) -> str:
    """One workload in an empty directory; its figures as a JSON object."""
    bench = Bench(place_at(store, Path(directory)), Sizes(**json.loads(sizes)))
    return json.dumps(await WORKLOADS[workload](bench))


#: Each is given the URL of its store, and the words of the command line.
PROGRAMS: dict[str, Callable[..., Coroutine[Any, Any, str | None]]] = {
    "measure": measure,
    "begin": lambda at, path, variant, runs, steps: killing.begin(at, path, variant, int(runs), int(steps)),
    "resume": lambda at, runs: killing.resume(at, int(runs)),
    "prepare": lambda at, steps: replaying.prepare(at, int(steps)),
    "wake": replaying.wake,
    "idle": starting.weigh_idle_worker,
    "node": lambda at, agent, lease_seconds: nodes.work(at, agent, float(lease_seconds)),
}

if __name__ == "__main__":
    print(asyncio.run(PROGRAMS[sys.argv[1]](os.environ[VARIABLE], *sys.argv[2:])))  # noqa: T201 - whoever started it reads this
