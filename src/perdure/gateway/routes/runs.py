"""Runs: list them, look at one, follow its journal, compare two."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp

from perdure.errors import RunCancelled, RunFailed
from perdure.gateway import schemas
from perdure.gateway.access.principal import Scope
from perdure.gateway.endpoint import Answer, Call, Section
from perdure.gateway.events import matches
from perdure.gateway.problems import Problem
from perdure.journal.diff import diff_timelines
from perdure.journal.timeline import read_timeline
from perdure.kernel.portable import export_lines
from perdure.runtime import RunHandle
from perdure.store.contract import RunFilter
from perdure.values.clock import from_iso
from perdure.values.events import Event
from perdure.values.runs import Run

runs = Section("Runs", "What agents do: where each stands, why it is not moving, and what happened.")

#: Pages read for one answer that filters events.
_PAGES_MOST = 20
_PAGE = 1_000
_LAST_EVENT_ID = {"type": "string", "pattern": "^[0-9]{1,15}$"}


@runs.get("/v1/runs", scope=Scope.VIEWER, answers=schemas.Runs, query=schemas.RunQuery)
async def list_runs(call: Call) -> Answer:
    """Runs that match, newest first, each with the reason why it is not moving."""
    query: schemas.RunQuery = call.query
    found = await call.gateway.runtime.runs(
        RunFilter(
            agent=query.agent, session=query.session, statuses=query.status, parent=query.parent,
            since=_moment("since", query.since), until=_moment("until", query.until), before=query.cursor,
            limit=query.limit,
        )
    )  # fmt: skip
    following = found[-1].id if len(found) == query.limit else None
    return Answer({"items": await call.gateway.shown.rows(found), "next": following})


@runs.get("/v1/runs/{run}", scope=Scope.VIEWER, answers=schemas.RunDetail, problems=(404,))
async def one_run(call: Call) -> Answer:
    """One run: where it stands, why it is not moving, what it was given and what it brought."""
    return Answer(await call.gateway.shown.detail(await _run(call)))


@runs.get(
    "/v1/runs/{run}/result", scope=Scope.VIEWER, answers={200: schemas.Result, 202: schemas.Result},
    query=schemas.WaitQuery, problems=(404,),
)  # fmt: skip
async def run_result(call: Call) -> Answer:
    """How the run ended; with `wait`, as soon as it has. 202 says why it has not. Of a run that continued, the last one's."""
    return await result_within(call, await _run(call), call.query.wait)


@runs.get("/v1/runs/{run}/steps", scope=Scope.VIEWER, answers=schemas.Steps, problems=(404,))
async def run_steps(call: Call) -> Answer:
    """What the run did, step by step."""
    steps = read_timeline(await call.gateway.runtime.journal((await _run(call)).id))
    return Answer({"items": [step.as_json() for step in steps], "next": None})


@runs.get(
    "/v1/runs/{run}/events", scope=Scope.VIEWER, query=schemas.EventQuery, headers={"Last-Event-ID": _LAST_EVENT_ID},
    answers={200: schemas.Events, 204: None}, problems=(404,),
)  # fmt: skip
async def run_events(call: Call) -> Answer | ASGIApp:
    """The run's journal: a page as JSON, or with `Accept: text/event-stream` all of it, live, until its last event.

    A stream numbers its events: a reader that comes back with `Last-Event-ID` (or `?after=`) misses and repeats nothing.
    204 then says that there is nothing more to come.
    """
    run, query = await _run(call), call.query
    if "text/event-stream" not in (call.header("accept") or ""):
        return await _page(call, run, query.after, query.limit, query.type)
    after = _last_event_id(call.header("last-event-id"), query.after)
    if run.status.terminal and after >= run.seq:
        return Response(status_code=204)
    hold = partial(call.gateway.access.held_open, call.headers)
    return call.gateway.streams.follow(run.id, after, query.type, hold)


