"""`runs`, `show`, `events`: what is there, why is it not moving, and what happened?"""

from __future__ import annotations

import fnmatch
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import click

from perdure.cli import exits
from perdure.cli.options import MOMENT, Place, client, execute, json_option, place_options
from perdure.cli.output import ago, note, paint, print_json, print_line, print_table, shorten, span, status, visible

if TYPE_CHECKING:
    from perdure.journal.timeline import StepRecord
    from perdure.store.contract import Ask
    from perdure.values.events import Event
    from perdure.values.runs import Run
    from perdure.views.why import Why

STATUSES = ("queued", "running", "waiting", "paused", "succeeded", "failed", "cancelled", "quarantined")


@click.command("runs", short_help="List runs, newest first, and why they are not moving.")
@click.option("--status", "statuses", multiple=True, type=click.Choice(STATUSES), help="May be given several times.")
@click.option("--agent", metavar="NAME")
@click.option("--session", metavar="KEY")
@click.option("--parent", metavar="RUN", help="Children of this run.")
@click.option("--since", type=MOMENT, metavar="1h", help="Recorded since: 30m, 1h, 2d, or an ISO date.")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=100, show_default=True)
@place_options
@json_option
def runs(
    statuses: tuple[str, ...], agent: str | None, session: str | None, parent: str | None, since: int | None,
    limit: int, place: Place, *, as_json: bool,
) -> int:  # fmt: skip
    """List runs, newest first, and say why they are not moving.

    \b
      perdure runs --status waiting --since 1h
    """
    filters = {"agent": agent, "session": session, "since": since, "limit": limit}
    return execute(_runs(filters, statuses, parent, place, as_json=as_json))


@click.command("show", short_help="Show one run: why it is not moving, then its steps.")
@click.argument("run")
@place_options
@json_option
def show(run: str, place: Place, *, as_json: bool) -> int:
    """Show one run: why it is not moving, then its steps, then the commands that make sense next.

    RUN is an id, or the end of one.
    """
    return execute(_show(run, place, as_json=as_json))


@click.command("events", short_help="Print a run's journal, and follow it.")
@click.argument("run")
@click.option("--after", type=click.IntRange(0), default=0, metavar="N", help="Only events with a higher seq.")
@click.option("--follow", "-f", is_flag=True, help="Go on until the run's last event.")
@click.option("--type", "types", multiple=True, metavar="TYPE", help="Only these: ask.opened, step.*; repeatable.")
@place_options
@json_option
def events(run: str, after: int, types: tuple[str, ...], place: Place, *, follow: bool, as_json: bool) -> int:
    """Print a run's journal, one event a line.

    \b
      perdure events RUN --follow --json
    """
    return execute(_events(run, after, types, place, follow=follow, as_json=as_json))


async def _runs(
    filters: dict[str, Any], statuses: tuple[str, ...], parent: str | None, place: Place, *, as_json: bool
) -> int:
    from perdure.store.contract import RunFilter
    from perdure.values.clock import SystemClock
    from perdure.values.runs import RunStatus
    from perdure.views.runs import run_json

    async with client(place) as reach:
        if parent is not None:
            filters["parent"] = (await reach.find(parent)).id
        found = await reach.runs(RunFilter(statuses=tuple(map(RunStatus, statuses)), **filters))
        reasons, now = await reach.reasons(), SystemClock().now_us()
        rows = [(run, await reasons.why(run, now)) for run in found]
    if as_json:
        print_json([run_json(run, why) for run, why in rows])
        return exits.OK
    print_table(
        ("run", "agent", "session", "status", "steps", "updated", "why"),
        [
            (run.id, run.agent, run.session or "", run.status, str(run.steps), ago(run.updated, now), why.reason or "")
            for run, why in rows
        ],
    )
    if len(rows) == filters["limit"]:
        note(f"only the newest {len(rows)}; more with --limit")
    return exits.OK


