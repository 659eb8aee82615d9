"""What is kept that belongs to no run? A row for each document; expired ones count as gone, and go with the next write.

A write is acknowledged once it is where commits have to be. One whose answer was lost is tried again by itself, and then
finds that somebody was first: perhaps itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psycopg

from perdure.errors import StoreBusy
from perdure.store.contract import Document
from perdure.store.documents import check_document, check_id, check_kind, check_place
from perdure.store.postgres.connections import Connection, Connections
from perdure.store.queries import load_queries
from perdure.values.clock import Clock

_SQL = load_queries("postgres", "documents")


class Documents:
    """Documents. A clock that is given (for tests) counts instead of the database's."""

    def __init__(self, connections: Connections, clock: Clock | None) -> None:
        self._connections = connections
        self._clock = clock

    async def read(self, kind: str, id: str) -> Document | None:
        """One, or None."""
        check_kind(kind)
        check_id(id)
        rows = await self._connections.fetch(_SQL["document"], {"kind": kind, "id": id, "now": self._now()})
        return Document(*rows[0]) if rows else None

    async def read_all(self, kind: str, after: str, limit: int) -> list[Document]:
        """Those of a kind that come after `after`, by id."""
        check_kind(kind)
        check_place(after)
        values = {"kind": kind, "after": after, "limit": limit, "now": self._now()}
        return [Document(*row) for row in await self._connections.fetch(_SQL["documents"], values)]

    async def put(self, document: Document) -> Document | None:
        """Write it over the version that it names, or over none."""
        check_document(document)
        values = {
            "kind": document.kind, "id": document.id, "data": document.data, "version": document.version,
            "expires": document.expires, "now": self._now(),
        }  # fmt: skip
        written = await self._write("change" if document.version else "make", values)
        return replace(document, version=document.version + 1) if written else None

    async def drop(self, kind: str, id: str, version: int | None) -> bool:
        """True when it was there, in that version."""
        check_kind(kind)
        check_id(id)
        return await self._write("drop", {"kind": kind, "id": id, "version": version, "now": self._now()})

    async def _write(self, query: str, values: dict[str, Any]) -> bool:
        async def write(connection: Connection) -> bool:
            with self._acknowledged(connection):
                async with connection.transaction():
                    changed = (await connection.execute(_SQL[query], values)).rowcount > 0
                    # Afterwards: whoever holds a row that it wants to write passes over what others hold.
                    await connection.execute(_SQL["forget_expired"], values)
            return changed

        return await self._connections.use(write)

    @contextmanager
    def _acknowledged(self, connection: Connection) -> Iterator[None]:
        warned = False

        def hear(notice: psycopg.errors.Diagnostic) -> None:
            nonlocal warned
            # "canceling wait for synchronous replication": it is here and perhaps nowhere else.
            warned = warned or notice.severity_nonlocalized == "WARNING"

        connection.add_notice_handler(hear)
        try:
            yield
        finally:
            connection.remove_notice_handler(hear)
        if warned:
            raise StoreBusy(
                f"{self._connections.place}: the standby has not confirmed a document. It is there, and may be lost with "
                f"this server: read it again."
            )

    def _now(self) -> int | None:
        return None if self._clock is None else self._clock.now_us()
