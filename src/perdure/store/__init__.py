"""Stores: one contract for where runs live, and its implementations."""

from __future__ import annotations

from perdure.errors import InvalidSetting
from perdure.store.contract import Store
from perdure.store.memory import MemoryStore
from perdure.store.sqlite import SqliteStore
from perdure.values.clock import Clock

__all__ = ["MemoryStore", "SqliteStore", "Store", "store_from_url"]


def store_from_url(url: str, clock: Clock | None = None) -> Store:
    """The store a URL names, not yet open: `memory://`, `sqlite:///relative.db` or `sqlite:////absolute.db`.

    Raises InvalidSetting for any other.
    """
    scheme, separator, rest = url.partition("://")
    if scheme == "memory" and separator and not rest:
        return MemoryStore(clock=clock)
    if scheme == "sqlite" and rest.startswith("/") and len(rest) > 1:
        return SqliteStore(rest[1:], clock=clock)
    raise InvalidSetting(
        f"{url!r} is not a store. Use memory://, sqlite:///relative.db or sqlite:////absolute/path.db."
    )
