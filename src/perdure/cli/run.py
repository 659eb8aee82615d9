"""`run`: start an agent and see it through, with a worker in this very process."""

from __future__ import annotations

import asyncio
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import click

from perdure.cli import exits
from perdure.cli.compute import ray_option
from perdure.cli.load import Agents, load_agents, split_target
from perdure.cli.options import JSON, Given, execute, json_option, store_option
from perdure.cli.output import note, paint, print_json
from perdure.cli.stopping import stop_signals

if TYPE_CHECKING:
    from perdure.agents.agent import AnyAgent
    from perdure.cli.progress import Display
    from perdure.runtime import RunHandle, Runtime
    from perdure.values.events import Event
    from perdure.views.why import Why


@click.command("run", short_help="Run an agent and print its result.")
@click.argument("target", metavar="FILE.py:AGENT")
@click.argument("input", type=JSON, required=False, metavar="[JSON|@FILE|-]")
@click.option("--session", metavar="KEY", help="The session whose state it uses; one run at a time.")
@click.option("--key", metavar="KEY", help="Idempotency key: starting twice with it gives the same run.")
@click.option("--priority", type=click.IntRange(-1_000_000, 1_000_000), help="Higher goes first.")
@click.option("--detach", is_flag=True, help="Record the run, print its id, let a worker run it.")
@click.option("--no-wait", is_flag=True, help="Stop with exit code 3 when it waits for something from outside.")
@ray_option
@store_option
@json_option
def run(
    target: str, input: Given | None, session: str | None, key: str | None, priority: int | None, *, detach: bool,
    no_wait: bool, ray: str | None, store: str, as_json: bool,
) -> int:  # fmt: skip
    """Run an agent; print its result as JSON.

    \b
      perdure run shop.py:buyer '["pen", "ink"]' --session acme
      perdure run shop.py:buyer @order.json --no-wait

    The agent's name may be left out where the file defines one. One parameter takes the JSON value itself, several
    take an object by name. Results go to stdout, progress to stderr. It waits until the run ends; people may answer
    from anywhere. Ctrl-C stops in good order: the run goes on with `perdure work FILE.py`.
    """
    if detach and no_wait:
        raise click.UsageError("--detach does not run anything, so there is nothing for --no-wait to wait for")
    file, name = split_target(target)
    loaded = load_agents(file)
    start = _Start(loaded, loaded.named(name), input, session, key, priority)
    if detach:
        return execute(_record(start, store, as_json=as_json))
    return execute(_run(start, store, ray, no_wait=no_wait, as_json=as_json))


class _Start:
    """What is to be started."""

    def __init__(
        self, loaded: Agents, agent: AnyAgent, input: Given | None, session: str | None, key: str | None,
        priority: int | None,
    ) -> None:  # fmt: skip
        self.loaded = loaded
        self.agent = agent
        self._input = input
        self._options: dict[str, Any] = {"session": session, "idempotency_key": key, "priority": priority}

    async def __call__(self, runtime: Runtime) -> RunHandle[Any]:
        if self._input is None:
            return await runtime.start(self.agent, **self._options)
        return await runtime.start_json(self.agent, self._input.value, **self._options)


async def _record(start: _Start, store: str, *, as_json: bool) -> int:
    from perdure.runtime import Runtime
    from perdure.views.why import Explainer

    async with Runtime(store, start.loaded.agents, work=False) as runtime:
        handle = await start(runtime)
        row = await handle.status()
        if as_json:
            print_json({"id": row.id, "status": row.status})
        else:
            click.echo(row.id)
        if not (await Explainer.look(runtime)).has_worker(row):
            note(f"recorded; no worker has agent {row.agent}; run: perdure work {start.loaded.file}")
    return exits.OK


async def _run(start: _Start, store: str, ray: str | None, *, no_wait: bool, as_json: bool) -> int:
    from perdure.cli.progress import display
    from perdure.runtime import Runtime
    from perdure.values.settings import Settings

    async with Runtime(store, start.loaded.agents, settings=Settings(ray=ray)) as runtime:
        handle = await start(runtime)
        with stop_signals() as stopped, display(quiet=as_json) as screen:
            note(f"{handle.id} {start.agent.name}")
            watch = _Watch(runtime, handle.id, screen)
            end = await watch.until_end(stopped, no_wait=no_wait, ask_here=_at_terminal() and not as_json)
        if end is None:
            return await _say_parked(runtime, watch, start.loaded.file, as_json=as_json)
        return _say_end(end, as_json=as_json)


class _Watch:
    """Follows a run, and the runs that continue it, to the end."""

    def __init__(self, runtime: Runtime, run: str, screen: Display) -> None:
        self.run = run
        #: why it was left before its end, or None when somebody pressed Ctrl-C
        self.parked: Why | None = None
        self._runtime = runtime
        self._screen = screen

    async def until_end(self, stopped: asyncio.Event, *, no_wait: bool, ask_here: bool) -> Event | None:
        """The last event, or None when somebody stops us or (with `no_wait`) the run waits for the outside."""
        end = asyncio.create_task(self._end())
        others: list[asyncio.Task[Any]] = [asyncio.create_task(stopped.wait())]
        if no_wait:
            others.append(asyncio.create_task(self._until_parked()))
        elif ask_here:
            from perdure.cli.prompt import settle_as_they_come

            others.append(asyncio.create_task(settle_as_they_come(self._runtime, lambda: self.run, self._screen.hide)))
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
            async with aclosing(self._runtime.events(self.run)) as events:  # type: ignore[type-var]
                async for event in events:
                    self._screen.show(event)
            if event.type != "run.continued":
                return event
            self.run = event.data["run"]

    async def _until_parked(self) -> None:
        from perdure.cli.parked import until_parked

        self.parked = await until_parked(self._runtime, lambda: self.run)


async def _say_parked(runtime: Runtime, watch: _Watch, file: str, *, as_json: bool) -> int:
    from perdure.values.clock import SystemClock
    from perdure.views.why import Explainer, commands_for, open_asks

    row = await runtime.find(watch.run)
    explainer = await Explainer.look(runtime)
    why = watch.parked or await explainer.why(row, SystemClock().now_us())
    if as_json:
        print_json({"id": row.id, "status": row.status, "reason": why.reason, "wait": why.wait})
    note(paint(f"{row.id} is {row.status}" + (f": {why.reason}" if why.reason else ""), "yellow", err=True))
    commands = commands_for(row, await open_asks(runtime, row), alive=True) if watch.parked else []
    settling = [command for command in commands if not command.startswith("perdure events")]
    for command in [*settling[:3], f"perdure work {file}"]:
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
