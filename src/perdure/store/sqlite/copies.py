"""Is the whole file sound, and how is it copied while work goes on? For threads: each call uses its own connection."""

from __future__ import annotations

import secrets
from pathlib import Path

import apsw

from perdure.errors import InvalidSetting
from perdure.store.queries import load_queries
from perdure.store.sqlite.failures import named_failures
from perdure.store.sqlite.files import publish
from perdure.store.sqlite.schema import connect, pragma, refuse_foreign

_PATIENCE_MS = 30_000


def find_problems(path: str, vfs: str | None) -> list[str]:
    """What is wrong with the file, its indexes or its journals; empty when all is sound."""
    problems: list[str] = []
    with named_failures(path):
        db = connect(path, patience_ms=_PATIENCE_MS, vfs=vfs)
        try:
            refuse_foreign(db, path)
            if not pragma(db, "user_version"):
                return []  # an interrupted set-up: as good as none, and nothing in it to be wrong
            for name, sql in load_queries("sqlite", "check").items():
                try:
                    problems += [str(found) for (found,) in db.execute(sql) if found != "ok"]
                except apsw.CorruptError as error:
                    problems.append(f"{name}: {error}")
        finally:
            db.close()
    return problems


def back_up(path: str, target: str, vfs: str | None) -> None:
    """A consistent copy of the store as one file at `target`, whole or not at all.

    Raises InvalidSetting when `target` exists, StoreError when it cannot be written.
    """
    part = Path(f"{target}.{secrets.token_hex(4)}.part")  # nobody else's file, and not another backup's
    with named_failures(target):
        if Path(target).exists():
            raise _taken(target)
        try:
            _copy(path, part, vfs)
            publish(part, Path(target))
        except FileExistsError as error:
            raise _taken(target) from error
        finally:
            part.unlink(missing_ok=True)


def _taken(target: str) -> InvalidSetting:
    return InvalidSetting(f"{target} exists. A backup never overwrites: name a new file, or remove it first.")


def _copy(path: str, part: Path, vfs: str | None) -> None:
    part.touch(mode=0o600, exist_ok=False)
    source = connect(path, patience_ms=_PATIENCE_MS, vfs=vfs)
    copy = apsw.Connection(str(part))
    try:
        with copy.backup("main", source, "main") as backup:
            while not backup.done:
                backup.step(-1)
    finally:
        copy.close()
        source.close()
