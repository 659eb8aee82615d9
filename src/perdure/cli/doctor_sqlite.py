"""What does `doctor` look at in a SQLite store? Its disk, its file and its schema."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from perdure.cli.finding import UPGRADE, Finding, size
from perdure.cli.output import span

if TYPE_CHECKING:
    from perdure.store.sqlite.facts import StoreFacts

_SYNCS = 20
_SLOW_SYNC_SECONDS = 0.01
_LITTLE_SPACE = 1 << 30
_NO_SPACE = 50 << 20
#: How far in the future a store's last change may lie before the clock is doubted (microseconds).
_CLOCK_LEEWAY_US = 5_000_000


def examine(path: Path) -> Iterator[Finding]:
    """Everything about the file at `path`, which is neither made nor changed."""
    yield from _disk(path)
    yield from _file(path)


def _disk(path: Path) -> Iterator[Finding]:
    directory = next(parent for parent in path.absolute().parents if parent.is_dir())
    free = shutil.disk_usage(directory).free
    verdict = "fail" if free < _NO_SPACE else "warn" if free < _LITTLE_SPACE else "ok"
    remedy = None if verdict == "ok" else "free some room: a store that cannot grow stops its workers"
    yield Finding("space", verdict, f"{size(free)} free in {directory}", remedy)
    try:
        seconds = _sync_seconds(directory)
    except OSError as error:
        yield Finding("disk", "fail", f"{directory}: {error.strerror}", "choose another place: --store URL")
        return
    slow = seconds > _SLOW_SYNC_SECONDS
    remedy = "every step waits for one sync: put the store on a local disk" if slow else None
    yield Finding("disk", "warn" if slow else "ok", f"one sync takes {seconds * 1000:.2f} ms (p50 of {_SYNCS})", remedy)


def _sync_seconds(directory: Path) -> float:
    sync = getattr(os, "fdatasync", os.fsync)
    taken = []
    with tempfile.TemporaryFile(dir=directory) as file:
        for _ in range(_SYNCS):
            os.write(file.fileno(), b"\0" * 4096)
            began = time.perf_counter()
            sync(file.fileno())
            taken.append(time.perf_counter() - began)
    return sorted(taken)[_SYNCS // 2]


def _file(path: Path) -> Iterator[Finding]:
    from perdure.errors import PerdureError
    from perdure.store.sqlite.facts import read_facts

    if not path.exists():
        yield Finding("store", "ok", f"none at {path} yet; `perdure run FILE.py:AGENT` makes it")
        return
    try:
        facts = read_facts(str(path))
    except PerdureError as error:
        yield Finding("store", "fail", str(error))
        return
    yield from _judge(path, facts)


def _judge(path: Path, facts: StoreFacts) -> Iterator[Finding]:
    if not facts.ours:
        yield Finding("store", "fail", f"{path} is a database of something else", "name another one: --store URL")
        return
    found = f"{path}: schema {facts.schema}, {size(facts.size)}, {facts.runs} runs"
    if facts.schema > facts.schema_newest:
        yield Finding("store", "fail", f"{found}; this Perdure knows schema {facts.schema_newest}", UPGRADE)
        return
    remedy = None if facts.schema == facts.schema_newest else "perdure db migrate (any worker does it by itself)"
    yield Finding("store", "ok" if remedy is None else "warn", found, remedy)
    if facts.problems:
        remedy = "perdure db check says more; restore the last backup (perdure db backup makes them)"
        yield Finding("integrity", "fail", "; ".join(facts.problems), remedy)
        return
    yield Finding("integrity", "ok", "SQLite's quick check finds nothing")
    ahead = (facts.updated_last or 0) - time.time_ns() // 1000
    if ahead > _CLOCK_LEEWAY_US:
        remedy = "set the system clock: what is due waits until it has caught up"
        yield Finding("clock", "fail", f"the store's last change lies {span(ahead / 1e6)} in the future", remedy)
    else:
        yield Finding("clock", "ok", f"{datetime.now(UTC).isoformat(timespec='seconds')}, not behind the store")
