"""SQLite as a place to measure: each store is a file in the workload's directory."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import apsw

from perdure.bench.agents import PAYLOAD
from perdure.bench.figures import percentile
from perdure.bench.machine import sync_times

#: The first commits make the log longer, which costs as much again; then SQLite writes it over and over.
_LOG_COMMITS = 1_000


class Files:
    """SQLite files below `directory`, which goes with all that is in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def make_store(self, name: str) -> str:
        return f"sqlite:///{self.directory / name}.db"

    def stored_bytes(self, store: str) -> int:
        """Its log included, once that is copied into it."""
        file = Path(store.removeprefix("sqlite:///"))
        db = apsw.Connection(str(file))
        try:
            db.execute("select count(*) from sqlite_schema")  # until it reads, a connection knows of no log
            db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            log = Path(db.filename_wal)
            return file.stat().st_size + (log.stat().st_size if log.exists() else 0)
        finally:
            db.close()

    def commit_times(self, commits: int) -> list[float]:
        """WAL, synchronous=FULL, everything else as it comes."""
        path, times = self.directory / "raw.db", []
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

    def describe(self) -> dict[str, Any]:
        return {
            "sqlite": apsw.sqlite_lib_version(),
            "directory": str(self.directory),
            "fdatasync_ms_p50": round(percentile(sync_times(self.directory), 0.5) * 1e3, 4),
        }

    def clear(self) -> None:
        """Nothing: whoever made the directory removes it."""