async def _show(id: str, place: Place, *, as_json: bool) -> int:
    from perdure.journal.timeline import read_timeline
    from perdure.values.clock import SystemClock
    from perdure.views.runs import ends_json, run_json
    from perdure.views.why import commands_for, open_asks

    async with client(place) as reach:
        run = await reach.find(id)
        journal = await reach.journal(run.id)
        reasons, now = await reach.reasons(), SystemClock().now_us()
        why, asks = await reasons.why(run, now), await open_asks(reach, run)
        next_commands = commands_for(run, asks, alive=reasons.has_worker(run))
    steps = read_timeline(journal)
    if as_json:
        shown = {**run_json(run, why), **ends_json(run, journal)}
        print_json({"run": shown, "steps": [step.as_json() for step in steps], "next": next_commands})
        return exits.OK
    _print_head(run, why, asks, journal, now)
    _print_steps(steps, now)
    _print_end(journal)
    if next_commands:
        click.echo(paint("\nnext", bold=True))
        for command in next_commands:
            click.echo(f"  {command}")
    return exits.OK


def _print_head(run: Run, why: Why, asks: list[Ask], journal: list[Event], now: int) -> None:
    from perdure.views.runs import input_of

    about = [f"{run.agent} {run.version}"]
    about += [f"session {run.session}"] if run.session is not None else []
    about += [f"child of {run.parent}"] if run.parent is not None else []
    about += [f"fork of {run.forked_from[0]}"] if run.forked_from is not None else []
    about += [f"attempt {run.attempt}"] if run.attempt > 1 else []
    click.echo(f"{paint(run.id, bold=True)}  {status(run.status)}  ({visible(', '.join(about))})")
    if why.reason is not None:
        click.echo(paint(f"  {why.reason}", "yellow"))
    for ask in asks:
        click.echo(visible(f"  {ask.id} asks {ask.to or 'anybody'}: {ask.title}"))
    click.echo(f"  began {ago(run.created, now)}, moved {ago(run.updated, now)}, {run.seq} events")
    click.echo(f"  input {shorten(input_of(journal), 100)}")


def _print_steps(steps: list[StepRecord], now: int) -> None:
    if not steps:
        return
    click.echo()
    print_table(
        ("step", "kind", "name", "args", "took", "tries", "state", "result"),
        [
            (
                str(step.step), step.kind, shorten(step.name, 40), "" if step.args is None else shorten(step.args, 40),
                _took(step, now), str(step.attempts) if step.attempts > 1 else "", step.status, _result(step),
            )
            for step in steps
        ],
    )  # fmt: skip


def _took(step: StepRecord, now: int) -> str:
    if step.kind in ("emit", "send"):
        return ""
    return span(step.seconds) if step.seconds is not None else f"{span((now - step.started) / 1e6)}…"


def _result(step: StepRecord) -> str:
    if step.error is not None and step.status in ("failed", "retrying"):
        return shorten(f"{step.error.get('type')}: {step.error.get('message')}")
    if step.refers is not None and step.status == "open":
        return step.refers
    return "" if step.result is None else shorten(step.result)


def _print_end(journal: list[Event]) -> None:
    from perdure.cli.lines import line

    if journal[-1].terminal:
        data = journal[-1].data
        said = f"result {shorten(data['result'], 2000)}" if "result" in data else line(journal[-1])
        click.echo(f"\n{said}")


async def _events(id: str, after: int, types: tuple[str, ...], place: Place, *, follow: bool, as_json: bool) -> int:
    async with client(place) as reach:
        run = await reach.find(id)
        if follow:
            async with aclosing(reach.events(run.id, after)) as journal:  # type: ignore[type-var]
                async for event in journal:
                    _print_event(event, types, as_json=as_json)
            return exits.OK
        while page := await reach.journal(run.id, after, _PAGE):
            for event in page:
                _print_event(event, types, as_json=as_json)
            after = page[-1].seq
    return exits.OK


_PAGE = 1000


def _print_event(event: Event, types: tuple[str, ...], *, as_json: bool) -> None:
    if types and not any(fnmatch.fnmatchcase(event.type, wanted) for wanted in types):
        return
    if as_json:
        print_line(event.as_json())
        return
    from perdure.cli.lines import line

    words = line(event).replace("\n", "")
    click.echo(f"{event.seq:>5}  {event.time[11:23]}  {paint(event.type.ljust(18), 'cyan')}  {words}")
