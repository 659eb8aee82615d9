"""Stores: one contract for where runs live, and its implementations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from perdure.errors import InvalidSetting
from perdure.store.contract import Store
from perdure.store.memory import MemoryStore
from perdure.store.sqlite import SqliteStore
from perdure.store.urls import is_postgres, split_urls, without_passwords
from perdure.values.clock import Clock, SystemClock

if TYPE_CHECKING:
    from perdure.store.member import Member

__all__ = ["MemoryStore", "SqliteStore", "Store", "store_from_url"]

#: Shards of each agent, where nobody says otherwise.
SLOTS = 16


def store_from_url(url: str, clock: Clock | None = None, *, slots: int = SLOTS) -> Store:
    """The store a URL names, not yet open.

    `memory://`, `sqlite:///relative.db`, `sqlite:////absolute.db` or `postgresql://user@host:5432/database`; several of
    them with commas between are one store in several databases. slots: shards of each agent, and so the most nodes that
    can share one; it counts only when the store is made. Raises InvalidSetting for any other URL.
    """
    urls = split_urls(url)
    if len(urls) > 1:
        return _many_stores(urls, clock, slots)
    scheme, separator, rest = url.partition("://")
    if scheme == "memory" and separator and not rest:
        return MemoryStore(clock=clock, slots=slots)
    if scheme == "sqlite" and rest.startswith("/") and len(rest) > 1:
        return SqliteStore(rest[1:], clock=clock, slots=slots)
    if is_postgres(url) and rest:
        return _postgres_store(url, clock, slots)
    raise InvalidSetting(
        f"{without_passwords(url)!r} is not a store. Use memory://, sqlite:///relative.db, sqlite:////absolute/path.db or "
        f"postgresql://user@host/database."
    )


def _many_stores(urls: Sequence[str], clock: Clock | None, slots: int) -> Store:
    from perdure.store.many import ManyStores  # noqa: PLC0415 - seventeen modules that most do not need

    stores = {without_passwords(url): cast("Member", store_from_url(url, clock, slots=slots)) for url in urls}
    if len(stores) < len(urls):
        raise InvalidSetting(f"a database is given twice: {', '.join(map(without_passwords, urls))}. Give each once.")
    return ManyStores(stores, clock=clock)


def _postgres_store(url: str, clock: Clock | None, slots: int) -> Store:
    try:
        from perdure.store.postgres import PostgresStore  # noqa: PLC0415 - only who uses it needs the driver
    except ModuleNotFoundError as error:
        raise InvalidSetting(
            f"a postgresql:// store needs the driver, {error.name}: pip install 'perdure[postgres]'"
        ) from None
    # The nodes of a cluster go by the database's clock.
    return PostgresStore(url, clock=None if isinstance(clock, SystemClock) else clock, slots=slots)
