"""`webhook`: who is told of what happens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from perdure.cli import exits
from perdure.cli.options import client, execute, json_option, store_option
from perdure.cli.output import note, print_json, print_table

if TYPE_CHECKING:
    from perdure.runtime import Runtime
    from perdure.triggers.triggers import Triggers


@click.group("webhook", short_help="Tell other systems of events: signed POSTs that are never forgotten.")
def webhook() -> None:
    """Tell other systems of events of runs. A server (`perdure dev`, `perdure serve`) does the telling.

    \b
      perdure webhook add https://example.com/hook run.failed 'ask.*'
      perdure webhook test wh_1a2b3c4d5e
      perdure webhook dead wh_1a2b3c4d5e
    """


@webhook.command("add", short_help="A new webhook; its secret is shown this once.")
@click.argument("url")
@click.argument("types", nargs=-1, required=True)
@click.option("--agent", metavar="NAME", help="Of runs of this agent only.")
@store_option
@json_option
def add(url: str, types: tuple[str, ...], agent: str | None, store: str, *, as_json: bool) -> int:
    """POST events of these TYPES (run.failed, ask.*; docs/events.md lists them) to URL.

    Prints the secret that its signatures are checked with: the only time that anybody sees it.
    """
    return execute(_add(url, types, agent, store, as_json=as_json))


@webhook.command("list", short_help="List webhooks, without their secrets.")
@store_option
@json_option
def list_(store: str, *, as_json: bool) -> int:
    """List webhooks, without their secrets."""
    return execute(_list(store, as_json=as_json))


@webhook.command("test", short_help="Send an event of type webhook.test now.")
@click.argument("id")
@click.option("--to-private", is_flag=True, help="Its address may be one of this machine or of a private network.")
@store_option
@json_option
def test(id: str, store: str, *, to_private: bool, as_json: bool) -> int:
    """Send an event of type dev.perdure.webhook.test from here, once, and print what the receiver answers."""
    return execute(_test(id, store, to_private=to_private, as_json=as_json))


@webhook.command("dead", short_help="List deliveries whose tries are used up.")
@click.argument("id")
@store_option
@json_option
def dead(id: str, store: str, *, as_json: bool) -> int:
    """List deliveries to webhook ID whose tries are used up, newest first, with the reason."""
    return execute(_dead(id, store, as_json=as_json))


@webhook.command("retry", short_help="Deliver dead ones again.")
@click.argument("id")
@click.argument("deliveries", nargs=-1)
@store_option
@json_option
def retry(id: str, deliveries: tuple[str, ...], store: str, *, as_json: bool) -> int:
    """Deliver dead DELIVERIES to webhook ID again (default: all of them), with all their tries."""
    return execute(_retry(id, deliveries, store, as_json=as_json))


@webhook.command("remove", short_help="Tell it nothing more.")
@click.argument("id")
@store_option
@json_option
def remove(id: str, store: str, *, as_json: bool) -> int:
    """Tell webhook ID nothing more; what is on its way is dropped."""
    return execute(_remove(id, store, as_json=as_json))


def _triggers(runtime: Runtime, *, to_private: bool = False) -> Triggers:
    from perdure.triggers.courier import Courier
    from perdure.triggers.egress import Reach
    from perdure.triggers.triggers import Triggers

    reach = Reach(loopback=to_private, private=to_private)
    return Triggers(runtime, Courier(runtime.store, runtime.kernel.clock, reach))


async def _add(url: str, types: tuple[str, ...], agent: str | None, store: str, *, as_json: bool) -> int:
    from perdure.runtime import Runtime

    async with Runtime(store, work=False) as runtime:  # makes the store: a webhook may come before the first run
        made = await _triggers(runtime).webhooks.add(url, types, agent=agent)
    if as_json:
        print_json({**made.as_json(), "secret": made.secret})
    else:
        click.echo(made.secret)
        note(f"webhook {made.id} is told of {', '.join(made.types)}. Its secret is not shown again")
    return exits.OK


async def _list(store: str, *, as_json: bool) -> int:
    async with client(store) as runtime:
        found = [hook.as_json() for hook in await _triggers(runtime).webhooks.list()]
    if as_json:
        print_json(found)
        return exits.OK
    rows = [(one["id"], one["url"], " ".join(one["types"]), one["agent"] or "", one["disabled"] or "") for one in found]
    print_table(("id", "url", "types", "agent", "disabled"), rows)
    return exits.OK


async def _test(id: str, store: str, *, to_private: bool, as_json: bool) -> int:
    async with client(store) as runtime:
        came: dict[str, Any] = await _triggers(runtime, to_private=to_private).courier.test(id)
    if as_json:
        print_json(came)
    else:
        click.echo(f"{came['status']} {came['text']}".strip() if came["status"] is not None else came["error"])
    return exits.OK if came["ok"] else exits.FAILED


async def _dead(id: str, store: str, *, as_json: bool) -> int:
    async with client(store) as runtime:
        found = await _triggers(runtime).deliveries.list(id, dead=True, limit=1000)
    if as_json:
        print_json(found)
        return exits.OK
    print_table(
        ("delivery", "of", "since", "reason"),
        [(one["id"], f"{one['run']}/{one['seq']}", one["created"][:16], one["reason"] or "") for one in found],
    )
    return exits.OK


async def _retry(id: str, deliveries: tuple[str, ...], store: str, *, as_json: bool) -> int:
    async with client(store) as runtime:
        about = _triggers(runtime).deliveries
        wanted = deliveries or [one["id"] for one in await about.list(id, dead=True, limit=1000)]
        again = [await about.retry(id, delivery) for delivery in wanted]
    if as_json:
        print_json({"deliveries": again})
    else:
        for delivery in again:
            click.echo(delivery)
        note(f"{len(again)} on their way again; a server delivers them")
    return exits.OK


async def _remove(id: str, store: str, *, as_json: bool) -> int:
    async with client(store) as runtime:
        await _triggers(runtime).webhooks.remove(id)
    if as_json:
        print_json({"id": id, "removed": True})
    else:
        click.echo(f"{id} is told nothing more")
    return exits.OK
