"""What is kept that belongs to no run? Documents, in a dict; expired ones count as gone, and go with the next write."""

from __future__ import annotations

from dataclasses import replace

from perdure.store.contract import Document
from perdure.store.documents import check_document, check_id, check_kind, check_place
from perdure.store.memory.data import Data
from perdure.values.clock import Clock


class Documents:
    """The documents of one store."""

    def __init__(self, data: Data, clock: Clock) -> None:
        self._documents = data.documents
        self._clock = clock

    def get(self, kind: str, id: str) -> Document | None:
        """One, or None."""
        check_kind(kind)
        check_id(id)
        found = self._documents.get((kind, id))
        return found if found is not None and self._lasts(found) else None

    def all(self, kind: str, after: str) -> list[Document]:
        """Those of a kind that come after `after`, by id."""
        check_kind(kind)
        check_place(after)
        known = [found for found in self._documents.values() if found.kind == kind and found.id > after]
        return sorted((found for found in known if self._lasts(found)), key=lambda found: found.id)

    def put(self, document: Document) -> Document | None:
        """Write it over the version that it names, or over none."""
        check_document(document)
        self._forget_expired(document.kind)
        known = self._documents.get((document.kind, document.id))
        if (0 if known is None else known.version) != document.version:
            return None
        written = replace(document, version=document.version + 1)
        self._documents[document.kind, document.id] = written
        return written

    def drop(self, kind: str, id: str, version: int | None) -> bool:
        """True when it was there, in that version."""
        known = self.get(kind, id)
        if known is None or version not in {None, known.version}:
            return False
        del self._documents[kind, id]
        return True

    def _forget_expired(self, kind: str) -> None:
        for key, document in list(self._documents.items()):
            if document.kind == kind and not self._lasts(document):
                del self._documents[key]

    def _lasts(self, document: Document) -> bool:
        return document.expires is None or document.expires > self._clock.now_us()
