"""How are definitions kept? As documents, changed only by who has seen what he changes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from perdure.errors import InvalidInput, NotFound, StoreBusy
from perdure.store.contract import Document, Store
from perdure.values.json import decode, encode

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
#: Others may write between reading and writing, but hardly so often.
_TRIES = 20


def check_name(what: str, name: str) -> str:
    """`name`, if it can name a `what`. Raises InvalidInput."""
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"a {what}'s name has 1 to 100 letters, digits, dots, dashes and underscores, and begins with a letter or "
            f"digit, unlike {name[:100]!r}"
        )
    return name


async def all_records(store: Store, kind: str) -> list[Document]:
    """All documents of a kind, by id."""
    found: list[Document] = []
    while page := await store.documents(kind, after=found[-1].id if found else ""):
        found += page
    return found


async def record(store: Store, kind: str, id: str) -> Document:
    """One document. Raises NotFound."""
    try:
        document = await store.document(kind, id)
    except ValueError:
        document = None
    if document is None:
        raise _unknown(kind, id)
    return document


async def add_record(store: Store, kind: str, id: str, data: dict[str, Any]) -> Document:
    """A new document. Raises InvalidInput when there is one."""
    added = await store.put_document(Document(kind, id, encode(data)))
    if added is None:
        raise InvalidInput(f"there is a {kind} {id!r} already; remove it first: perdure {kind} remove {id}")
    return added


async def change_record(
    store: Store, kind: str, id: str, edit: Callable[[dict[str, Any]], dict[str, Any] | None]
) -> Document:
    """The document as `edit` makes it of what is there; None leaves it. Raises NotFound, StoreBusy."""
    for _ in range(_TRIES):
        found = await record(store, kind, id)
        edited = edit(decode(found.data))
        if edited is None:
            return found
        written = await store.put_document(replace(found, data=encode(edited)))
        if written is not None:
            return written
    raise StoreBusy(f"{kind} {id!r} is changed by others all the time; try again")


async def drop_record(store: Store, kind: str, id: str) -> None:
    """Forget a document. Raises NotFound."""
    found = await record(store, kind, id)
    if not await store.drop_document(kind, found.id):
        raise _unknown(kind, id)


def _unknown(kind: str, id: str) -> NotFound:
    return NotFound(f"there is no {kind} {id[:100]!r}; list them with: perdure {kind} list")
