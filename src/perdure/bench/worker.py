"""The processes of a measurement: `python -m perdure.bench.worker PROGRAM ...`, whose last line is the result."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

from perdure.bench import concurrent, killing, parking, replaying, sequential, starting
from perdure.bench.sizes import Bench, Sizes

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
}


async def measure(workload: str, directory: str, sizes: str) -> str:
    """One workload in an empty directory; its figures as a JSON object."""
    return json.dumps(await WORKLOADS[workload](Bench(Path(directory), Sizes(**json.loads(sizes)))))


PROGRAMS: dict[str, Callable[..., Coroutine[Any, Any, str | None]]] = {
    "measure": measure,
    "begin": lambda at, variant, runs, steps: killing.begin(Path(at), variant, int(runs), int(steps)),
    "resume": lambda at, runs: killing.resume(Path(at), int(runs)),
    "prepare": lambda at, steps: replaying.prepare(Path(at), int(steps)),
    "wake": lambda at, run: replaying.wake(Path(at), run),
    "idle": starting.weigh_idle_worker,
}

if __name__ == "__main__":
    print(asyncio.run(PROGRAMS[sys.argv[1]](*sys.argv[2:])))  # noqa: T201 - whoever started it reads this
