"""`doctor`: is this machine, and this store, fit for the work? Every finding comes with its remedy."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from perdure.cli import exits
from perdure.cli.options import client, execute, json_option, sqlite_path, store_option
from perdure.cli.output import paint, print_json, span

if TYPE_CHECKING:
    from perdure.store.sqlite.facts import StoreFacts

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}
_SYNCS = 20
_SLOW_SYNC_SECONDS = 0.01
_LITTLE_SPACE = 1 << 30
_NO_SPACE = 50 << 20
#: How far in the future a store's last change may lie before the clock is doubted (microseconds).
_CLOCK_LEEWAY_US = 5_000_000


class Finding(NamedTuple):
    """One thing that was looked at."""

    name: str
    #: ok | warn | fail
    verdict: str
    found: str
    remedy: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The public form."""
        return {"check": self.name, "verdict": self.verdict, "found": self.found, "remedy": self.remedy}


@click.command("doctor", short_help="Check this machine and the store.")
@store_option
@json_option
def doctor(store: str, *, as_json: bool) -> int:
    """Check this machine and the store; every finding comes with its remedy. Ends with 1 when something fails."""
    findings = [*_machine(), *_disk(store), *_store(store)]
    if as_json:
        print_json([finding.as_json() for finding in findings])
    else:
        for finding in findings:
            verdict = paint(finding.verdict.ljust(4), _COLOURS[finding.verdict])
            click.echo(f"{verdict}  {finding.name.ljust(9)}  {finding.found}")
            if finding.remedy is not None:
                click.echo(f"{'':17}{finding.remedy}")
    return exits.FAILED if any(finding.verdict == "fail" for finding in findings) else exits.OK


def _machine() -> Iterator[Finding]:
    from perdure.store.sqlite.facts import reset_safe, sqlite_version

    yield Finding("perdure", "ok", _versions("perdure", "apsw", "click", "jsonschema", "pydantic", "rich"))
    fit = sys.version_info >= (3, 11)
    remedy = None if fit else "Perdure needs Python 3.11 or newer"
    yield Finding("python", "ok" if fit else "fail", f"{platform.python_version()} ({sys.executable})", remedy)
    yield Finding("platform", "ok", f"{platform.platform()}, {os.cpu_count()} CPUs")
    version = sqlite_version()
    if reset_safe(version):
        yield Finding("sqlite", "ok", f"{version}, with the fix of the WAL-reset bug")
    else:
        remedy = "pip install --upgrade 'apsw>=3.51.3'"
        yield Finding("sqlite", "fail", f"{version} may lose committed transactions when it resets its log", remedy)
    year = datetime.now(UTC).year
    if year < 2025:
        yield Finding("clock", "fail", f"the clock says {year}", "set the system clock: timers and leases follow it")


def _disk(store: str) -> Iterator[Finding]:
    path = sqlite_path(store)
    if path is None:
        return
    directory = next(parent for parent in path.absolute().parents if parent.is_dir())
    free = shutil.disk_usage(directory).free
    verdict = "fail" if free < _NO_SPACE else "warn" if free < _LITTLE_SPACE else "ok"
    remedy = None if verdict == "ok" else "free some room: a store that cannot grow stops its workers"
    yield Finding("space", verdict, f"{_bytes(free)} free in {directory}", remedy)
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


def _store(store: str) -> Iterator[Finding]:
    from perdure.errors import PerdureError
    from perdure.store import store_from_url
    from perdure.store.sqlite.facts import read_facts

    store_from_url(store)
    path = sqlite_path(store)
    if path is None:
        yield Finding("store", "ok", f"{store} lives in memory: it ends with its process")
        return
    if not path.exists():
        yield Finding("store", "ok", f"none at {path} yet; `perdure run FILE.py:AGENT` makes it")
        return
    try:
        facts = read_facts(str(path))
    except PerdureError as error:
        yield Finding("store", "fail", str(error))
        return
    yield from _judge_store(store, path, facts)


def _judge_store(store: str, path: Path, facts: StoreFacts) -> Iterator[Finding]:
    if not facts.ours:
        yield Finding("store", "fail", f"{path} is a database of something else", "name another one: --store URL")
        return
    found = f"{path}: schema {facts.schema}, {_bytes(facts.size)}, {facts.runs} runs"
    if facts.schema > facts.schema_newest:
        yield Finding("store", "fail", f"{found}; this Perdure knows schema {facts.schema_newest}", _UPGRADE)
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
    if facts.schema == facts.schema_newest:  # opening another one would migrate it
        yield execute(_workers(store))


_UPGRADE = "pip install --upgrade perdure"


async def _workers(store: str) -> Finding:
    async with client(store) as runtime:
        shards = await runtime.store.shards()
    alive = [shard for shard in shards if shard.alive]
    nodes = {shard.owner for shard in alive}
    agents = sorted({shard.name.rpartition(":")[0] for shard in alive})
    if not nodes:
        return Finding("workers", "ok", f"none alive; {len(shards)} shards known", None)
    return Finding("workers", "ok", f"{len(nodes)} alive, with {len(alive)} shards of {', '.join(agents)}")


def _versions(*packages: str) -> str:
    return ", ".join(f"{name} {metadata.version(name)}" for name in packages)


def _bytes(count: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} TB"
