"""`schedule`: what the clock starts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import click

from perdure.cli import exits
from perdure.cli.load import load_agents
from perdure.cli.options import JSON, MOMENT, Given, client, execute, json_option, store_option
from perdure.cli.output import note, print_json, print_table, shorten

if TYPE_CHECKING:
    from perdure.runtime import Runtime
    from perdure.triggers.schedules import Backfill, Schedule, Schedules


@click.group("schedule", short_help="Start agents by the clock: cron expressions with time zones.")
def schedule() -> None:
    """Start agents by the clock. A server (`perdure dev`, `perdure serve`) does the starting.

    \b
      perdure schedule add report '0 9 * * 1-5' reporter '{"to": "team"}' --timezone Europe/Berlin
      perdure schedule list
      perdure schedule backfill report shop.py --since 2026-01-01 --until 2026-01-31
    """


@schedule.command("add", short_help="A new schedule.")
@click.argument("name")
@click.argument("cron", metavar="CRON")
@click.argument("agent")
@click.argument("input", type=JSON, required=False)
@click.option("--timezone", default="UTC", show_default=True, metavar="ZONE", help="IANA, as Europe/Berlin.")
@click.option("--session", metavar="KEY", help="The session that its runs belong to.")
@click.option(
    "--catch-up", "catch_up_seconds", type=click.FloatRange(0), default=0, metavar="SECONDS",
    help="After a time without any server, make up for the newest slot that was missed, if it is no older.",
)  # fmt: skip
@click.option("--paused", is_flag=True, help="Start nothing until it is resumed.")
@store_option
@json_option
def add(
    name: str, cron: str, agent: str, input: Given | None, timezone: str, session: str | None, catch_up_seconds: float,
    *, paused: bool, store: str, as_json: bool,
) -> int:  # fmt: skip
    """A new schedule NAME, which starts AGENT with INPUT (JSON). CRON has five fields: minute hour day month weekday.

    INPUT is checked when a slot comes, since the agent's code is on the servers; a slot that cannot start says why in
    `perdure schedule list`.
    """
    from perdure.triggers.cron import Cron

    made = Cron(cron, timezone)

    async def work(schedules: Schedules) -> Schedule:
        return await schedules.add(
            name, agent, made, None if input is None else input.value, session=session, paused=paused,
            catch_up_seconds=catch_up_seconds,
        )  # fmt: skip

    return execute(_show(store, work, as_json=as_json))


@schedule.command("list", short_help="List schedules, what comes next, and what came last.")
@store_option
@json_option
def list_(store: str, *, as_json: bool) -> int:
    """List schedules, what comes next, and what came last."""
    return execute(_list(store, as_json=as_json))


@schedule.command("pause", short_help="Start nothing until it is resumed.")
@click.argument("name")
@store_option
@json_option
def pause(name: str, store: str, *, as_json: bool) -> int:
    """Start nothing of schedule NAME until it is resumed."""
    return execute(_show(store, lambda schedules: schedules.pause(name), as_json=as_json))


@schedule.command("resume", short_help="Go on with the next slot.")
@click.argument("name")
@store_option
@json_option
def resume(name: str, store: str, *, as_json: bool) -> int:
    """Go on with the next slot of schedule NAME; what came meanwhile is not made up for."""
    return execute(_show(store, lambda schedules: schedules.resume(name), as_json=as_json))


@schedule.command("trigger", short_help="Start a run now, beside all slots.")
@click.argument("name")
@click.argument("file", metavar="FILE.py")
@store_option
@json_option
def trigger(name: str, file: str, store: str, *, as_json: bool) -> int:
    """Record a run of schedule NAME now; FILE.py defines its agent. A worker or server runs it."""

    async def work(schedules: Schedules) -> Backfill:
        from perdure.triggers.schedules import Backfill

        return Backfill([await schedules.trigger(name)], [])

    return execute(_start(store, file, work, as_json=as_json))


@schedule.command("backfill", short_help="Start the runs of slots that have passed.")
@click.argument("name")
@click.argument("file", metavar="FILE.py")
@click.option("--since", type=MOMENT, required=True, help="First slot: 2d (ago), or an ISO date and time.")
@click.option("--until", type=MOMENT, help="Last slot (default: now).")
@store_option
@json_option
def backfill(name: str, file: str, since: int, until: int | None, store: str, *, as_json: bool) -> int:
    """Record the runs of all slots of schedule NAME from --since to --until; FILE.py defines its agent.

    A slot that has had its run keeps it, and one that cannot start stops no other. 1,000 slots at most.
    """

    async def work(schedules: Schedules) -> Backfill:
        from perdure.values.clock import SystemClock

        return await schedules.backfill(name, since, SystemClock().now_us() if until is None else until)

    return execute(_start(store, file, work, as_json=as_json))


@schedule.command("remove", short_help="Forget a schedule.")
@click.argument("name")
@store_option
@json_option
def remove(name: str, store: str, *, as_json: bool) -> int:
    """Forget schedule NAME; runs that it started go on."""
    return execute(_remove(name, store, as_json=as_json))


def _schedules(runtime: Runtime) -> Schedules:
    from perdure.triggers.schedules import Schedules

    return Schedules(runtime)


async def _show(store: str, work: Callable[[Schedules], Awaitable[Schedule]], *, as_json: bool) -> int:
    from perdure.runtime import Runtime

    async with Runtime(store, work=False) as runtime:  # makes the store: a schedule may come before the first run
        shown = (await work(_schedules(runtime))).as_json(runtime.kernel.clock.now_us())
    if as_json:
        print_json(shown)
    else:
        click.echo(f"{shown['name']}: {shown['agent']} at {shown['cron']} ({shown['timezone']}), {_coming(shown)}")
    return exits.OK


async def _list(store: str, *, as_json: bool) -> int:
    async with client(store) as runtime:
        now = runtime.kernel.clock.now_us()
        found = [one.as_json(now) for one in await _schedules(runtime).list()]
    if as_json:
        print_json(found)
        return exits.OK
    rows = [(one["name"], one["agent"], f"{one['cron']} {one['timezone']}", _coming(one), _last(one)) for one in found]
    print_table(("name", "agent", "when", "next", "last"), rows)
    return exits.OK


async def _start(
    store: str, file: str, work: Callable[[Schedules], Awaitable[Backfill]], *, as_json: bool
) -> int:  # fmt: skip
    async with client(store, load_agents(file).agents) as runtime:
        started = await work(_schedules(runtime))
    if as_json:
        print_json(started.as_json())
    else:
        for run in started.runs:
            click.echo(run)
        for unstarted in started.problems:
            note(f"{unstarted['slot'][:16]}Z did not start: {unstarted['problem']}")
        note(f"{len(started.runs)} recorded; a worker or server runs them")
    return exits.FAILED if started.problems else exits.OK


async def _remove(name: str, store: str, *, as_json: bool) -> int:
    async with client(store) as runtime:
        await _schedules(runtime).remove(name)
    if as_json:
        print_json({"name": name, "removed": True})
    else:
        click.echo(f"{name} is forgotten")
    return exits.OK


def _coming(shown: dict[str, Any]) -> str:
    if shown["problem"] is not None:
        return f"not here: {shorten(shown['problem'], 60)}"
    return "paused" if shown["paused"] else f"next {shown['next'][:16]}Z" if shown["next"] else "never again"


def _last(shown: dict[str, Any]) -> str:
    last = shown["last"]
    if last is None:
        return ""
    return f"{last['slot'][:16]}Z {last['run'] or shorten(last.get('problem', ''), 60)}"
