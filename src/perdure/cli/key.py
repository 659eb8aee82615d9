"""`key`: who may call a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from perdure.cli import exits
from perdure.cli.options import client, execute, json_option, store_option
from perdure.cli.output import ago, note, print_json, print_table

if TYPE_CHECKING:
    from perdure.gateway.access.keys import Keys
    from perdure.runtime import Runtime

SCOPES = ("viewer", "operator", "approver", "admin")


@click.group("key", short_help="Make, list, rotate and revoke the keys that callers of a server need.")
def key() -> None:
    """Make, list, rotate and revoke the keys that callers of a server need.

    \b
      perdure key create dashboard --scope viewer
      perdure key create me --scope admin
    """


@key.command("create", short_help="Make a key; it is shown this once.")
@click.argument("name")
@click.option(
    "--scope", "scopes", multiple=True, required=True, type=click.Choice(SCOPES),
    help="viewer looks; operator starts and steers; approver answers and decides; admin may do everything. Repeatable.",
)  # fmt: skip
@click.option(
    "--days", type=click.FloatRange(0, 3660, min_open=True), help="For how long it is good (default: for ever)."
)
@store_option
@json_option
def create(name: str, scopes: tuple[str, ...], days: float | None, store: str, *, as_json: bool) -> int:
    """Make a key and print it: the only time that anybody sees it. Journals keep NAME for what is done with it."""
    return execute(_create(name, scopes, days, store, as_json=as_json))


@key.command("list", short_help="List keys.")
@store_option
@json_option
def list_(store: str, *, as_json: bool) -> int:
    """List keys, without their text."""
    return execute(_list(store, as_json=as_json))


@key.command("rotate", short_help="Another text for a key.")
@click.argument("id")
@store_option
@json_option
def rotate(id: str, store: str, *, as_json: bool) -> int:
    """Print another text for the key with this ID; the one before is refused from now on."""
    return execute(_rotate(id, store, as_json=as_json))


@key.command("revoke", short_help="Refuse a key from now on.")
@click.argument("id")
@store_option
@json_option
def revoke(id: str, store: str, *, as_json: bool) -> int:
    """Refuse the key with this ID from now on; what it holds open ends within five seconds."""
    return execute(_revoke(id, store, as_json=as_json))


@key.command("login-code", short_help="Print a code that logs a browser in, once.")
@click.option("--scope", "scopes", multiple=True, default=("admin",), type=click.Choice(SCOPES), help="Default: admin.")
@store_option
@json_option
def login_code(scopes: tuple[str, ...], store: str, *, as_json: bool) -> int:
    """Print a code that logs a browser in, once and within ten minutes, as you."""
    return execute(_login_code(scopes, store, as_json=as_json))


def _keys(runtime: Runtime) -> Keys:
    from perdure.gateway.access.keys import Keys

    return Keys(runtime.store, runtime.kernel.clock)


async def _create(name: str, scopes: tuple[str, ...], days: float | None, store: str, *, as_json: bool) -> int:
    from perdure.runtime import Runtime

    async with Runtime(store, work=False) as runtime:  # makes the store: a server wants its key before its first run
        made, text = await _keys(runtime).create(name, scopes, None if days is None else days * 86_400)
    return _say({**made.as_json(), "key": text}, as_json=as_json)


async def _list(store: str, *, as_json: bool) -> int:
    async with client(store) as runtime:
        found, now = await _keys(runtime).list(), runtime.kernel.clock.now_us()
    if as_json:
        print_json([made.as_json() for made in found])
        return exits.OK
    print_table(
        ("id", "name", "scopes", "created", "expires"),
        [
            (made.id, made.name, " ".join(sorted(made.scopes)), ago(made.created, now), made.as_json()["expires"] or "")
            for made in found
        ],
    )
    return exits.OK


async def _rotate(id: str, store: str, *, as_json: bool) -> int:
    async with client(store) as runtime:
        made, text = await _keys(runtime).rotate(id)
    return _say({**made.as_json(), "key": text}, as_json=as_json)


async def _revoke(id: str, store: str, *, as_json: bool) -> int:
    async with client(store) as runtime:
        await _keys(runtime).revoke(id)
    if as_json:
        print_json({"id": id, "revoked": True})
    else:
        click.echo(f"{id} is refused from now on")
    return exits.OK


async def _login_code(scopes: tuple[str, ...], store: str, *, as_json: bool) -> int:
    from perdure.cli.options import person
    from perdure.gateway.access.keys import parse_scopes
    from perdure.gateway.access.logins import Logins
    from perdure.gateway.access.principal import Principal
    from perdure.gateway.settings import GatewaySettings
    from perdure.values.clock import iso

    about = GatewaySettings()
    async with client(store) as runtime:
        logins = Logins(
            runtime.store, runtime.kernel.clock, code_seconds=about.code_seconds, login_seconds=about.login_seconds
        )  # fmt: skip
        code, expires = await logins.make_code(Principal(person(), parse_scopes(scopes), "cli"))
    if as_json:
        print_json({"code": code, "expires": iso(expires)})
    else:
        click.echo(code)
        note("good once, within ten minutes: type it on the server's login page")
    return exits.OK


def _say(made: dict[str, Any], *, as_json: bool) -> int:
    if as_json:
        print_json(made)
    else:
        click.echo(made["key"])
        note(f"key {made['id']} ({made['name']}): {', '.join(made['scopes'])}. It is not shown again")
    return exits.OK
