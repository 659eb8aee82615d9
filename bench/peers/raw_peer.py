"""The floor: what one durable row costs on this disk, with nothing above SQLite.

apsw at the version that Perdure uses, WAL, synchronous=FULL, one row of 1 KiB per commit.
"""

from __future__ import annotations

import time

import apsw
from script import Bench, run_script
from workloads import PAYLOAD, Metrics, percentile


async def w1(bench: Bench) -> Metrics:
    """One commit after the other for a few seconds."""
    connection = apsw.Connection(str(bench.data / "raw.sqlite"))
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", "full")
    connection.execute("create table step (run integer, number integer, result text)")
    taken: list[float] = []
    started = time.monotonic()
    while time.monotonic() - started < bench.sizes.raw_seconds:
        before = time.monotonic()
        connection.execute("begin immediate")
        connection.execute("insert into step values (1, ?, ?)", (len(taken), PAYLOAD))
        connection.execute("commit")
        taken.append(time.monotonic() - before)
    rate = len(taken) / (time.monotonic() - started)
    connection.close()
    return {
        "raw_commit_ms_p50": 1_000 * percentile(taken, 0.5),
        "raw_commits_per_second": rate,
        "detail": {"raw_commit_ms_p99": 1_000 * percentile(taken, 0.99), "commits": len(taken)},
    }


if __name__ == "__main__":
    run_script("raw", {"W1": w1}, packages=("apsw",), versions=lambda _: {"sqlite": apsw.sqlite_lib_version()})
