"""Where do a workload's stores come from, and where do they go? Each workload has new ones, and none is left behind."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any, Protocol

from perdure.bench.figures import percentile
from perdure.bench.files import Files

#: Tells a process which store it works on. Not its command line, which everybody on the machine can read: a URL may
#: hold a password.
VARIABLE = "PERDURE_BENCH_STORE"


class Place(Protocol):
    """The stores of one workload, and what their database can do by itself."""

    #: what the workload writes beside its stores
    directory: Path

    def make_store(self, name: str) -> str:
        """The URL of a new store. Raises PerdureError where none can be made."""

    def stored_bytes(self, store: str) -> int:
        """What a store takes on the disk."""

    def commit_times(self, commits: int) -> list[float]:
        """Seconds of commits of one row of 1 KiB, by the bare driver."""

    def describe(self) -> dict[str, Any]:
        """The database and its settings, for whoever reads the figures."""

    def clear(self) -> None:
        """Remove all stores that were made here, by whichever process."""


def describe(place: Place, commits: int) -> dict[str, Any]:
    """What figures depend on: the machine, the database, and what a bare commit takes (milliseconds)."""
    commit = percentile(place.commit_times(commits), 0.5)
    return {
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        **place.describe(),
        "raw_commit_ms_p50": round(commit * 1e3, 4),
    }


def is_postgres(store: str) -> bool:
    """Whether it is a PostgreSQL server, or several, rather than a directory."""
    return store.startswith(("postgresql://", "postgres://"))


def place_at(store: str, directory: Path) -> Place:
    """The place for a workload: an empty directory of its own, and with PostgreSQL databases named after that."""
    if is_postgres(store):
        from perdure.bench.databases import Databases  # noqa: PLC0415 - only who uses it needs the driver

        return Databases(store, directory)
    return Files(directory)