@runs.get(
    "/v1/runs/{run}/journal", scope=Scope.VIEWER, answers={200: "application/jsonl"}, problems=(404,)
)  # fmt: skip
async def run_journal(call: Call) -> ASGIApp:
    """The run as a file, as `perdure export` writes it and `perdure import` reads it."""
    run = await _run(call)
    lines = export_lines(run, await call.gateway.runtime.journal(run.id))
    headers = {"Content-Disposition": f'attachment; filename="{run.id}.jsonl"'}
    return Response("".join(f"{line}\n" for line in lines), media_type="application/jsonl", headers=headers)


@runs.get("/v1/diff", scope=Scope.VIEWER, answers=schemas.Diff, query=schemas.DiffQuery, problems=(404,))
async def diff_runs(call: Call) -> Answer:
    """Two runs side by side, aligned step by step."""
    runtime, shown = call.gateway.runtime, call.gateway.shown
    left, right = [await runtime.find(id) for id in (call.query.left, call.query.right)]
    steps = [read_timeline(await runtime.journal(run.id)) for run in (left, right)]
    return Answer({
        "left": await shown.detail(left), "right": await shown.detail(right),
        "steps": [pair.as_json() for pair in diff_timelines(*steps)],
    })  # fmt: skip


async def result_within(call: Call, run: Run, seconds: float) -> Answer:
    """How `run` ended, if it does within `seconds`; else why it has not."""
    runtime = call.gateway.runtime
    # Longer than nothing, so that what is there already is read.
    patience = max(seconds, 0.5 if run.status.terminal else 0.01)
    with suppress(TimeoutError):
        try:
            result = await _ended(call, await runtime.run(run.id), patience)
        except RunFailed as error:
            message = str(error).removeprefix(f"{error.type}: ")
            return Answer({"id": run.id, "status": "failed", "error": {"type": error.type, "message": message}})
        except RunCancelled as error:
            error_json = {"type": "RunCancelled", "message": str(error)}
            return Answer({"id": run.id, "status": "cancelled", "error": error_json})
        return Answer({"id": run.id, "status": "succeeded", "result": result})
    row = await call.gateway.shown.row(await runtime.find(run.id))
    return Answer({name: row[name] for name in ("id", "status", "reason", "wait")}, 202)


async def _ended(call: Call, handle: RunHandle[Any], seconds: float) -> Any:
    """The result. Raises what `result()` raises, and TimeoutError also when the server is about to end."""
    ending = asyncio.ensure_future(handle.result(timeout=seconds))
    closing = asyncio.ensure_future(call.gateway.streams.closed.wait())
    try:
        await asyncio.wait((ending, closing), return_when=asyncio.FIRST_COMPLETED)
        if not ending.done():
            raise TimeoutError
        return ending.result()
    finally:
        for future in (ending, closing):
            future.cancel()
        await asyncio.gather(ending, closing, return_exceptions=True)


async def _run(call: Call) -> Run:
    return await call.gateway.runtime.find(call.path["run"])


async def _page(call: Call, run: Run, after: int, limit: int, types: Sequence[str]) -> Answer:
    found: list[Event] = []
    page: list[Event] = []
    for _ in range(_PAGES_MOST if types else 1):
        page = await call.gateway.runtime.store.events(run.id, after, _PAGE if types else limit)
        wanted = [event for event in page if matches(event.type, types)][: limit - len(found)]
        found += wanted
        full = len(found) == limit
        after = found[-1].seq if full and found else page[-1].seq if page else after
        if full or not page:
            break
    return Answer({"items": [event.as_json() for event in found], "next": after if page else None})


def _last_event_id(header: str | None, after: int) -> int:
    if header is None:
        return after
    if not header.isascii() or not header.isdigit() or len(header) > 15:
        raise Problem(400, f"Last-Event-ID is the number of an event, not {header[:40]!r}")
    return int(header)


def _moment(name: str, text: str | None) -> int | None:
    try:
        return None if text is None else from_iso(text)
    except (ValueError, OverflowError):
        raise Problem(400, f"{name} is a moment such as 2026-01-31T12:00:00Z, not {text!r}") from None
