"""What do the stored rows say? Every question of the contract but events, answered through any connection."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import apsw

from perdure.store.contract import Ask, Backlog, Cursor, Programs, Queue, QueuePage, RunFilter, SessionRow, Signal
from perdure.store.pages import pages, place_of, places_of_sessions
from perdure.store.queries import load_queries
from perdure.store.rows import ask_of, run_of, signal_of
from perdure.values.json import encode
from perdure.values.runs import Run

_SQL = load_queries("sqlite", "read")

#: Conditions of a RunFilter, by the field that asks for them.
_RUN_CONDITIONS = {
    "agent": "agent = :agent",
    "session": "session = :session",
    "statuses": "status in (select value from json_each(:statuses))",
    "parent": "parent = :parent",
    "since": "created >= :since",
    "until": "created < :until",
    "before": "key < (select key from perdure_runs where id = :before)",
    "suffix": "substr(id, -length(:suffix)) = :suffix",
    "ids": "id in (select value from json_each(:ids))",
}
_ASK_CONDITIONS = {
    "run": "run = :run",
    "to": "addressee = :to",
    "status": "status = :status",
    # Spelled out, for the index that holds no others.
    "open": "status = 'open'",
}


def run(db: apsw.Connection, id: str) -> Run | None:
    """One run, or None."""
    return _one(db, "run", (id,))


def run_by_key(db: apsw.Connection, agent: str, idempotency_key: str) -> Run | None:
    """The run that was started with this key, or None."""
    return _one(db, "run_by_key", (agent, idempotency_key))


def runs(db: apsw.Connection, filter: RunFilter) -> list[Run]:
    """Runs that match, newest first."""
    asked = {name: getattr(filter, name) for name in _RUN_CONDITIONS}
    asked["statuses"] = encode(filter.statuses) if filter.statuses else None
    asked["ids"] = encode(filter.ids) if filter.ids else None
    sql, values = _narrowed(_SQL["runs"], _RUN_CONDITIONS, asked)
    return [run_of(row) for row in db.execute(sql, values | {"limit": filter.limit})]


def session_active(db: apsw.Connection, agent: str, session: str) -> Run | None:
    """The session's run that has begun and not ended, or None."""
    return _one(db, "session_active", (agent, session))


def session_next(db: apsw.Connection, agent: str, session: str) -> Run | None:
    """The session's queued run that goes next, or None."""
    return _one(db, "session_next", (agent, session))


def sessions(db: apsw.Connection, agent: str | None, after: tuple[str, str] | None, limit: int) -> list[SessionRow]:
    """Sessions behind `after`, by agent and session."""
    values = places_of_sessions(agent, after) | {"limit": limit}
    return [SessionRow(*row) for row in db.execute(_SQL["sessions"], values)]


def active(db: apsw.Connection, shards: Iterable[str]) -> list[Run]:
    """Runs of these shards with status running."""
    return [run_of(row) for row in db.execute(_SQL["active"], {"shards": encode(list(shards))})]


def queues(db: apsw.Connection, agent: str, limit: int, after: Queue | None) -> list[Queue]:
    """Queues of the agent behind `after`, by priority, then tenant."""
    priority, tenant = place_of(after)
    values = {"agent": agent, "priority": priority, "tenant": tenant, "limit": limit}
    return [Queue(*row) for row in db.execute(_SQL["queues"], values)]


def ready(
    db: apsw.Connection, shards: Iterable[str], queues: Mapping[Queue, Cursor], each: int, programs: Programs
) -> list[QueuePage]:
    """The first runs of each queue that can begin."""
    asked = encode([(*queue, after) for queue, after in queues.items()])
    values = _owned(shards, programs) | {"queues": asked, "each": each}
    return pages(queues, (run_of(row) for row in db.execute(_SQL["ready"], values)), each)


def due(db: apsw.Connection, shards: Iterable[str], until: int, limit: int, programs: Programs) -> list[Run]:
    """Waiting runs with wake_at <= until, earliest first."""
    values = _owned(shards, programs) | {"until": until, "limit": limit}
    return [run_of(row) for row in db.execute(_SQL["due"], values)]


def next_due(db: apsw.Connection, shards: Iterable[str], programs: Programs) -> int | None:
    """The earliest wake_at of a waiting run, or None."""
    earliest: int | None = db.execute(_SQL["next_due"], _owned(shards, programs)).get
    return earliest


def backlog(db: apsw.Connection, now: int) -> list[Backlog]:
    """What every shard's owner has yet to do."""
    return [Backlog(*row) for row in db.execute(_SQL["backlog"], {"now": now})]


def signals(db: apsw.Connection, shards: Iterable[str], after: Cursor, limit: int) -> tuple[list[Signal], Cursor]:
    """Signals for these shards after the one with the id `after`, in order, and the id of the last."""
    # There is one writer at a time: ids become visible in their order.
    last = after if isinstance(after, int) else 0
    values = {"shards": encode(list(shards)), "after": last, "limit": limit}
    page = [signal_of(row) for row in db.execute(_SQL["signals"], values)]
    return page, page[-1].id if page else last


def run_signals(db: apsw.Connection, run: str) -> list[Signal]:
    """Signals addressed to a run, or to its session at large, in order."""
    return [signal_of(row) for row in db.execute(_SQL["run_signals"], {"run": run})]


def ask(db: apsw.Connection, id: str) -> Ask | None:
    """One ask, or None."""
    row = db.execute(_SQL["ask"], (id,)).get
    return None if row is None else ask_of(row)


def asks(db: apsw.Connection, run: str | None, to: str | None, status: str | None, limit: int) -> list[Ask]:
    """Questions and approvals, oldest first."""
    asked = {"run": run, "to": to, "open" if status == "open" else "status": status}
    sql, values = _narrowed(_SQL["asks"], _ASK_CONDITIONS, asked)
    return [ask_of(row) for row in db.execute(sql, values | {"limit": limit})]


def state(db: apsw.Connection, agent: str, session: str) -> dict[str, str]:
    """The session's state: key -> JSON text."""
    rows: list[Any] = db.execute(_SQL["state"], (agent, session)).fetchall()
    return dict(rows)


def slots(db: apsw.Connection) -> int:
    """Into how many shards an agent's sessions are spread."""
    number: int = db.execute(_SQL["slots"]).get
    return number


def changes(db: apsw.Connection) -> int:
    """A number that differs from the last one when another connection has committed since."""
    number: int = db.execute(_SQL["changes"]).get
    return number


def _owned(shards: Iterable[str], programs: Programs) -> dict[str, Any]:
    return {"shards": encode(list(shards)), "programs": None if programs is None else encode(list(programs))}


def _one(db: apsw.Connection, query: str, values: tuple[Any, ...]) -> Run | None:
    row = db.execute(_SQL[query], values).get
    return None if row is None else run_of(row)


def _narrowed(sql: str, conditions: dict[str, str], asked: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    values = {name: value for name, value in asked.items() if value is not None}
    wanted = " and ".join(conditions[name] for name in values) or "true"
    return sql.replace("where true", f"where {wanted}"), values
