"""A store whose answers take real time, for tests whose time is not: `settle` waits for what it is asked."""

from __future__ import annotations

from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any

from perdure.store.contract import Store
from perdure.testing.clock import outside

#: Returns when others commit, which may be never.
_ENDLESS = "wait_change"


class SettlingStore:
    """`store`, with each call counted while it is under way."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name == _ENDLESS or not iscoroutinefunction(method):
            return method

        async def call(*args: Any, **options: Any) -> Any:
            with outside():
                return await method(*args, **options)

        return call


def settling(store: Store) -> Store:
    """`store`, so that `settle` waits for its answers."""
    return SettlingStore(store) if not TYPE_CHECKING else store
