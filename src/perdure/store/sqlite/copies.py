"""Is the whole file sound, and how is it copied while work goes on? For threads: each call uses its own connection."""

from __future__ import annotations

import os
from pathlib import Path

import apsw

from perdure.errors import InvalidSetting
from perdure.store.queries import load_queries
from perdure.store.sqlite.failures import named_failures
from perdure.store.sqlite.schema import connect

_PATIENCE_MS = 30_000


def find_problems(path: str, vfs: str | None) -> list[str]:
    """What is wrong with the file, its indexes or its journals; empty when all is sound."""
    problems: list[str] = []
    with named_failures(path):
        db = connect(path, patience_ms=_PATIENCE_MS, vfs=vfs)
        try:
            for name, sql in load_queries("sqlite", "check").items():
                try:
                    problems += [found for (found,) in db.execute(sql) if found != "ok"]
                except (apsw.CorruptError, apsw.NotADBError) as error:
                    problems.append(f"{name}: {error}")
        finally:
            db.close()
    return problems


def back_up(path: str, target: str, vfs: str | None) -> None:
    """A consistent copy of the store as one file at `target`, whole or not at all. Never overwrites."""
    part = Path(f"{target}.part")
    with named_failures(target):
        if os.path.exists(target):
            raise InvalidSetting(f"{target} exists. A backup never overwrites: name a new file, or remove it first.")
        part.unlink(missing_ok=True)
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        try:
            _copy(path, str(part), vfs)
            _publish(part, target)
        finally:
            part.unlink(missing_ok=True)


def _copy(path: str, part: str, vfs: str | None) -> None:
    source = connect(path, patience_ms=_PATIENCE_MS, vfs=vfs)
    copy = apsw.Connection(part)
    try:
        with copy.backup("main", source, "main") as backup:
            while not backup.done:
                backup.step(-1)
    finally:
        copy.close()
        source.close()


def _publish(part: Path, target: str) -> None:
    with open(part, "rb") as file:
        os.fsync(file.fileno())
    # A link, not a rename: it fails when somebody else made the target meanwhile.
    os.link(part, target)
    directory = os.open(os.path.dirname(os.path.abspath(target)), os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
