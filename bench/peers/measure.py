"""How are time, memory and CPU taken, the same way for every peer?

Clocks are monotonic and shared by all processes of a machine. A workload's own shape stays in the peer's script.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from pathlib import Path

import psutil
from workloads import Metrics, Sizes, percentile

Once = Callable[[], Awaitable[object]]


async def seconds_of(call: Awaitable[object]) -> float:
    """How long awaiting it takes."""
    started = time.monotonic()
    await call
    return time.monotonic() - started


async def median_seconds(once: Once, repeats: int) -> float:
    """The median time of several executions, one after the other."""
    return percentile([await seconds_of(once()) for _ in range(repeats)], 0.5)


async def sequential(sizes: Sizes, once: Once) -> Metrics:
    """W1: one run after the other until enough are done or the time is up, at least two; time per step of each."""
    taken: list[float] = []
    deadline = time.monotonic() + sizes.sequential_seconds
    while len(taken) < 2 or (len(taken) < sizes.sequential_runs and time.monotonic() < deadline):
        taken.append(await seconds_of(once()) / sizes.sequential_steps)
    return {"step_ms_p50": 1_000 * percentile(taken, 0.5), "runs": len(taken)}


async def cpu_percent(processes: Iterable[psutil.Process], seconds: float) -> float:
    """Share of one core that the processes use while nothing is asked of them."""
    watched = list(processes)
    used = cpu_seconds(watched)
    await asyncio.sleep(seconds)
    return 100 * (cpu_seconds(watched) - used) / seconds


def cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    return float(sum(sum(process.cpu_times()[:2]) for process in processes))


def family(pid: int) -> list[psutil.Process]:
    """A process and all its descendants."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def rss_bytes(processes: Iterable[psutil.Process]) -> int:
    return sum(process.memory_info().rss for process in processes)


def pss_bytes(processes: Iterable[psutil.Process]) -> int:
    """Memory of a process family with shared pages counted once; a process that just ended weighs nothing."""
    total = 0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            total += process.memory_full_info().pss
    return total


def file_bytes(path: Path) -> int:
    """What a file, or a directory with all that is in it, takes on disk."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_blocks * 512 for file in files)
