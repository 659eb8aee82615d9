"""`run`: start an agent and see it through, with a worker in this very process."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AbstractAsyncContextManager, aclosing
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from perdure.cli import exits
from perdure.cli.compute import ray_option
from perdure.cli.load import Agents, load_agents, split_target
from perdure.cli.options import JSON, Given, Place, client, execute, json_option, place_options
from perdure.cli.output import note, paint, print_json
from perdure.cli.stopping import stop_signals

if TYPE_CHECKING:
    from perdure.agents.agent import AnyAgent
    from perdure.cli.progress import Display
    from perdure.cli.reach import Reach
    from perdure.client.service import Handle
    from perdure.values.events import Event
    from perdure.views.why import Why


@click.command("run", short_help="Run an agent and print its result.")
@click.argument("target", metavar="FILE.py:AGENT|AGENT")
@click.argument("input", type=JSON, required=False, metavar="[JSON|@FILE|-]")
@click.option("--session", metavar="KEY", help="The session whose state it uses; one run at a time.")
@click.option("--key", metavar="KEY", help="Idempotency key: starting twice with it gives the same run.")
@click.option("--priority", type=click.IntRange(-1_000_000, 1_000_000), help="Higher goes first.")
@click.option("--detach", is_flag=True, help="Record the run, print its id, let a worker run it.")
@click.option("--no-wait", is_flag=True, help="Stop with exit code 3 when it waits for something from outside.")
@ray_option
@place_options
@json_option
def run(
    target: str, input: Given | None, session: str | None, key: str | None, priority: int | None, *, detach: bool,
    no_wait: bool, ray: str | None, place: Place, as_json: bool,
) -> int:  # fmt: skip
    """Run an agent; print its result as JSON.

    \b
      perdure run shop.py:buyer '["pen", "ink"]' --session acme
      perdure run shop.py:buyer @order.json --no-wait
      perdure run buyer '["pen"]' --server http://127.0.0.1:8420

    The agent's name may be left out where the file defines one. One parameter takes the JSON value itself, several
    take an object by name. Results go to stdout, progress to stderr. It waits until the run ends; people may answer
    from anywhere. Ctrl-C stops in good order: the run goes on with `perdure work FILE.py`. With --server an agent of the
    server runs there, and goes on whoever watches.
    """
    if detach and no_wait:
        raise click.UsageError("--detach does not run anything, so there is nothing for --no-wait to wait for")
    if place.server and click.get_current_context().get_parameter_source("ray") is ParameterSource.COMMANDLINE:
        raise click.UsageError("--ray is for steps that run here; those of a server run as that was started")
    options: dict[str, Any] = {"session": session, "idempotency_key": key, "priority": priority}
    start = _start_there(target, input, options) if place.server else _start_here(target, input, options)
    if detach:
        return execute(_record(start, place, as_json=as_json))
    return execute(_run(start, place, ray, no_wait=no_wait, as_json=as_json))


def _start_here(target: str, input: Given | None, options: dict[str, Any]) -> _Start:
    file, name = split_target(target)
    loaded = load_agents(file)
    return _Start(loaded.named(name), input, options, loaded)


def _start_there(target: str, input: Given | None, options: dict[str, Any]) -> _Start:
    file, name = split_target(target)
    if name is not None or file.endswith(".py"):
        raise click.UsageError(f"a server runs its own agents: name one of them, not {target}; or name a --store")
    return _Start(target, input, options, None)


class _Start:
    """What is to be started."""

    def __init__(
        self, agent: AnyAgent | str, input: Given | None, options: dict[str, Any], loaded: Agents | None
    ) -> None:  # fmt: skip
        self.name = agent if isinstance(agent, str) else agent.name
        #: the code that this process runs, or None where a server has it
        self.loaded = loaded
        self._agent = agent
        self._input = input
        self._options = options

    def reach(self, place: Place, ray: str | None = None, *, work: bool = True) -> AbstractAsyncContextManager[Reach]:
        """The way to `place`; to a store, with a worker in this process."""
        if self.loaded is None:
            return client(place)
        from perdure.cli.here import Here
        from perdure.triggers.triggers import Triggers
        from perdure.values.settings import Settings

        here = Here(place.store, self.loaded.agents, work=work, settings=Settings(ray=ray))
        Triggers(here).tell()
        return here

    async def __call__(self, reach: Reach) -> Handle[Any]:
        if self._input is not None:
            return await reach.start_json(self._agent, self._input.value, **self._options)
        if isinstance(self._agent, str):
            return await reach.start_json(self._agent, {}, **self._options)
        return await reach.start(self._agent, **self._options)


async def _record(start: _Start, place: Place, *, as_json: bool) -> int:
    async with start.reach(place, work=False) as reach:
        handle = await start(reach)
        row = await handle.status()
        if as_json:
            print_json({"id": row.id, "status": row.status})
        else:
            click.echo(row.id)
        if not (await reach.reasons()).has_worker(row):
            file = start.loaded.file if start.loaded is not None else "FILE.py"
            note(f"recorded; no worker has agent {row.agent}; run: perdure work {file}")
    return exits.OK


async def _run(start: _Start, place: Place, ray: str | None, *, no_wait: bool, as_json: bool) -> int:
    from perdure.cli.progress import display

    async with start.reach(place, ray) as reach:
        handle = await start(reach)
        with stop_signals() as stopped, display(quiet=as_json) as screen:
            note(f"{handle.id} {start.name}")
            watch = _Watch(reach, handle.id, screen)
            end = await watch.until_end(stopped, no_wait=no_wait, ask_here=_at_terminal() and not as_json)
        if end is None:
            file = start.loaded.file if start.loaded is not None else None
            return await _say_parked(reach, watch, file, as_json=as_json)
        return _say_end(end, as_json=as_json)


class _Watch:
    """Follows a run, and the runs that continue it, to the end."""

    def __init__(self, reach: Reach, run: str, screen: Display) -> None:
        self.run = run
        #: why it was left before its end, or None when somebody pressed Ctrl-C
        self.parked: Why | None = None
        self._reach = reach
        self._screen = screen

    async def until_end(self, stopped: asyncio.Event, *, no_wait: bool, ask_here: bool) -> Event | None:
        """The last event, or None when somebody stops us or (with `no_wait`) the run waits for the outside."""
        end = asyncio.create_task(self._end())
        others: list[asyncio.Task[Any]] = [asyncio.create_task(stopped.wait())]
        if no_wait:
            others.append(asyncio.create_task(self._until_parked()))
        elif ask_here:
            from perdure.cli.prompt import settle_as_they_come

            others.append(asyncio.create_task(settle_as_they_come(self._reach, lambda: self.run, self._screen.hide)))
        try:
            done, _ = await asyncio.wait([end, *others], return_when=asyncio.FIRST_COMPLETED)
            if end in done:
                return end.result()
            for task in done:
                task.result()
            return None
        finally:
            for task in (end, *others):
                task.cancel()
            await asyncio.gather(end, *others, return_exceptions=True)

    async def _end(self) -> Event:
        while True:
            async with aclosing(self._reach.events(self.run)) as events:  # type: ignore[type-var]
                async for event in events:
                    self._screen.show(event)
            if event.type != "run.continued":
                return event
            self.run = event.data["run"]

    async def _until_parked(self) -> None:
        from perdure.cli.parked import until_parked

        self.parked = await until_parked(self._reach, lambda: self.run)


async def _say_parked(reach: Reach, watch: _Watch, file: str | None, *, as_json: bool) -> int:
    from perdure.values.clock import SystemClock
    from perdure.views.why import commands_for, open_asks

    row = await reach.find(watch.run)
    reasons = await reach.reasons()
    why = watch.parked or await reasons.why(row, SystemClock().now_us())
    if as_json:
        print_json({"id": row.id, "status": row.status, "reason": why.reason, "wait": why.wait})
    note(paint(f"{row.id} is {row.status}" + (f": {why.reason}" if why.reason else ""), "yellow", err=True))
    commands = commands_for(row, await open_asks(reach, row), alive=True) if watch.parked else []
    settling = [command for command in commands if not command.startswith("perdure events")]
    going_on = f"perdure events {row.id} --follow" if file is None else f"perdure work {file}"
    for command in [*settling[:3], going_on]:
        note(f"  {command}")
    return exits.WAITING


def _say_end(end: Event, *, as_json: bool) -> int:
    from perdure.cli.lines import line

    data = end.data
    status, code = _ENDS[end.type]
    if as_json:
        shown = {"error": _error_of(end)} if "result" not in data else {"result": data["result"]}
        print_json({"id": end.run, "status": status, **shown})
    elif code == exits.OK:
        print_json(data["result"])
    else:
        note(paint(f"{end.run} {line(end)}", "red", err=True))
        note(f"  perdure show {end.run}")
    return code


def _error_of(end: Event) -> dict[str, Any]:
    if end.type == "run.failed":
        error: dict[str, Any] = end.data["error"]
        return error
    return {"type": "RunCancelled", "message": end.data.get("reason") or "the run was cancelled"}


_ENDS = {
    "run.succeeded": ("succeeded", exits.OK),
    "run.failed": ("failed", exits.FAILED),
    "run.cancelled": ("cancelled", exits.CANCELLED),
}


def _at_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()
