"""When may somebody else have committed? As soon as any of the databases says so, or something was delivered here."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

from perdure.store.member import Member


class News:
    """One watcher for each database. Each task that asks misses nothing in between."""

    def __init__(self, stores: Sequence[Member]) -> None:
        self._stores = stores
        self._version = 0
        self._seen: WeakKeyDictionary[asyncio.Task[Any], int] = WeakKeyDictionary()
        self._waiting: list[asyncio.Future[None]] = []
        self._watchers: list[asyncio.Task[None]] = []
        self._failure: Exception | None = None

    def start(self) -> None:
        """Watch from now on."""
        self._failure = None
        self._watchers = [asyncio.create_task(self._watch(store)) for store in self._stores]

    def tell(self) -> None:
        """Something changed."""
        self._version += 1
        self._wake()

    async def wait(self) -> None:
        """Return when something changed since this task last heard. Raises what a database raised."""
        task = asyncio.current_task()
        assert task is not None
        seen = self._seen.get(task, self._version)
        while self._version == seen:
            if (failure := self._failure) is not None:
                await self.stop()
                self.start()
                raise failure
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            await waiting
        self._seen[task] = self._version

    async def stop(self) -> None:
        """Watch no more."""
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            watcher.cancel()
        for watcher in watchers:
            with suppress(asyncio.CancelledError):
                await watcher

    async def _watch(self, store: Member) -> None:
        try:
            while True:
                await store.wait_change()
                self.tell()
        except Exception as error:  # noqa: BLE001 - it is for whoever waits
            self._failure = error
            self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
