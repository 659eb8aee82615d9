"""Which documents can be kept? The same in every store, so that none takes what another could not; nothing here writes."""

from __future__ import annotations

from perdure.store.contract import Document

#: The longest kind or id, in characters.
NAME_MOST = 200

#: What a row can hold.
_LARGEST = 2**63 - 1


def check_kind(kind: str) -> None:
    """Raise ValueError for what cannot be a kind."""
    _check_name("kind", kind)


def check_id(id: str) -> None:
    """Raise ValueError for what cannot be an id."""
    _check_name("id", id)


def check_place(after: str) -> None:
    """Raise ValueError for what is neither the beginning of a list nor an id."""
    if after:
        check_id(after)


def check_document(document: Document) -> None:
    """Raise ValueError for a document that cannot be kept."""
    check_kind(document.kind)
    check_id(document.id)
    # Nothing names the id: it may be a secret.
    if not _is_text(document.data):
        raise ValueError(f"a document of kind {document.kind}: its data must be JSON text, which writes NUL as \\u0000")
    if not 0 <= document.version < _LARGEST:
        raise ValueError(f"a document of kind {document.kind}: {document.version} is no version that a store gave")
    if document.expires is not None and not 0 <= document.expires <= _LARGEST:
        raise ValueError(
            f"a document of kind {document.kind} cannot expire at {document.expires}: give microseconds since 1970, or None"
        )


def _check_name(what: str, name: str) -> None:
    if not 1 <= len(name) <= NAME_MOST:
        raise ValueError(f"a document's {what} has 1 to {NAME_MOST} characters, not {len(name)}")
    if not _is_text(name):
        raise ValueError(f"a document's {what} is plain text: without NUL, and without halves of characters")


def _is_text(text: str) -> bool:
    """Databases keep UTF-8, and PostgreSQL no NUL."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text
