"""What was the machine doing meanwhile? Load that is not ours, the speed of the disk, and flushes that reached it.

The flush count is the evidence that a durable step is durable: a peer whose steps flush nothing is not comparable.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from workloads import percentile

QUIET_PERCENT_MAX = 12.0
QUIET_WAIT_SECONDS_MAX = 25.0
SAMPLE_SECONDS = 0.5
PROBE_APPENDS = 200
#: The 16th field of a block device's `stat` file: completed flush requests.
FLUSHES_FIELD = 15


def wait_until_quiet() -> None:
    """Wait until others use little of the machine, but not for ever: the segment records what they did use."""
    deadline = time.monotonic() + QUIET_WAIT_SECONDS_MAX
    while psutil.cpu_percent(interval=SAMPLE_SECONDS) > QUIET_PERCENT_MAX and time.monotonic() < deadline:
        pass


def probe_disk(directory: Path) -> dict[str, float]:
    """Append 4 KiB and fdatasync, 200 times."""
    path, block, taken = directory / "probe", os.urandom(4_096), []
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        for _ in range(PROBE_APPENDS):
            started = time.monotonic()
            os.write(descriptor, block)
            os.fdatasync(descriptor)
            taken.append(1_000 * (time.monotonic() - started))
    finally:
        os.close(descriptor)
        path.unlink()
    return {"disk_sync_ms_p50": percentile(taken, 0.5), "disk_sync_ms_p99": percentile(taken, 0.99)}


@contextmanager
def segment(directory: Path) -> Iterator[dict[str, Any]]:
    """Yields a record; after the block it holds the wall time, the background load and the device's flushes.

    Background is all CPU time of the machine but that of this process and of the children it has waited for, as a
    share of all cores. Kernel threads that write for a peer count as background.
    """
    record: dict[str, Any] = {}
    started, busy, own, flushes = time.monotonic(), busy_seconds(), own_seconds(), device_flushes(directory)
    try:
        yield record
    finally:
        wall = time.monotonic() - started
        background = max(busy_seconds() - busy - (own_seconds() - own), 0.0)
        record["wall_seconds"] = round(wall, 2)
        record["background_percent"] = round(100 * background / (wall * (psutil.cpu_count() or 1)), 1)
        now = device_flushes(directory)
        record["device_flushes"] = None if now is None or flushes is None else now - flushes


def busy_seconds() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))


def own_seconds() -> float:
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in usage)


def device_flushes(directory: Path) -> int | None:
    """Flush requests that the directory's block device has completed; None where the system does not tell."""
    device = directory.stat().st_dev
    path = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
    disk = path.resolve().parent if (path / "partition").exists() else path
    try:
        return int((disk / "stat").read_text().split()[FLUSHES_FIELD])
    except (OSError, IndexError):
        return None
