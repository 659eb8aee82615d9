"""`pause`, `resume`, `cancel`, `retry`, `resolve`: how people move runs, or stop them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import click

from perdure.cli import exits
from perdure.cli.look import STATUSES
from perdure.cli.options import JSON, Given, Place, client, execute, json_option, person, place_options
from perdure.cli.output import note, print_json
from perdure.errors import AlreadySettled, InvalidInput, PerdureError

if TYPE_CHECKING:
    from perdure.cli.effect import Effect
    from perdure.cli.reach import Reach
    from perdure.values.runs import Run

F = TypeVar("F", bound=Callable[..., Any])
_PAGE = 500
#: Each run that is watched on a server takes a connection.
_WATCHED_MOST = 100


def _which_runs(function: F) -> F:
    """RUN..., or a filter."""
    for option in (
        click.option("--all", "everything", is_flag=True, help="Every run that has not ended."),
        click.option("--status", "statuses", multiple=True, type=click.Choice(STATUSES), help="Runs in this status."),
        click.option("--session", metavar="KEY", help="Runs of this session."),
        click.option("--agent", metavar="NAME", help="Runs of this agent."),
        click.argument("ids", nargs=-1, metavar="[RUN]..."),
    ):
        function = option(function)
    return function


@click.command("pause", short_help="Stop runs from moving until resumed.")
@_which_runs
@click.option("--note", metavar="TEXT", help="Why.")
@place_options
@json_option
def pause(note: str | None, place: Place, *, as_json: bool, **which: Any) -> int:
    """Stop runs from moving until they are resumed; steps under way may end.

    \b
      perdure pause RUN
      perdure pause --agent buyer
    """

    def act(reach: Reach, id: str) -> Coroutine[Any, Any, None]:
        return reach.pause(id, by=person(), note=note)

    return execute(_steer(act, which, place, "run.paused", as_json=as_json))


@click.command("resume", short_help="Let paused runs go on.")
@_which_runs
@place_options
@json_option
def resume(place: Place, *, as_json: bool, **which: Any) -> int:
    """Let paused runs go on."""

    def act(reach: Reach, id: str) -> Coroutine[Any, Any, None]:
        return reach.resume(id, by=person())

    return execute(_steer(act, which, place, "run.resumed", as_json=as_json))


@click.command("cancel", short_help="Cancel runs and their children; clean-up code runs.")
@_which_runs
@click.option("--reason", metavar="TEXT", help="Why; the journal keeps it.")
@place_options
@json_option
def cancel(reason: str | None, place: Place, *, as_json: bool, **which: Any) -> int:
    """Cancel runs and their children; their clean-up code runs."""

    def act(reach: Reach, id: str) -> Coroutine[Any, Any, None]:
        return reach.cancel(id, by=person(), reason=reason)

    return execute(_steer(act, which, place, as_json=as_json))


@click.command("retry", short_help="Try again what failed or was parked.")
@click.argument("run")
@click.option("--from", "from_step", type=click.IntRange(1), metavar="STEP", help="Go on from this step, as a fork.")
@place_options
@json_option
def retry(run: str, from_step: int | None, place: Place, *, as_json: bool) -> int:
    """Try again what did not work out, and print the id of the run that goes on.

    A quarantined run is released and goes on itself. A failed or cancelled one has ended for good: a fork of it goes
    on from its last failed step, or from STEP. Steps before that are not repeated; one of which nobody knows whether it
    happened is settled first: by its probe, or with `perdure resolve`.
    """
    return execute(_retry(run, from_step, place, as_json=as_json))


@click.command("resolve", short_help="Say what became of a step of unknown outcome.")
@click.argument("run")
@click.argument("step", type=click.IntRange(1))
@click.option("--happened", type=JSON, metavar="JSON", help="It happened, with this result.")
@click.option("--run-again", is_flag=True, help="It did not happen: do it.")
@click.option("--fail", is_flag=True, help="It counts as failed: the agent gets UnknownOutcome.")
@place_options
@json_option
def resolve(
    run: str, step: int, happened: Given | None, place: Place, *, run_again: bool, fail: bool, as_json: bool
) -> int:
    """Say what became of a step that was in flight when its worker died.

    \b
      perdure resolve RUN 3 --happened '"order-17"'
      perdure resolve RUN 3 --run-again
    """
    chosen = {"happened": happened is not None, "run-again": run_again, "fail": fail}
    outcomes = [name for name, given in chosen.items() if given]
    if len(outcomes) != 1:
        raise click.UsageError("say exactly one of --happened JSON, --run-again and --fail")
    result = happened.value if happened is not None else None
    return execute(_resolve(run, step, outcomes[0], result, place, as_json=as_json))


async def _steer(
    act: Callable[[Reach, str], Coroutine[Any, Any, None]], which: dict[str, Any], place: Place, *types: str,
    as_json: bool,
) -> int:  # fmt: skip
    async with client(place) as reach:
        rows, by_name = await _chosen(reach, **which), bool(which["ids"])
        sent: list[Run] = []
        failures: list[PerdureError] = []
        for row in rows:
            try:
                await act(reach, row.id)
                sent.append(row)
            except AlreadySettled as error:
                # What a filter found may end before its turn comes; what was named should not have.
                failures += [error] if by_name else []
        effects = await _effects(reach, sent, types)
    if not sent and failures:
        raise failures[0]
    _say(effects, as_json=as_json)
    for failure in failures:
        note(f"Error: {failure}")
    return exits.FAILED if failures else exits.OK


async def _effects(reach: Reach, rows: list[Run], types: tuple[str, ...]) -> list[Effect]:
    from perdure.cli.effect import carry_out

    turn = asyncio.Semaphore(_WATCHED_MOST)

    async def watched(row: Run) -> Effect:
        async with turn:
            return await carry_out(reach, row, *types)

    return await asyncio.gather(*map(watched, rows))


async def _chosen(
    reach: Reach, ids: tuple[str, ...], agent: str | None, session: str | None, statuses: tuple[str, ...],
    *, everything: bool,
) -> list[Run]:  # fmt: skip
    from perdure.store.contract import RunFilter
    from perdure.values.runs import RunStatus

    filtered = agent is not None or session is not None or bool(statuses) or everything
    if bool(ids) == filtered:
        raise click.UsageError("name runs, or choose them with --agent, --session, --status or --all")
    if ids:
        return [await reach.find(word) for word in ids]
    wanted = tuple(RunStatus(name) for name in statuses) or tuple(RunStatus)
    moving = tuple(status for status in wanted if not status.terminal)
    found: list[Run] = []
    page: list[Run] = []
    while moving and (not found or len(page) == _PAGE):
        before = found[-1].id if found else None
        page = await reach.runs(RunFilter(agent, session, moving, before=before, limit=_PAGE))
        found += page
        if not page:
            break
    return found


def _say(effects: list[Effect], *, as_json: bool) -> None:
    if as_json:
        print_json([effect.as_json() for effect in effects])
        return
    for effect in effects:
        if effect.event is None:
            note(effect.in_words())
        else:
            click.echo(effect.in_words())
    if not effects:
        note("no run matches")


async def _retry(id: str, from_step: int | None, place: Place, *, as_json: bool) -> int:
    from perdure.cli.effect import carry_out

    async with client(place) as reach:
        before = await reach.find(id)
        handle = await reach.retry(before.id, from_step=from_step)
        forked = handle.id != before.id
        row = await handle.status()
        effect = await carry_out(reach, row if forked else before, "run.started" if forked else "run.released")
    say_new_run(effect, None if not forked else before.id, as_json=as_json)
    return exits.OK


def say_new_run(effect: Effect, origin: str | None, *, as_json: bool) -> None:
    """Print a run that was made from another one, and whether anybody will move it."""
    if as_json:
        print_json({"id": effect.run.id, "status": effect.run.status, "forked_from": origin})
        return
    click.echo(effect.run.id)
    if effect.event is None and not effect.has_worker:
        note(effect.in_words())


async def _resolve(id: str, step: int, outcome: str, result: Any, place: Place, *, as_json: bool) -> int:
    from perdure.cli.effect import carry_out

    async with client(place) as reach:
        before = await reach.find(id)
        await reach.resolve(before.id, step, outcome, result=result, by=person())
        effect = await carry_out(reach, before, "step.resolved", "run.warning")
    if effect.event is not None and effect.event.type == "run.warning":
        raise InvalidInput(f"{before.id}: {effect.event.data['message']}")
    if as_json:
        print_json({"step": step, "outcome": outcome, **effect.as_json()})
    else:
        click.echo(f"step {step} of {before.id} settled as {outcome}; {effect.in_words()}")
    return exits.OK
