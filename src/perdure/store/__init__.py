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


def store_from_url(url: str, clock: Clock | None = None) -> Store:
    """The store a URL names, not yet open.

    `memory://`, `sqlite:///relative.db`, `sqlite:////absolute.db` or `postgresql://user@host:5432/database`; several of
    them with commas between are one store in several databases. Raises InvalidSetting for any other.
    """
    urls = split_urls(url)
    if len(urls) > 1:
        return _many_stores(urls, clock)
    scheme, separator, rest = url.partition("://")
    if scheme == "memory" and separator and not rest:
        return MemoryStore(clock=clock)
    if scheme == "sqlite" and rest.startswith("/") and len(rest) > 1:
        return SqliteStore(rest[1:], clock=clock)
    if is_postgres(url) and rest:
        return _postgres_store(url, clock)
    raise InvalidSetting(
        f"{without_passwords(url)!r} is not a store. Use memory://, sqlite:///relative.db, sqlite:////absolute/path.db or "
        f"postgresql://user@host/database."
    )


def _many_stores(urls: Sequence[str], clock: Clock | None) -> Store:
    from perdure.store.many import ManyStores  # noqa: PLC0415 - seventeen modules that most do not need

    stores = {without_passwords(url): cast("Member", store_from_url(url, clock)) for url in urls}
    if len(stores) < len(urls):
        raise InvalidSetting(f"a database is given twice: {', '.join(map(without_passwords, urls))}. Give each once.")
    return ManyStores(stores, clock=clock)


def _postgres_store(url: str, clock: Clock | None) -> Store:
    try:
        from perdure.store.postgres import PostgresStore  # noqa: PLC0415 - only who uses it needs the driver
    except ModuleNotFoundError as error:
        raise InvalidSetting(
            f"a postgresql:// store needs the driver, {error.name}: pip install 'perdure[postgres]'"
        ) from None
    # The nodes of a cluster go by the database's clock.
    return PostgresStore(url, clock=None if isinstance(clock, SystemClock) else clock)
