"""What is known about the SQLite in use and about a store's file, without opening it as a store or changing it?"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import apsw

from perdure.store.queries import load_migrations
from perdure.store.sqlite.failures import named_failures
from perdure.store.sqlite.schema import APPLICATION_ID, pragma

#: Releases in which a WAL reset cannot lose a committed transaction: from here on, and patch releases of older lines.
_RESET_SAFE = (3, 51, 3)
_RESET_SAFE_PATCHES = {(3, 50): 7, (3, 44): 6}


class StoreFacts(NamedTuple):
    """What a store's file says about itself."""

    #: False for a SQLite database of something else
    ours: bool
    schema: int
    schema_newest: int
    #: bytes, with its log
    size: int
    runs: int
    #: when a run last changed, microseconds since the epoch; None without runs
    updated_last: int | None
    #: found by SQLite's quick check; empty when sound
    problems: list[str]


def sqlite_version() -> str:
    """The version of the SQLite library that the store uses."""
    return apsw.sqlite_lib_version()


def reset_safe(version: str) -> bool:
    """True when this SQLite has the fix of the WAL-reset bug."""
    major, minor, patch = ([int(part) for part in version.split(".")] + [0, 0])[:3]
    return (major, minor, patch) >= _RESET_SAFE or patch >= _RESET_SAFE_PATCHES.get((major, minor), patch + 1)


def read_facts(path: str) -> StoreFacts:
    """Look at the file at `path`, which must exist. Raises StoreError, StoreCorrupt for what is no database."""
    with named_failures(path):
        db = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            db.set_busy_timeout(5_000)
            ours, schema = pragma(db, "application_id") == APPLICATION_ID, pragma(db, "user_version")
            # An interrupted set-up leaves an empty file: that is no database of something else.
            ours = ours or not (schema or db.execute("select count(*) from sqlite_schema").get)
            found = [str(text) for (text,) in db.execute("pragma quick_check(5)")]
            runs, updated = (0, None)
            if ours and schema:
                runs, updated = db.execute("select count(*), max(updated) from perdure_runs").get
        finally:
            db.close()
    size = sum(file.stat().st_size for file in (Path(path), Path(f"{path}-wal")) if file.exists())
    newest = load_migrations("sqlite")[-1][0]
    return StoreFacts(ours, schema, newest, size, runs, updated, [text for text in found if text != "ok"])
