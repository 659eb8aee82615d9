"""Sessions: an agent's durable identities, with their state and history."""

from __future__ import annotations

from perdure.errors import NotFound
from perdure.gateway import schemas
from perdure.gateway.access.principal import Scope
from perdure.gateway.endpoint import Answer, Call, Section
from perdure.store.contract import RunFilter
from perdure.values.clock import iso
from perdure.values.json import decode

sessions = Section("Sessions", "An agent's durable identity for one key: its state, and one run at a time.")

_HISTORY = 100


@sessions.get("/v1/sessions", scope=Scope.VIEWER, answers=schemas.Sessions, query=schemas.SessionQuery)
async def list_sessions(call: Call) -> Answer:
    """Sessions by agent and key."""
    query: schemas.SessionQuery = call.query
    rows = await call.gateway.runtime.store.sessions(
        agent=query.agent, after=_after(query.cursor), limit=query.limit
    )  # fmt: skip
    following = f"{rows[-1].agent}/{rows[-1].session}" if len(rows) == query.limit else None
    items = [
        {"agent": row.agent, "session": row.session, "active": row.active, "updated": iso(row.updated)} for row in rows
    ]
    return Answer({"items": items, "next": following})


@sessions.get(
    "/v1/sessions/{agent}/{session}", scope=Scope.VIEWER, answers=schemas.SessionDetail, problems=(404,)
)  # fmt: skip
async def one_session(call: Call) -> Answer:
    """A session: its state, the run that is active in it, and its newest runs."""
    agent, session = call.path["agent"], call.path["session"]
    store = call.gateway.runtime.store
    runs = await store.runs(RunFilter(agent, session, limit=_HISTORY))
    if not runs:
        raise NotFound(f"{agent} has had no session {session!r}; list them: GET /v1/sessions")
    active = await store.session_active(agent, session)
    state = {name: decode(text) for name, text in (await store.state(agent, session)).items()}
    return Answer({
        "agent": agent, "session": session, "active": None if active is None else active.id,
        "updated": iso(max(run.updated for run in runs)), "state": state,
        "runs": await call.gateway.shown.rows(runs),
    })  # fmt: skip


@sessions.post(
    "/v1/sessions/{agent}/{session}/messages", scope=Scope.OPERATOR, body=schemas.Message,
    answers={202: schemas.Health},
)  # fmt: skip
async def send_to_session(call: Call) -> Answer:
    """Send a message to a session: its active run has it, or else the next one."""
    await call.gateway.runtime.send(
        call.path["session"], call.body.topic, call.body.value, agent=call.path["agent"]
    )  # fmt: skip
    return Answer({"status": "recorded"}, 202)


def _after(cursor: str | None) -> tuple[str, str] | None:
    if cursor is None:
        return None
    agent, _, session = cursor.partition("/")  # no agent's name holds one
    return agent, session
