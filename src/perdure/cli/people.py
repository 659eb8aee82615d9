"""`inbox`, `answer`, `approve`, `reject`, `send`: what people say to runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from perdure.cli import exits
from perdure.cli.options import JSON, Given, Place, client, execute, json_option, person, place_options
from perdure.cli.output import ago, paint, print_json, shorten, visible

if TYPE_CHECKING:
    from perdure.cli.reach import Reach
    from perdure.store.contract import Ask
    from perdure.values.runs import Run


@click.command("inbox", short_help="List open questions and approvals.")
@click.option("--to", metavar="NAME", help="Only what is addressed to NAME.")
@place_options
@json_option
def inbox(to: str | None, place: Place, *, as_json: bool) -> int:
    """List open questions and approvals, oldest first, each with the command that settles it."""
    return execute(_inbox(to, place, as_json=as_json))


@click.command("answer", short_help="Answer a question.")
@click.argument("id")
@click.argument("value", type=JSON, metavar="JSON|@FILE|-")
@place_options
@json_option
def answer(id: str, value: Given, place: Place, *, as_json: bool) -> int:
    """Answer a question. The answer is checked against what the agent expects before it is recorded.

    \b
      perdure answer run_1h0tw6n02x8dkq4p5a:4 '{"approved": true}'
    """
    return execute(_answer(id, value.value, place, as_json=as_json))


@click.command("approve", short_help="Consent to an action.")
@click.argument("id")
@click.option("--edit", type=JSON, metavar="JSON", help="Other arguments, by name: only those that change.")
@click.option("--note", metavar="TEXT")
@place_options
@json_option
def approve(id: str, edit: Given | None, note: str | None, place: Place, *, as_json: bool) -> int:
    """Consent to one exact action, once.

    \b
      perdure approve run_1h0tw6n02x8dkq4p5a:7 --edit '{"amount": "90.00"}' --note "less"
    """
    if edit is not None and not isinstance(edit.value, dict):
        raise click.UsageError("--edit takes a JSON object: the arguments that change, by name")
    return execute(_approve(id, edit.value if edit is not None else None, note, place, as_json=as_json))


@click.command("reject", short_help="Refuse an action.")
@click.argument("id")
@click.option("--note", metavar="TEXT", help="Why; the agent sees it.")
@place_options
@json_option
def reject(id: str, note: str | None, place: Place, *, as_json: bool) -> int:
    """Refuse an action: the agent gets ApprovalRejected, or a false decision."""
    return execute(_reject(id, note, place, as_json=as_json))


@click.command("send", short_help="Send a message to a run or a session.")
@click.argument("words", nargs=-1, metavar="[RUN] TOPIC [JSON|@FILE|-]")
@click.option("--agent", metavar="NAME", help="With --session, instead of RUN.")
@click.option("--session", metavar="KEY", help="The session; without an active run it keeps the message for the next.")
@place_options
@json_option
def send(words: tuple[str, ...], agent: str | None, session: str | None, place: Place, *, as_json: bool) -> int:
    """Send a message to a run, or to a session.

    \b
      perdure send RUN go '{"limit": 3}'
      perdure send --agent support --session ticket-42 note '"please hurry"'
    """
    if (agent is None) != (session is None):
        raise click.UsageError("--agent and --session name a session together; without both, name a RUN")
    target, *rest = (session, *words) if session is not None else words or (None,)
    if target is None or len(rest) not in (1, 2):
        raise click.UsageError("what is to be sent? RUN TOPIC [JSON], or --agent NAME --session KEY TOPIC [JSON]")
    value = JSON.convert(rest[1], None, click.get_current_context()).value if len(rest) == 2 else None
    return execute(_send(target, rest[0], value, agent, place, as_json=as_json))


async def _inbox(to: str | None, place: Place, *, as_json: bool) -> int:
    from perdure.values.clock import SystemClock
    from perdure.views.asks import ask_json

    async with client(place) as reach:
        asks = await reach.inbox(to=to)
    if as_json:
        print_json([ask_json(ask) for ask in asks])
        return exits.OK
    now = SystemClock().now_us()
    for ask in asks:
        _print_ask(ask, now)
    if not asks:
        click.echo("nothing waits for " + (to or "anybody"))
    return exits.OK


def _print_ask(ask: Ask, now: int) -> None:
    from perdure.values.clock import iso
    from perdure.values.json import decode
    from perdure.views.why import ask_commands

    until = f", until {iso(ask.deadline)[:19]}Z" if ask.deadline is not None else ""
    click.echo(f"{paint(ask.id, bold=True)}  {ask.agent} asks {ask.to or 'anybody'}, {ago(ask.created, now)}{until}")
    click.echo(f"  {visible(ask.title)}")
    if ask.kind == "approval":
        detail = decode(ask.detail)
        click.echo(f"  {detail['action']} {shorten(detail['args'], 400)}")
    click.echo("  " + "   or   ".join(ask_commands(ask)))


async def _answer(id: str, value: Any, place: Place, *, as_json: bool) -> int:
    async with client(place) as reach:
        ask, run = await _find(reach, id)
        await reach.answer(ask.id, value, by=person())
        return await _say_settled(reach, ask, run, "answered", as_json=as_json)


async def _approve(id: str, edit: dict[str, Any] | None, note: str | None, place: Place, *, as_json: bool) -> int:
    async with client(place) as reach:
        ask, run = await _find(reach, id)
        await reach.approve(ask.id, edit=edit, by=person(), note=note)
        return await _say_settled(reach, ask, run, "approved", as_json=as_json)


async def _reject(id: str, note: str | None, place: Place, *, as_json: bool) -> int:
    async with client(place) as reach:
        ask, run = await _find(reach, id)
        await reach.reject(ask.id, by=person(), note=note)
        return await _say_settled(reach, ask, run, "rejected", as_json=as_json)


async def _find(reach: Reach, id: str) -> tuple[Ask, Run]:
    # Before it is settled: afterwards the end of an id finds nothing any more.
    ask = await reach.find_ask(id)
    return ask, await reach.find(ask.run)


async def _say_settled(reach: Reach, ask: Ask, run: Run, status: str, *, as_json: bool) -> int:
    from perdure.cli.effect import carry_out

    effect = await carry_out(reach, run, *_JOURNALED[ask.kind])
    if as_json:
        print_json({"id": ask.id, "settled": status, **effect.as_json()})
    else:
        click.echo(f"{ask.id} {status}; {effect.in_words()}")
    return exits.OK


_JOURNALED = {"ask": ("ask.answered",), "approval": ("approval.granted", "approval.rejected")}


async def _send(target: str, topic: str, value: Any, agent: str | None, place: Place, *, as_json: bool) -> int:
    from perdure.cli.effect import carry_out

    async with client(place) as reach:
        if agent is None:
            run = await reach.find(target)
            await reach.send(run.id, topic, value)
            effect = await carry_out(reach, run, "message.received")
            shown, words = effect.as_json(), effect.in_words()
        else:
            await reach.send(target, topic, value, agent=agent)
            done = (await reach.reasons()).has_worker_of(agent)
            shown = {"agent": agent, "session": target, "carried_out": done}
            words = f"session {target} of {agent} has it" if done else f"recorded; no worker has agent {agent}"
    if as_json:
        print_json({"topic": topic, **shown})
    else:
        click.echo(f"sent {topic}; {words}")
    return exits.OK
