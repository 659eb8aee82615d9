"""How are definitions kept? As documents, changed only by who has seen what he changes."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any, TypeVar

from perdure.errors import InvalidInput, NotFound, StoreBusy
from perdure.store.contract import Document, Store
from perdure.values.json import decode, encode

T = TypeVar("T")
log = logging.getLogger("perdure.triggers")

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


async def all_records(store: Store, kind: str, read: Callable[[Document], T]) -> list[T]:
    """What `read` makes of all documents of a kind, by id. One that it cannot read is logged, and stops no other."""
    found: list[T] = []
    after = ""
    while page := await store.documents(kind, after=after):
        after = page[-1].id
        for document in page:
            try:
                found.append(read(document))
            except Exception as error:  # noqa: BLE001 - whoever wrote it: others are not to suffer
                _complain(kind, document.id, document.version, f"{type(error).__name__}: {error}")
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


@lru_cache(maxsize=1_000)  # it is read again every few seconds: once is enough
def _complain(kind: str, id: str, version: int, why: str) -> None:
    log.error(
        "%s %s cannot be read, and does nothing (version %d: %s); remove it: perdure %s remove %s",
        kind, id, version, why, kind, id,
    )  # fmt: skip


def _unknown(kind: str, id: str) -> NotFound:
    return NotFound(f"there is no {kind} {id[:100]!r}; list them with: perdure {kind} list")
