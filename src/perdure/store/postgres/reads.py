"""What do the stored rows say? Every question of the contract but events and signals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from perdure.store.contract import Ask, Backlog, Cursor, Programs, Queue, QueuePage, RunFilter, SessionRow
from perdure.store.pages import pages, place_of, places_of_sessions
from perdure.store.postgres.connections import Connections
from perdure.store.queries import load_queries
from perdure.store.rows import ask_of, run_of
from perdure.values.runs import Run

_SQL = load_queries("postgres", "read")

#: Conditions of a RunFilter, by the field that asks for them.
_RUN_CONDITIONS = {
    "agent": "agent = %(agent)s",
    "session": "session = %(session)s",
    "statuses": "status = any(%(statuses)s)",
    "parent": "parent = %(parent)s",
    "since": "created >= %(since)s",
    "until": "created < %(until)s",
    "before": "key < (select key from perdure.runs where id = %(before)s)",
    "suffix": "right(id, length(%(suffix)s)) = %(suffix)s",
    "ids": "id = any(%(ids)s)",
}
_ASK_CONDITIONS = {
    "run": "run = %(run)s",
    "to": "addressee = %(to)s",
    "status": "status = %(status)s",
    # Spelled out, for the index that holds no others.
    "open": "status = 'open'",
}


class Reads:
    """Answers through any free connection. All methods raise StoreError."""

    def __init__(self, connections: Connections) -> None:
        self._fetch = connections.fetch

    async def run(self, id: str) -> Run | None:
        """One run, or None."""
        return await self._one("run", id)

    async def run_by_key(self, agent: str, idempotency_key: str) -> Run | None:
        """The run that was started with this key, or None."""
        return await self._one("run_by_key", agent, idempotency_key)

    async def runs(self, filter: RunFilter) -> list[Run]:
        """Runs that match, newest first."""
        asked = {name: getattr(filter, name) for name in _RUN_CONDITIONS}
        asked["statuses"] = [status.value for status in filter.statuses] or None
        asked["ids"] = list(filter.ids) or None
        sql, values = _narrowed(_SQL["runs"], _RUN_CONDITIONS, asked)
        return [run_of(row) for row in await self._fetch(sql, values | {"limit": filter.limit})]

    async def session_active(self, agent: str, session: str) -> Run | None:
        """The session's run that has begun and not ended, or None."""
        return await self._one("session_active", agent, session)

    async def session_next(self, agent: str, session: str) -> Run | None:
        """The session's queued run that goes next, or None."""
        return await self._one("session_next", agent, session)

    async def sessions(self, agent: str | None, after: tuple[str, str] | None, limit: int) -> list[SessionRow]:
        """Sessions behind `after`, by agent and session."""
        values = places_of_sessions(agent, after) | {"limit": limit}
        return [SessionRow(*row) for row in await self._fetch(_SQL["sessions"], values)]

    async def active(self, shards: Iterable[str]) -> list[Run]:
        """Runs of these shards with status running."""
        return [run_of(row) for row in await self._fetch(_SQL["active"], {"shards": list(shards)})]

    async def queues(self, agent: str, limit: int, after: Queue | None) -> list[Queue]:
        """Queues of the agent behind `after`, by priority, then tenant."""
        priority, tenant = place_of(after)
        values = {"agent": agent, "priority": priority, "tenant": tenant, "limit": limit}
        return [Queue(*row) for row in await self._fetch(_SQL["queues"], values)]

    async def ready(
        self, shards: Iterable[str], queues: Mapping[Queue, Cursor], each: int, programs: Programs
    ) -> list[QueuePage]:
        """The first runs of each queue that can begin."""
        asked = {
            "queue_agents": [queue.agent for queue in queues],
            "priorities": [queue.priority for queue in queues],
            "tenants": [queue.tenant for queue in queues],
            "afters": list(queues.values()),
        }
        rows = await self._fetch(_SQL["ready"], _owned(shards, programs) | asked | {"each": each})
        return pages(queues, map(run_of, rows), each)

    async def due(self, shards: Iterable[str], until: int, limit: int, programs: Programs) -> list[Run]:
        """Waiting runs with wake_at <= until, earliest first."""
        values = _owned(shards, programs) | {"until": until, "limit": limit}
        return [run_of(row) for row in await self._fetch(_SQL["due"], values)]

    async def next_due(self, shards: Iterable[str], programs: Programs) -> int | None:
        """The earliest wake_at of a waiting run, or None."""
        [[earliest]] = await self._fetch(_SQL["next_due"], _owned(shards, programs))
        return None if earliest is None else int(earliest)

    async def backlog(self, now: int) -> list[Backlog]:
        """What every shard's owner has yet to do."""
        return [Backlog(*row) for row in await self._fetch(_SQL["backlog"], {"now": now})]

    async def ask(self, id: str) -> Ask | None:
        """One ask, or None."""
        rows = await self._fetch(_SQL["ask"], (id,))
        return ask_of(rows[0]) if rows else None

    async def asks(self, run: str | None, to: str | None, status: str | None, limit: int) -> list[Ask]:
        """Questions and approvals, oldest first."""
        asked = {"run": run, "to": to, "open" if status == "open" else "status": status}
        sql, values = _narrowed(_SQL["asks"], _ASK_CONDITIONS, asked)
        return [ask_of(row) for row in await self._fetch(sql, values | {"limit": limit})]

    async def state(self, agent: str, session: str) -> dict[str, str]:
        """The session's state: key -> JSON text."""
        rows: list[Any] = await self._fetch(_SQL["state"], (agent, session))
        return dict(rows)

    async def slots(self) -> int:
        """Into how many shards an agent's sessions are spread."""
        [[number]] = await self._fetch(_SQL["slots"])
        return int(number)

    async def _one(self, query: str, *values: str) -> Run | None:
        rows = await self._fetch(_SQL[query], values)
        return run_of(rows[0]) if rows else None


def _owned(shards: Iterable[str], programs: Programs) -> dict[str, Any]:
    known = None if programs is None else list(programs)
    return {
        "shards": list(shards),
        "agents": None if known is None else [agent for agent, _ in known],
        "versions": None if known is None else [version for _, version in known],
    }


def _narrowed(sql: str, conditions: dict[str, str], asked: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    values = {name: value for name, value in asked.items() if value is not None}
    wanted = " and ".join(conditions[name] for name in values) or "true"
    return sql.replace("where true", f"where {wanted}"), values
