"""What does the machine itself say? How fast its disk is, and what a process uses of its memory."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from pathlib import Path

_PROBES = 200
_BLOCK = bytes(4_096)


def sync_times(directory: Path) -> list[float]:
    """Seconds of appends of 4 KiB, each made durable."""
    path, times = directory / "probe", []
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        for _ in range(_PROBES):
            start = time.perf_counter()
            os.write(file, _BLOCK)
            getattr(os, "fdatasync", os.fsync)(file)  # macOS has no fdatasync
            times.append(time.perf_counter() - start)
    finally:
        os.close(file)
        path.unlink()
    return times


def resident_bytes() -> int:
    """Memory of this process that is in RAM."""
    with contextlib.suppress(OSError):
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    shown = subprocess.run(["ps", "-o", "rss=", "-p", str(os.getpid())], capture_output=True, check=True)  # noqa: S603, S607 - systems without /proc
    return int(shown.stdout) * 1_024
