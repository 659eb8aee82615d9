"""`doctor`: is this machine, and this store, fit for the work? Every finding comes with its remedy."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import metadata

import click

from perdure.cli import doctor_postgres, doctor_sqlite, exits
from perdure.cli.finding import Finding
from perdure.cli.options import client, execute, json_option, missing, sqlite_path, store_option
from perdure.cli.output import paint, print_json

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command("doctor", short_help="Check this machine and the store.")
@store_option
@json_option
def doctor(store: str, *, as_json: bool) -> int:
    """Check this machine and the store; every finding comes with its remedy. Ends with 1 when something fails."""
    findings = examine(store)
    if as_json:
        print_json([finding.as_json() for finding in findings])
    else:
        for finding in findings:
            verdict = paint(finding.verdict.ljust(4), _COLOURS[finding.verdict])
            click.echo(f"{verdict}  {finding.name.ljust(11)}  {finding.found}")
            if finding.remedy is not None:
                click.echo(f"{'':19}{finding.remedy}")
    return exits.FAILED if any(finding.verdict == "fail" for finding in findings) else exits.OK


def examine(store: str) -> list[Finding]:
    """Everything there is to find."""
    return [*_machine(), *_store(store)]


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


def _store(store: str) -> Iterator[Finding]:
    from perdure.store import store_from_url
    from perdure.store.urls import is_postgres, split_urls, without_passwords

    store_from_url(store)
    findings: list[Finding] = []
    for url in split_urls(store):
        path = sqlite_path(url)
        if path is not None:
            findings += doctor_sqlite.examine(path)
        elif is_postgres(url):
            findings += doctor_postgres.examine(url)
        else:
            findings += [Finding("store", "ok", f"{without_passwords(url)} lives in memory: it ends with its process")]
    yield from findings
    # Opening one that is not as new as we are would migrate it.
    current = all(finding.verdict == "ok" for finding in findings if finding.name in {"store", "integrity"})
    if current and execute(missing(store)) is None:
        yield execute(_workers(store))


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
