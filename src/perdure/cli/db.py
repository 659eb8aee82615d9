"""`db check`, `db backup`, `db migrate`: care of the store itself."""

from __future__ import annotations

from pathlib import Path

import click

from perdure.cli import exits
from perdure.cli.options import client, execute, json_option, must_exist, shown, sqlite_path, store_option
from perdure.cli.output import note, print_json
from perdure.errors import InvalidSetting


@click.group("db", short_help="Check, back up or migrate the store.")
def db() -> None:
    """Check, back up or migrate the store. Each may run beside live workers."""


@db.command("check")
@store_option
@json_option
def check(store: str, *, as_json: bool) -> int:
    """Read the whole store and say what is wrong with it. Ends with 1 when something is."""
    return execute(_check(store, as_json=as_json))


@db.command("backup")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@store_option
@json_option
def backup(file: Path, store: str, *, as_json: bool) -> int:
    """Write a consistent copy of the store to FILE while work goes on. Never overwrites."""
    return execute(_backup(file, store, as_json=as_json))


@db.command("migrate")
@click.option(
    "--slots", type=click.IntRange(1, 4096), metavar="N",
    help="For a new store: shards of each agent, and so the most nodes that can share one (default 16).",
)  # fmt: skip
@store_option
@json_option
def migrate(slots: int | None, store: str, *, as_json: bool) -> int:
    """Bring the store to this version's schema, or make it. Workers do the same when they open it.

    \b
      perdure db migrate --store postgresql://shop_owner@db.internal/shop --slots 128
    """
    return execute(_migrate(slots, store, as_json=as_json))


async def _check(store: str, *, as_json: bool) -> int:
    from perdure.store import SqliteStore, store_from_url

    await must_exist(store)
    opened = store_from_url(store)
    # A file is not opened first: that refuses a damaged one, and this is the command that says what is damaged.
    if not isinstance(opened, SqliteStore):
        await opened.open()
    try:
        problems = await opened.check()
    finally:
        await opened.close()
    if as_json:
        print_json({"store": shown(store), "problems": problems})
    else:
        for problem in problems:
            click.echo(problem)
        note(f"{shown(store)}: {len(problems)} problems" if problems else f"{shown(store)} is sound")
    return exits.FAILED if problems else exits.OK


async def _backup(file: Path, store: str, *, as_json: bool) -> int:
    async with client(store) as runtime:
        await runtime.store.backup(str(file))
    if as_json:
        print_json({"store": shown(store), "file": str(file)})
    else:
        note(f"{shown(store)} is backed up in {file}")
    return exits.OK


async def _migrate(slots: int | None, store: str, *, as_json: bool) -> int:
    from perdure.store import SLOTS, store_from_url

    before = await _schema(store)
    opened = store_from_url(store, slots=slots or SLOTS)
    await opened.open()
    try:
        found = await opened.slots()
    finally:
        await opened.close()
    if slots not in {None, found}:
        raise InvalidSetting(
            f"{shown(store)} has {found} slots since it was made, and that cannot change: runs live in them. Make another "
            f"store with --slots {slots}, and start new runs there"
        )
    after = await _schema(store)
    if as_json:
        print_json({"store": shown(store), "before": before, "after": after, "slots": found})
    else:
        note(f"{shown(store)} has schema {after}" + ("" if before == after else f" (before: {before})"))
    return exits.OK


async def _schema(store: str) -> int:
    """The version of the schema; of several databases the oldest."""
    from perdure.store.urls import is_postgres, split_urls

    versions = []
    for url in split_urls(store):
        path = sqlite_path(url)
        if is_postgres(url):
            from perdure.store.postgres.facts import read_schema

            versions.append((await read_schema(url))[1])
        else:
            versions.append(_schema_of_file(path) if path is not None and path.exists() else 0)
    return min(versions)


def _schema_of_file(path: Path) -> int:
    from perdure.store.sqlite.facts import read_facts

    return read_facts(str(path)).schema
