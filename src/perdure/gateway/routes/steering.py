"""Steering: start runs, send messages, pause, resume, cancel, retry, fork, settle what nobody knows; singly and in bulk."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from perdure.gateway import schemas
from perdure.gateway.access.principal import Scope
from perdure.gateway.endpoint import NO_BODY, Answer, Call, Section
from perdure.gateway.problems import Problem, problem_of
from perdure.gateway.routes.runs import result_within
from perdure.kernel.branches import UNCHANGED
from perdure.store.contract import RunFilter
from perdure.values.runs import RunStatus

steering = Section("Steering", "Start runs, and say how they are to go on. What is answered with 2xx is recorded.")

_PAGE = 500
_KEY_MOST = 255
_KEY_SCHEMA = {"type": "string", "minLength": 1, "maxLength": _KEY_MOST, "pattern": r"^[\x21-\x7e]+$"}


@steering.post(
    "/v1/agents/{agent}/runs", scope=Scope.OPERATOR, answers={201: schemas.RunDetail}, query=schemas.StartQuery,
    body=object, body_optional=True, headers={"Idempotency-Key": _KEY_SCHEMA}, problems=(404, 409),
)  # fmt: skip
async def start_run(call: Call) -> Answer:
    """Start a run; the body is its input: the value itself for an agent of one parameter, an object for several.

    It is durable when this answers. With `Idempotency-Key`, starting twice with the same key and input gives the same run.
    With `wait`, the answer comes when the run has ended, or after so many seconds.
    """
    runtime, query = call.gateway.runtime, call.query
    options = {
        "session": query.session, "idempotency_key": _idempotency_key(call), "priority": query.priority,
        "concurrency_key": query.concurrency_key, "busy": query.busy,
    }  # fmt: skip
    agent = runtime.agents.latest(call.path["agent"])
    if agent is not None and call.body is NO_BODY:
        handle = await runtime.start(agent, **options)
    else:
        handle = await runtime.start_json(call.path["agent"], None if call.body is NO_BODY else call.body, **options)
    if query.wait:
        await result_within(call, await runtime.find(handle.id), query.wait)
    shown = await call.gateway.shown.detail(await runtime.find(handle.id))
    return Answer(shown, 201, {"Location": f"{call.gateway.settings.prefix}/v1/runs/{handle.id}"})


@steering.post(
    "/v1/runs/{run}/messages", scope=Scope.OPERATOR, body=schemas.Message, answers={202: schemas.Run}, problems=(404, 409)
)  # fmt: skip
async def send_message(call: Call) -> Answer:
    """Send a message to a run: it reaches `ctx.receive(topic)`, now or whenever the agent asks for it."""
    await call.gateway.runtime.send(call.path["run"], call.body.topic, call.body.value)
    return await _row(call)


@steering.post(
    "/v1/runs/{run}/pause", scope=Scope.OPERATOR, body=schemas.Pause, body_optional=True, answers={202: schemas.Run},
    problems=(404, 409),
)  # fmt: skip
async def pause_run(call: Call) -> Answer:
    """Stop a run from moving until it is resumed; what is in flight may end."""
    await call.gateway.runtime.pause(call.path["run"], by=call.principal.name, note=call.body.note)
    return await _row(call)


@steering.post(
    "/v1/runs/{run}/resume", scope=Scope.OPERATOR, body=schemas.Nothing, body_optional=True,
    answers={202: schemas.Run}, problems=(404, 409),
)  # fmt: skip
async def resume_run(call: Call) -> Answer:
    """Let a paused run go on."""
    await call.gateway.runtime.resume(call.path["run"], by=call.principal.name)
    return await _row(call)


@steering.post(
    "/v1/runs/{run}/cancel", scope=Scope.OPERATOR, body=schemas.Cancel, body_optional=True,
    answers={202: schemas.Run}, problems=(404, 409),
)  # fmt: skip
async def cancel_run(call: Call) -> Answer:
    """Cancel a run and its children; its clean-up code runs."""
    await call.gateway.runtime.cancel(call.path["run"], by=call.principal.name, reason=call.body.reason)
    return await _row(call)


@steering.post(
    "/v1/runs/{run}/retry", scope=Scope.OPERATOR, body=schemas.Retry, body_optional=True,
    answers={200: schemas.RunDetail, 201: schemas.RunDetail}, problems=(404, 409),
)  # fmt: skip
async def retry_run(call: Call) -> Answer:
    """Try again what did not work out: a quarantined run is released (200); one that has ended goes on as a fork (201)."""
    runtime = call.gateway.runtime
    before = await runtime.find(call.path["run"])
    handle = await runtime.retry(before.id, from_step=call.body.from_step)
    shown = await call.gateway.shown.detail(await runtime.find(handle.id))
    return Answer(shown, 200 if handle.id == before.id else 201)


@steering.post(
    "/v1/runs/{run}/fork", scope=Scope.OPERATOR, body=schemas.Fork, answers={201: schemas.RunDetail},
    problems=(404, 409),
)  # fmt: skip
async def fork_run(call: Call) -> Answer:
    """A new run that shares this one's journal before step `at`, and goes on live from there: it may spend and act."""
    runtime, body = call.gateway.runtime, call.body
    result = body.result if "result" in body.model_fields_set else UNCHANGED
    if result is not UNCHANGED and not call.principal.may(Scope.APPROVER):
        # It may stand for what a person would have answered.
        raise Problem(403, f"saying what a step brought needs scope {Scope.APPROVER}, too", error="Forbidden")
    handle = await runtime.fork(call.path["run"], at=body.at, input=body.input, result=result)
    return Answer(await call.gateway.shown.detail(await runtime.find(handle.id)), 201)


