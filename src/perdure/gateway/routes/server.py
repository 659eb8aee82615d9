"""The server: who is calling it, what needs somebody, how the cluster stands, and whether it is well."""

from __future__ import annotations

from functools import partial

from starlette.responses import Response
from starlette.types import ASGIApp

from perdure.errors import StoreError
from perdure.gateway import schemas
from perdure.gateway.access.principal import Scope
from perdure.gateway.endpoint import Answer, Call, Section
from perdure.gateway.problems import Problem
from perdure.store.contract import RunFilter
from perdure.values.runs import RunStatus
from perdure.views.asks import settled_ask_json
from perdure.views.metrics import metrics_text
from perdure.views.standing import Standing
from perdure.views.version import VERSION

server = Section("Server", "How the server and its cluster stand.")

#: Of each kind, an overview shows the newest.
_FEW = 20
#: So many runs are counted by status; beyond, a count says "at least".
_COUNTED = 1_000
_ACTIVE = (RunStatus.RUNNING, RunStatus.QUEUED, RunStatus.WAITING, RunStatus.PAUSED)


@server.get("/v1/me", scope=Scope.VIEWER, answers=schemas.Me)
async def me(call: Call) -> Answer:
    """Who calls, and what they may do."""
    who = call.principal
    return Answer({
        "name": who.name, "scopes": sorted(who.scopes), "mode": call.gateway.settings.mode, "version": VERSION,
    })  # fmt: skip


@server.get("/v1/overview", scope=Scope.VIEWER, answers=schemas.Overview)
async def overview(call: Call) -> Answer:
    """What needs somebody, and what moves."""
    runtime, shown = call.gateway.runtime, call.gateway.shown
    asks = await runtime.inbox(limit=_FEW)
    failed = await runtime.runs(RunFilter(statuses=(RunStatus.FAILED,), limit=_FEW))
    stuck = await runtime.runs(RunFilter(statuses=(RunStatus.QUARANTINED,), limit=_FEW))
    waiting = await runtime.runs(RunFilter(statuses=(RunStatus.WAITING,), limit=_COUNTED))
    unknown = [run for run in waiting if _in_doubt(run.wait)]
    moving = await runtime.runs(RunFilter(statuses=_ACTIVE, limit=_FEW * 5))
    active = [run for run in moving if not run.agent.startswith("perdure.")][:_FEW]  # our own have a page of their own
    counts = {
        status: len(await runtime.store.runs(RunFilter(statuses=(status,), limit=_COUNTED))) for status in RunStatus
    }
    return Answer({
        "needs_you": {
            "asks": [settled_ask_json(ask) for ask in asks], "failed": [await shown.detail(run) for run in failed],
            "stuck": await shown.rows([*stuck, *unknown][:_FEW]),
        },
        "active": await shown.rows(active), "counts": counts, "counted_most": _COUNTED,
        "nodes": sum(node.alive for node in await runtime.store.nodes()), "agents": sorted(runtime.agents.names()),
    })  # fmt: skip


def _in_doubt(wait: dict[str, object] | None) -> bool:
    return (wait or {}).get("kind") == "unknown"


@server.get("/v1/changes", scope=Scope.VIEWER, answers={200: "text/event-stream"})
async def changes(call: Call) -> ASGIApp:
    """A stream that says which runs have changed (those of this node by name), at most five times a second."""
    return call.gateway.streams.changes(partial(call.gateway.access.held_open, call.headers))


@server.get("/v1/system", scope=Scope.VIEWER, answers=schemas.System)
async def system(call: Call) -> Answer:
    """Nodes, shards, what waits in them, and what `perdure doctor` finds."""
    runtime = call.gateway.runtime
    standing = await Standing.look(runtime.store, runtime.kernel.clock)
    return Answer({
        "version": VERSION, "mode": call.gateway.settings.mode, "store": call.gateway.store_name,
        "node": runtime.kernel.node, **standing.as_json(shards=True), "checks": await call.gateway.health.checks(),
    })  # fmt: skip


@server.get("/metrics", scope=Scope.VIEWER, answers={200: "text/plain"})
async def metrics(call: Call) -> ASGIApp:
    """For Prometheus."""
    runtime = call.gateway.runtime
    text = metrics_text(await Standing.look(runtime.store, runtime.kernel.clock))
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


@server.get("/healthz", scope=None, answers=schemas.Health)
async def healthz(_: Call) -> Answer:
    """The process is there and answers."""
    return Answer({"status": "ok"})


@server.get("/readyz", scope=None, answers=schemas.Health, problems=(503,))
async def readyz(call: Call) -> Answer:
    """The store answers too, and this node works. 503 tells a balancer to look elsewhere."""
    kernel = call.gateway.runtime.kernel
    if kernel.failure is not None or call.gateway.streams.closed.is_set():
        raise Problem(503, "this node stops, or has stopped", headers={"Retry-After": "1"})
    try:
        await call.gateway.runtime.store.slots()
        await call.gateway.runtime.store.document("key", "-")
    except StoreError:
        raise Problem(503, "the store does not answer", headers={"Retry-After": "1"}) from None
    return Answer({"status": "ok"})
