"""What can this machine do by itself? Its disk, a bare SQLite commit on it, and what a process uses of its memory."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import apsw

from perdure.bench.agents import PAYLOAD
from perdure.bench.figures import percentile

_PROBES = 200
_BLOCK = bytes(4_096)
#: The first commits make the log longer, which costs as much again; then SQLite writes it over and over.
_LOG_COMMITS = 1_000


def describe_machine(directory: Path, commits: int) -> dict[str, Any]:
    """Versions, cores and the speed of the disk that holds `directory`. Times are milliseconds."""
    return {
        "python": platform.python_version(),
        "sqlite": apsw.sqlite_lib_version(),
        "cpus": os.cpu_count(),
        "directory": str(directory),
        "fdatasync_ms_p50": round(percentile(sync_times(directory), 0.5) * 1e3, 4),
        "raw_commit_ms_p50": round(percentile(commit_times(directory, commits), 0.5) * 1e3, 4),
    }


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


def commit_times(directory: Path, commits: int) -> list[float]:
    """Seconds of SQLite commits of one row of 1 KiB: WAL, synchronous=FULL, everything else as it comes."""
    path, times = directory / "raw.db", []
    unmeasured = min(commits, _LOG_COMMITS)
    db = apsw.Connection(str(path))
    try:
        db.pragma("journal_mode", "wal")
        db.pragma("synchronous", "full")
        db.execute("create table step (run integer, number integer, result text)")
        for number in range(unmeasured + commits):
            start = time.perf_counter()
            db.execute("begin immediate")
            db.execute("insert into step values (1, ?, ?)", (number, PAYLOAD))
            db.execute("commit")
            times.append(time.perf_counter() - start)
    finally:
        db.close()
        path.unlink()
    return times[unmeasured:]


def resident_bytes() -> int:
    """Memory of this process that is in RAM."""
    with contextlib.suppress(OSError):
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    shown = subprocess.run(["ps", "-o", "rss=", "-p", str(os.getpid())], capture_output=True, check=True)  # noqa: S603, S607 - systems without /proc
    return int(shown.stdout) * 1_024


def stored_bytes(file: Path) -> int:
    """Bytes that the store in `file` takes, its log included, once that is copied into it."""
    db = apsw.Connection(str(file))
    try:
        db.execute("select count(*) from sqlite_schema")  # until it reads, a connection knows of no log
        db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        log = Path(db.filename_wal)
        return file.stat().st_size + (log.stat().st_size if log.exists() else 0)
    finally:
        db.close()
