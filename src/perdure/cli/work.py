"""`work`: a worker in this process, for whatever is due, until it is stopped."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from perdure.cli import exits
from perdure.cli.alive import alive
from perdure.cli.compute import ray_option
from perdure.cli.load import Agents, load_agents
from perdure.cli.options import execute, json_option, shown, store_option
from perdure.cli.output import note
from perdure.cli.stopping import stop_signals

if TYPE_CHECKING:
    from perdure.runtime import Runtime
    from perdure.values.events import Event
    from perdure.values.settings import Settings

#: `work --until-idle` waits for timers that are due this soon, so long as that does not go on for ever.
_SHORT_TIMER_SECONDS = 1.0
_SHORT_TIMERS_SECONDS = 5.0
#: How often it looks whether other nodes are still there.
_LOOK_SECONDS = 0.1


@click.command("work", short_help="Run whatever is due, until stopped.")
@click.argument("file", metavar="FILE.py")
@click.option("--until-idle", is_flag=True, help="End when nothing can move without a person, a message or a timer.")
@click.option(
    "--lease",
    type=click.FloatRange(0.5, 300.0),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="For how long a node that is not heard of keeps its shards.",
)
@click.option(
    "--alive-file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Touched every second from the start on, for probes; removed at the end.",
)
@ray_option
@store_option
@json_option
def work(
    file: str, *, until_idle: bool, lease: float, alive_file: Path | None, ray: str | None, store: str, as_json: bool
) -> int:
    """Run whatever is due of the agents in FILE.py, until Ctrl-C or SIGTERM.

    \b
      perdure work shop.py

    Prints its node's id, and a line on stderr whenever a run changes its state (with --json: the events, one a line on
    stdout). Steps under way get time to finish; a second Ctrl-C does not wait for them. Nothing is lost either way: other
    nodes take over, after a crash as soon as the lease has run out. --until-idle waits for timers that are due
    within a second, five seconds in all.
    """
    from perdure.values.settings import Settings

    loaded, settings = load_agents(file), Settings(ray=ray, lease_seconds=lease)
    return execute(_work(loaded, store, settings, alive_file, until_idle=until_idle, as_json=as_json))


async def _work(
    loaded: Agents, store: str, settings: Settings, alive_file: Path | None, *, until_idle: bool, as_json: bool
) -> int:
    from perdure.runtime import Runtime
    from perdure.triggers.triggers import Triggers

    runtime = Runtime(store, loaded.agents, settings=settings)
    Triggers(runtime).tell()
    runtime.kernel.followers.watchers.append(_print_events if as_json else _note_state_changes)
    async with runtime:
        names = ", ".join(sorted(runtime.agents.names()))
        note(
            f"{await _who(runtime)} is working on {names} at {shown(store)}" + ("" if until_idle else "; Ctrl-C stops")
        )
        if not runtime.kernel.leases.complete:
            note("other workers have shards of these agents, and will share them")
        with alive(alive_file), stop_signals() as stopped:
            await _until_over(runtime, stopped, until_idle=until_idle)
            if runtime.kernel.membership.draining:
                note("drained, as somebody asked for: its runs go on elsewhere")
            if stopped.is_set():
                note("stopping: steps under way get time to finish; Ctrl-C again does not wait for them")
            await runtime.stop()
    return exits.OK


async def _until_over(runtime: Runtime, stopped: asyncio.Event, *, until_idle: bool) -> None:
    """Return when somebody stops or drains the node, or it is idle and should end then. Raises what broke it."""
    waits: list[asyncio.Task[Any]] = [
        asyncio.create_task(stopped.wait()),
        asyncio.create_task(runtime.kernel.followers.failure()),
        asyncio.create_task(runtime.kernel.membership.drained()),
    ]
    if until_idle:
        waits.append(asyncio.create_task(_idle(runtime)))
    try:
        done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in waits:
            task.cancel()


async def _who(runtime: Runtime) -> str:
    """The node, as others see it."""
    place = next((node.place for node in await runtime.store.nodes() if node.id == runtime.kernel.node), "?")
    return f"{runtime.kernel.node} ({place})"


async def _idle(runtime: Runtime) -> None:
    """Idle, and no timer due within a second: who is about to go on is not left behind. Five seconds at most."""
    await _others_heard(runtime)
    clock = runtime.kernel.clock
    latest = clock.monotonic() + _SHORT_TIMERS_SECONDS
    while True:
        await runtime.idle()
        due = await runtime.store.next_due(runtime.kernel.leases.shards)
        seconds = (due - clock.now_us()) / 1e6 if due is not None else _SHORT_TIMERS_SECONDS
        if seconds > _SHORT_TIMER_SECONDS or clock.monotonic() > latest:
            return
        await asyncio.sleep(max(seconds, 0.01))


async def _others_heard(runtime: Runtime) -> None:
    """Return when all other nodes were heard of, or what they left behind is owned: two leases at most.

    Where the store cannot see that a node died, its shards look owned until their leases run out.
    """
    from perdure.views.standing import agent_of

    store, names = runtime.store, set(runtime.agents.names())
    before = {node.id: node.expires for node in await store.nodes() if node.id != runtime.kernel.node}
    with suppress(TimeoutError):
        async with asyncio.timeout(2 * runtime.settings.lease_seconds):
            while not runtime.kernel.leases.complete:
                silent = any(node.alive and before.get(node.id) == node.expires for node in await store.nodes())
                free = any(not shard.alive for shard in await store.shards() if agent_of(shard.name) in names)
                if not silent and not free:
                    return
                await asyncio.sleep(_LOOK_SECONDS)


def _note_state_changes(run: str, events: list[Event]) -> None:
    from perdure.cli.lines import STATE, line

    for event in events:
        if event.type in STATE:
            note(f"{event.time[11:19]} {run} {line(event)}")


def _print_events(_: str, events: list[Event]) -> None:
    from perdure.cli.output import print_line

    for event in events:
        print_line(event.as_json())
