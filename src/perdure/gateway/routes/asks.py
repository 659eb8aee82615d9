"""Asks: what waits for people, and what they say to it."""

from __future__ import annotations

from typing import Any

from perdure.gateway import schemas
from perdure.gateway.access.principal import Scope
from perdure.gateway.endpoint import Answer, Call, Section
from perdure.gateway.problems import problem_of
from perdure.store.contract import Ask
from perdure.views.asks import settled_ask_json
from perdure.views.why import open_asks

#: A list is made of so many; of a store that has had more questions than this, the newest closed ones are not seen here.
_LOOKED_AT = 100_000

asks = Section(
    "Asks", "Questions and approvals: one inbox over all runs. An approval is for exactly the action it shows."
)


@asks.get("/v1/asks", scope=Scope.VIEWER, answers=schemas.Asks, query=schemas.AskQuery)
async def list_asks(call: Call) -> Answer:
    """Open questions and approvals, oldest first; with `status` closed or all: newest first, with what became of them."""
    query: schemas.AskQuery = call.query
    status = "open" if query.status == "open" else None
    found = await call.gateway.runtime.store.asks(run=query.run, to=query.to, status=status, limit=_LOOKED_AT)
    wanted = [
        ask
        for ask in (found if status == "open" else reversed(found))
        if (query.kind is None or ask.kind == query.kind) and (query.status != "closed" or ask.status != "open")
    ]
    begin = next((at + 1 for at, ask in enumerate(wanted) if ask.id == query.cursor), 0)
    page = wanted[begin : begin + query.limit]
    following = page[-1].id if len(wanted) > begin + query.limit else None
    return Answer({"items": [settled_ask_json(ask) for ask in page], "next": following})


@asks.get("/v1/runs/{run}/asks", scope=Scope.VIEWER, answers=schemas.Asks, problems=(404,))
async def run_asks(call: Call) -> Answer:
    """What the run, or a child that it waits for, has open."""
    runtime = call.gateway.runtime
    found = await open_asks(runtime, await runtime.find(call.path["run"]))
    return Answer({"items": [settled_ask_json(ask) for ask in found], "next": None})


@asks.get("/v1/asks/{ask}", scope=Scope.VIEWER, answers=schemas.Ask, problems=(404,))
async def one_ask(call: Call) -> Answer:
    """One question or approval."""
    return _shown(await call.gateway.runtime.find_ask(call.path["ask"]))


@asks.post(
    "/v1/asks/{ask}/answer", scope=Scope.APPROVER, body=schemas.AnswerBody, answers=schemas.Ask, problems=(404, 409)
)  # fmt: skip
async def answer_ask(call: Call) -> Answer:
    """Answer a question. The same answer again changes nothing."""
    return await _settle(call, schemas.Decision(id=call.path["ask"], action="answer", value=call.body.value))


@asks.post(
    "/v1/asks/{ask}/approve", scope=Scope.APPROVER, body=schemas.Approve, body_optional=True, answers=schemas.Ask,
    problems=(404, 409),
)  # fmt: skip
async def approve_ask(call: Call) -> Answer:
    """Consent to exactly this action, once; with `edit`, to it with other arguments."""
    body = call.body
    return await _settle(
        call, schemas.Decision(id=call.path["ask"], action="approve", edit=body.edit, note=body.note)
    )  # fmt: skip


@asks.post(
    "/v1/asks/{ask}/reject", scope=Scope.APPROVER, body=schemas.Reject, body_optional=True, answers=schemas.Ask,
    problems=(404, 409),
)  # fmt: skip
async def reject_ask(call: Call) -> Answer:
    """Refuse an action; the agent sees the note."""
    return await _settle(call, schemas.Decision(id=call.path["ask"], action="reject", note=call.body.note))


@asks.post("/v1/bulk/asks", scope=Scope.APPROVER, body=schemas.Decisions, answers=schemas.Outcomes)
async def settle_asks(call: Call) -> Answer:
    """Say something to many asks. Each is settled, or not, by itself."""
    return Answer({"items": [await _outcome(call, decision) for decision in call.body.items]})


async def _settle(call: Call, decision: schemas.Decision) -> Answer:
    # Its full id first: once it is settled, the end of an id finds nothing any more.
    ask = await call.gateway.runtime.find_ask(decision.id)
    await _say(call, ask, decision)
    return _shown(await call.gateway.runtime.find_ask(ask.id))


async def _outcome(call: Call, decision: schemas.Decision) -> dict[str, Any]:
    try:
        await _say(call, await call.gateway.runtime.find_ask(decision.id), decision)
    except Exception as error:
        problem = problem_of(error)
        if problem.status >= 500:
            raise
        return {"id": decision.id, "ok": False, "problem": problem.as_json()}
    return {"id": decision.id, "ok": True, "problem": None}


async def _say(call: Call, ask: Ask, decision: schemas.Decision) -> None:
    runtime, by = call.gateway.runtime, call.principal.name
    match decision.action:
        case "answer":
            await runtime.answer(ask.id, decision.value, by=by)
        case "approve":
            await runtime.approve(ask.id, edit=decision.edit, by=by, note=decision.note)
        case "reject":
            await runtime.reject(ask.id, by=by, note=decision.note)


def _shown(ask: Ask) -> Answer:
    return Answer(settled_ask_json(ask))
