"""`replay`, `fork`, `diff`, `export`, `import`: other lives of a run."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from perdure.cli import exits
from perdure.cli.load import Agents, load_agents
from perdure.cli.options import JSON, Given, Place, client, execute, json_option, place_options, store_option
from perdure.cli.output import note, paint, print_json, shorten, span
from perdure.cli.steer import say_new_run
from perdure.errors import NotFound, PerdureError

if TYPE_CHECKING:
    from perdure.agents.agent import AnyAgent
    from perdure.cli.reach import Reach
    from perdure.journal.diff import Difference
    from perdure.journal.timeline import StepRecord
    from perdure.values.runs import Run


@click.command("replay", short_help="Does this code still fit that journal? No effects.")
@click.argument("run")
@click.argument("file", metavar="FILE.py")
@place_options
@json_option
def replay(run: str, file: str, place: Place, *, as_json: bool) -> int:
    """Run the code in FILE.py against a run's journal: offline, no tool is called, nothing is written.

    Ends with 0 when the code does what the journal says, with 1 when it does not, and then says where.
    """
    return execute(_replay(run, load_agents(file), place, as_json=as_json))


@click.command("fork", short_help="A new run from an earlier step of another.")
@click.argument("run")
@click.option("--at", type=click.IntRange(1), required=True, metavar="STEP", help="The first step that is done anew.")
@click.option("--input", type=JSON, metavar="JSON", help="Another input.")
@click.option("--result", type=JSON, metavar="JSON", help="What STEP is to have brought, instead of running it.")
@place_options
@json_option
def fork(run: str, at: int, input: Given | None, result: Given | None, place: Place, *, as_json: bool) -> int:
    """Start a new run that shares another's journal before STEP and goes on live from there; print its id.

    \b
      perdure fork RUN --at 4 --result '{"approved": false}'

    Steps before STEP are not repeated. From STEP on, effects are real, and consents are asked for anew. A step before it
    of which nobody knows whether it happened is settled first: by its probe, or with `perdure resolve`.
    """
    return execute(_fork(run, at, input, result, place, as_json=as_json))


@click.command("diff", short_help="Two runs side by side, step by step.")
@click.argument("left", metavar="RUN")
@click.argument("right", metavar="RUN")
@place_options
@json_option
def diff(left: str, right: str, place: Place, *, as_json: bool) -> int:
    """Align two runs step by step: what only one has, and where arguments, results or outcomes differ."""
    return execute(_diff(left, right, place, as_json=as_json))


@click.command("export", short_help="Write a run as a file.")
@click.argument("run")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Instead of stdout.")
@place_options
@json_option
def export(run: str, out: Path | None, place: Place, *, as_json: bool) -> int:
    """Write a run as JSON Lines: about the run first, then its journal, one event a line.

    \b
      perdure export RUN > run.jsonl
    """
    return execute(_export(run, out, place, as_json=as_json))


@click.command("import", short_help="Read an exported run into this store.")
@click.argument("file", type=click.File(encoding="utf-8"), metavar="FILE|-")
@store_option
@json_option
def import_(file: TextIO, store: str, *, as_json: bool) -> int:
    """Read an exported run into this store, under its own id where that is free; print the id.

    Every line is checked first. A run that has not ended comes in paused: it is a copy to look at, to replay and to
    fork, and does not begin to act by itself.
    """
    return execute(_import(file, store, as_json=as_json))


async def _replay(id: str, loaded: Agents, place: Place, *, as_json: bool) -> int:
    from perdure.agents.context import RunInfo
    from perdure.agents.replay import replay_journal

    async with client(place) as reach:
        run = await reach.find(id)
        journal = await reach.journal(run.id)
    agent = _agent_of(run, loaded)
    began = time.perf_counter()
    about = RunInfo(run.id, run.agent, run.version, run.session, run.parent, run.attempt)
    verdict = replay_journal(agent, about, journal)
    seconds = time.perf_counter() - began
    if as_json:
        print_json({
            "run": run.id, "agent": run.agent, "version": agent.version, "matches": verdict.matches,
            "steps": verdict.steps, "seconds": round(seconds, 6), "next": verdict.next,
            "divergence": verdict.divergence,
        })  # fmt: skip
    elif verdict.matches:
        click.echo(f"{run.id} matches {loaded.file}: {verdict.steps} steps replayed in {span(seconds)}, no effects")
        if verdict.next is not None:
            click.echo(f"next it would ask for: {verdict.next}")
    else:
        click.echo(paint(f"{run.id} does not match {loaded.file}", "red"))
        click.echo(verdict.divergence)
    return exits.OK if verdict.matches else exits.FAILED


def _agent_of(run: Run, loaded: Agents) -> AnyAgent:
    named = [agent for agent in loaded.agents if agent.name == run.agent]
    if not named:
        known = ", ".join(agent.name for agent in loaded.agents)
        raise NotFound(f"{run.id} is a run of agent {run.agent!r}, but {loaded.file} defines: {known}")
    same = [agent for agent in named if agent.version == run.version]
    if not same:
        note(f"{loaded.file} has no version {run.version} of {run.agent}: replaying with version {named[-1].version}")
    return (same or named)[-1]


async def _fork(id: str, at: int, input: Given | None, result: Given | None, place: Place, *, as_json: bool) -> int:
    from perdure.cli.effect import carry_out

    async with client(place) as reach:
        run = await reach.find(id)
        changes: dict[str, Any] = {}
        if input is not None:
            changes["input"] = await _by_name(reach, run, input.value)
        if result is not None:
            changes["result"] = result.value
        handle = await reach.fork(run.id, at=at, **changes)
        effect = await carry_out(reach, await handle.status(), "run.started", "step.started")
    say_new_run(effect, run.id, as_json=as_json)
    return exits.OK


async def _by_name(reach: Reach, run: Run, value: Any) -> Any:
    # Without the agent's code only the recorded input tells what its parameters are called.
    begun = [event.data for event in await reach.journal(run.id) if event.type in ("run.queued", "run.forked")]
    last = next(data["input"] for data in reversed(begun) if "input" in data)  # a fork may have had another one
    names = list(last)
    if len(names) == 1 and not (isinstance(value, dict) and set(value) == set(names)):
        return {names[0]: value}
    if not isinstance(value, dict) or not set(value) <= set(names):
        raise click.UsageError(f"--input takes a JSON object with {', '.join(names) or 'nothing'}")
    return {**last, **value}


async def _diff(left: str, right: str, place: Place, *, as_json: bool) -> int:
    from perdure.journal.diff import diff_timelines
    from perdure.journal.timeline import read_timeline

    async with client(place) as reach:
        ours, theirs = await reach.find(left), await reach.find(right)
        timelines = [read_timeline(await reach.journal(run.id)) for run in (ours, theirs)]
    pairs = diff_timelines(*timelines)
    differing = [pair for pair in pairs if pair.fields]
    if as_json:
        alike = len(pairs) - len(differing)
        print_json({"left": ours.id, "right": theirs.id, "alike": alike, "steps": [p.as_json() for p in differing]})
        return exits.OK
    click.echo(paint(f"- {ours.id} {ours.status}", "red"))
    click.echo(paint(f"+ {theirs.id} {theirs.status}", "green"))
    for pair in differing:
        _print_difference(pair)
    click.echo(f"{len(pairs) - len(differing)} steps alike, {len(differing)} different")
    return exits.OK


def _print_difference(pair: Difference) -> None:
    for sign, colour, step in (("-", "red", pair.left), ("+", "green", pair.right)):
        if step is not None:
            shown = " ".join(f"{name}={shorten(getattr(step, name), 80)}" for name in pair.fields if name != "step")
            click.echo(paint(f"{sign} step {step.step} {step.kind} {step.name} {shown or _whole(step)}", colour))


def _whole(step: StepRecord) -> str:
    took = f" in {span(step.seconds)}" if step.seconds is not None else ""
    return f"{'' if step.args is None else shorten(step.args, 40)} {step.status}{took}".strip()


async def _export(id: str, out: Path | None, place: Place, *, as_json: bool) -> int:
    from perdure.kernel.portable import export_lines

    async with client(place) as reach:
        run = await reach.find(id)
        journal = await reach.journal(run.id)
    lines = export_lines(run, journal)
    if out is None:
        for line in lines:
            click.echo(line)
        return exits.OK
    _write(out, lines)
    if as_json:
        print_json({"run": run.id, "events": len(journal), "file": str(out)})
    else:
        note(f"{run.id}: {len(journal)} events in {out}")
    return exits.OK


def _write(out: Path, lines: Iterable[str]) -> None:
    try:
        # As the store itself: what users said and tools returned is nobody else's on this machine.
        with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
    except OSError as error:
        raise PerdureError(f"{out} was not written: {error.strerror}; name another file with --out") from error


async def _import(file: TextIO, store: str, *, as_json: bool) -> int:
    from perdure.kernel.portable import LINE_LENGTH_MAX, import_run, read_export
    from perdure.runtime import Runtime

    try:
        run, journal = read_export(iter(partial(file.readline, LINE_LENGTH_MAX + 1), ""))
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{getattr(file, 'name', 'the file')} is not UTF-8 text: {error}") from error
    async with Runtime(store, work=False) as runtime:
        new = await import_run(runtime.kernel, run, journal)
    if as_json:
        print_json({"id": new.id, "status": new.status, "events": len(journal), "imported_from": run.id})
        return exits.OK
    click.echo(new.id)
    if new.id != run.id:
        note(f"{run.id} is here already: this is a copy of it")
    if not new.status.terminal:
        note(f"it is {new.status}: {new.reason}")
    return exits.OK
