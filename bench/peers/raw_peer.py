"""The floor: what one durable row costs on this disk, with nothing above SQLite, or above PostgreSQL and its driver.

One row of 1 KiB per commit. SQLite: apsw at the version that Perdure uses, WAL, synchronous=FULL. PostgreSQL: one
connection and a prepared statement that is its own transaction, so a round trip and a flush.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import apsw
import psycopg
from postgres import postgres_version, temporary_postgres
from script import Bench, run_script
from workloads import PAYLOAD, Metrics, percentile

TABLE = "create table step (run integer, number integer, result text)"


async def w1(bench: Bench) -> Metrics:
    """One commit after the other for a few seconds."""
    taken: list[float] = []
    with (on_postgres if bench.backend else on_sqlite)(bench) as commit:
        started = time.monotonic()
        while time.monotonic() - started < bench.sizes.raw_seconds:
            before = time.monotonic()
            commit(len(taken))
            taken.append(time.monotonic() - before)
        rate = len(taken) / (time.monotonic() - started)
    return {
        "raw_commit_ms_p50": 1_000 * percentile(taken, 0.5),
        "raw_commits_per_second": rate,
        "detail": {"raw_commit_ms_p99": 1_000 * percentile(taken, 0.99), "commits": len(taken)},
    }


@contextmanager
def on_sqlite(bench: Bench) -> Iterator[Callable[[int], None]]:
    connection = apsw.Connection(str(bench.data / "raw.sqlite"))
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", "full")
    connection.execute(TABLE)

    def commit(number: int) -> None:
        connection.execute("begin immediate")
        connection.execute("insert into step values (1, ?, ?)", (number, PAYLOAD))
        connection.execute("commit")

    yield commit
    connection.close()


@contextmanager
def on_postgres(bench: Bench) -> Iterator[Callable[[int], None]]:
    with (
        temporary_postgres(bench.data / "postgres") as server,
        psycopg.connect(server.url, autocommit=True) as connection,
    ):
        connection.execute(TABLE)

        def commit(number: int) -> None:
            connection.execute("insert into step values (1, %s, %s)", (number, PAYLOAD), prepare=True)

        yield commit


def versions(backend: str) -> dict[str, str]:
    return {"postgres": postgres_version()} if backend else {"sqlite": apsw.sqlite_lib_version()}


if __name__ == "__main__":
    run_script("raw", {"W1": w1}, packages=("apsw", "psycopg"), versions=versions, backends=("", "postgres"))