@steering.post(
    "/v1/runs/{run}/resolve", scope=Scope.OPERATOR, body=schemas.Resolve, answers={202: schemas.Run},
    problems=(404, 409),
)  # fmt: skip
async def resolve_step(call: Call) -> Answer:
    """Say what became of a step of unknown outcome: it happened (with this result), run it again, or it failed."""
    body = call.body
    await call.gateway.runtime.resolve(
        call.path["run"], body.step, body.outcome, result=body.result, by=call.principal.name
    )
    return await _row(call)


@steering.post("/v1/bulk/runs", scope=Scope.OPERATOR, body=schemas.BulkRuns, answers=schemas.Outcomes)
async def steer_runs(call: Call) -> Answer:
    """The same for many runs. Each succeeds or fails by itself; a run that ended meanwhile is told as a problem."""
    body: schemas.BulkRuns = call.body
    ids = list(body.ids) if "ids" in body.model_fields_set else [id async for id in _matching(call, body)]
    return Answer({"items": [await _steer(call, id, body) for id in ids]})


async def _steer(call: Call, id: str, body: schemas.BulkRuns) -> dict[str, Any]:
    runtime, by = call.gateway.runtime, call.principal.name
    try:
        match body.action:
            case "pause":
                await runtime.pause(id, by=by, note=body.note)
            case "resume":
                await runtime.resume(id, by=by)
            case "cancel":
                await runtime.cancel(id, by=by, reason=body.note)
            case "retry":
                await runtime.retry(id)
    except Exception as error:
        problem = problem_of(error)
        if problem.status >= 500:
            raise
        return {"id": id, "ok": False, "problem": problem.as_json()}
    return {"id": id, "ok": True, "problem": None}


async def _matching(call: Call, body: schemas.BulkRuns) -> AsyncIterator[str]:
    statuses, before = _statuses(body), None
    while statuses:
        which = body.filter
        page = await call.gateway.runtime.runs(
            RunFilter(which.agent, which.session, statuses, which.parent, before=before, limit=_PAGE)
        )
        for run in page:
            yield run.id
        if len(page) < _PAGE:
            return
        before = page[-1].id


def _statuses(body: schemas.BulkRuns) -> tuple[RunStatus, ...]:
    """What an action is about, of what was asked for."""
    if body.action == "retry":
        about = (RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.QUARANTINED)
        usual = (RunStatus.FAILED, RunStatus.QUARANTINED)
        return tuple(status for status in body.filter.status or usual if status in about)
    return tuple(status for status in body.filter.status or RunStatus if not status.terminal)


def _idempotency_key(call: Call) -> str | None:
    key = call.header("idempotency-key")
    if key is not None and not (0 < len(key) <= _KEY_MOST and key.isascii() and key.isprintable() and " " not in key):
        raise Problem(400, f"Idempotency-Key has 1 to {_KEY_MOST} visible ASCII characters")
    return key


async def _row(call: Call) -> Answer:
    return Answer(await call.gateway.shown.row(await call.gateway.runtime.find(call.path["run"])), 202)
