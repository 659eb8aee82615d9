"""What is kept that belongs to no run? A row for each document; expired ones count as gone, and go with the next write."""

from __future__ import annotations

from dataclasses import replace

import apsw

from perdure.store.contract import Document
from perdure.store.documents import check_document, check_id, check_kind, check_place
from perdure.store.queries import load_queries
from perdure.store.sqlite.writing import Writing
from perdure.values.clock import Clock

_SQL = load_queries("sqlite", "documents")


class Documents:
    """Documents, written through one connection and read through any. Not for two threads at a time."""

    def __init__(self, writer: apsw.Connection, clock: Clock) -> None:
        self._db = writer
        self._clock = clock

    def read(self, db: apsw.Connection, kind: str, id: str) -> Document | None:
        """One, or None."""
        check_kind(kind)
        check_id(id)
        row = db.execute(_SQL["document"], (kind, id, self._clock.now_us())).get
        return None if row is None else Document(*row)

    def read_all(self, db: apsw.Connection, kind: str, after: str, limit: int) -> list[Document]:
        """Those of a kind that come after `after`, by id."""
        check_kind(kind)
        check_place(after)
        return [Document(*row) for row in db.execute(_SQL["documents"], (kind, after, self._clock.now_us(), limit))]

    def put(self, document: Document) -> Document | None:
        """Write it over the version that it names, or over none."""
        check_document(document)
        with Writing(self._db):
            self._db.execute(_SQL["forget_expired"], (document.kind, self._clock.now_us()))
            if document.version:
                values = (document.data, document.expires, document.kind, document.id, document.version)
                self._db.execute(_SQL["change"], values)
            else:
                self._db.execute(_SQL["make"], (document.kind, document.id, document.data, document.expires))
            return replace(document, version=document.version + 1) if self._db.changes() else None

    def drop(self, kind: str, id: str, version: int | None) -> bool:
        """True when it was there, in that version."""
        check_kind(kind)
        check_id(id)
        with Writing(self._db):
            self._db.execute(_SQL["drop"], (kind, id, version, self._clock.now_us()))
            return self._db.changes() > 0
