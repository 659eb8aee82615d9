"""Schedules: agents that are started by the clock."""

from __future__ import annotations

from datetime import datetime

from perdure.errors import InvalidInput
from perdure.gateway import schemas, trigger_schemas
from perdure.gateway.access.principal import Scope
from perdure.gateway.endpoint import Answer, Call, Section
from perdure.triggers.cron import Cron
from perdure.triggers.schedules import Schedule

schedules = Section("Schedules", "Cron expressions with time zones. Each slot starts one run at most.")


@schedules.get("/v1/schedules", scope=Scope.VIEWER, answers=trigger_schemas.Schedules)
async def list_schedules(call: Call) -> Answer:
    """All schedules, with what comes next and what came last."""
    now = call.gateway.runtime.kernel.clock.now_us()
    found = await call.gateway.triggers.schedules.list()
    return Answer({"items": [schedule.as_json(now) for schedule in found], "next": None})


@schedules.post(
    "/v1/schedules", scope=Scope.ADMIN, body=trigger_schemas.ScheduleBody, answers={201: trigger_schemas.Schedule}
)  # fmt: skip
async def add_schedule(call: Call) -> Answer:
    """A new schedule. Its input is checked here where this server has the agent."""
    body: trigger_schemas.ScheduleBody = call.body
    added = await call.gateway.triggers.schedules.add(
        body.name, body.agent, Cron(body.cron, body.timezone), body.input, session=body.session, paused=body.paused,
        catch_up_seconds=body.catch_up_seconds,
    )  # fmt: skip
    await call.gateway.triggers.look()
    return _shown(call, added, 201)


@schedules.get("/v1/schedules/{schedule}", scope=Scope.VIEWER, answers=trigger_schemas.Schedule, problems=(404,))
async def one_schedule(call: Call) -> Answer:
    """One schedule."""
    return _shown(call, await call.gateway.triggers.schedules.find(call.path["schedule"]))


@schedules.delete("/v1/schedules/{schedule}", scope=Scope.ADMIN, answers={204: None}, problems=(404,))
async def remove_schedule(call: Call) -> Answer:
    """Forget a schedule; runs that it started go on."""
    await call.gateway.triggers.schedules.remove(call.path["schedule"])
    return Answer(None, 204)


@schedules.post(
    "/v1/schedules/{schedule}/pause", scope=Scope.OPERATOR, body=schemas.Nothing, body_optional=True,
    answers=trigger_schemas.Schedule, problems=(404,),
)  # fmt: skip
async def pause_schedule(call: Call) -> Answer:
    """Start nothing until it is resumed."""
    return _shown(call, await call.gateway.triggers.schedules.pause(call.path["schedule"]))


@schedules.post(
    "/v1/schedules/{schedule}/resume", scope=Scope.OPERATOR, body=schemas.Nothing, body_optional=True,
    answers=trigger_schemas.Schedule, problems=(404,),
)  # fmt: skip
async def resume_schedule(call: Call) -> Answer:
    """Go on with the next slot; what came while it was paused is not made up for (see backfill)."""
    resumed = await call.gateway.triggers.schedules.resume(call.path["schedule"])
    await call.gateway.triggers.look()
    return _shown(call, resumed)


@schedules.post(
    "/v1/schedules/{schedule}/trigger", scope=Scope.OPERATOR, body=schemas.Nothing, body_optional=True,
    answers={201: schemas.RunDetail}, problems=(404, 409),
)  # fmt: skip
async def trigger_schedule(call: Call) -> Answer:
    """Start a run now, beside all slots."""
    runtime = call.gateway.runtime
    run = await runtime.find(await call.gateway.triggers.schedules.trigger(call.path["schedule"]))
    return Answer(await call.gateway.shown.detail(run), 201)


@schedules.post(
    "/v1/schedules/{schedule}/backfill", scope=Scope.OPERATOR, body=trigger_schemas.Backfill,
    answers=trigger_schemas.Started, problems=(404, 409),
)  # fmt: skip
async def backfill_schedule(call: Call) -> Answer:
    """Start the run of every slot of a time that has passed. A slot that has had its run keeps it.

    One that cannot start stops no other: it is among the `problems`.
    """
    since, until = _moment(call.body.since), _moment(call.body.until)
    return Answer((await call.gateway.triggers.schedules.backfill(call.path["schedule"], since, until)).as_json())


def _moment(text: str) -> int:
    try:
        found = datetime.fromisoformat(text)
        if found.tzinfo is not None:
            return round(found.timestamp() * 1e6)
    except (ValueError, OverflowError):
        pass
    raise InvalidInput(f"{text[:50]!r} is no moment with a time zone, as 2026-01-31T12:00:00Z")


def _shown(call: Call, schedule: Schedule, status: int = 200) -> Answer:
    return Answer(schedule.as_json(call.gateway.runtime.kernel.clock.now_us()), status)
