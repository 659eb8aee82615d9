"""What if the store cannot be reached for a while? The kernel's own reads wait until it can.

A database on the network restarts now and then; that must not take its nodes with it. Callers from outside are not
made to wait: their reads go to the store itself and raise StoreBusy. Writes wait in group_commit.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeVar

from perdure.errors import StoreBusy
from perdure.store.contract import Cursor, Programs, Queue, QueuePage, Signal, Store
from perdure.values.clock import Clock
from perdure.values.events import Event
from perdure.values.runs import Run

log = logging.getLogger("perdure.kernel")

T = TypeVar("T")

_FIRST_PAUSE_SECONDS = 0.05
_PAUSE_SECONDS_MOST = 1.0
#: how long after the store could not tell of changes they are looked for
_UNTOLD_SECONDS = 0.25


class PatientReads:
    """What the kernel reads, tried again for as long as the store is busy. Each means what the store's own means."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._told = False

    async def run(self, id: str) -> Run | None:
        return await self.keep_trying(lambda: self._store.run(id))

    async def events(self, run: str, after: int = 0) -> list[Event]:
        return await self.keep_trying(lambda: self._store.events(run, after))

    async def state(self, agent: str, session: str) -> dict[str, str]:
        return await self.keep_trying(lambda: self._store.state(agent, session))

    async def session_active(self, agent: str, session: str) -> Run | None:
        return await self.keep_trying(lambda: self._store.session_active(agent, session))

    async def session_next(self, agent: str, session: str) -> Run | None:
        return await self.keep_trying(lambda: self._store.session_next(agent, session))

    async def signals(self, shards: Iterable[str], after: Cursor, limit: int) -> tuple[list[Signal], Cursor]:
        return await self.keep_trying(lambda: self._store.signals(shards, after, limit))

    async def run_signals(self, run: str) -> list[Signal]:
        return await self.keep_trying(lambda: self._store.run_signals(run))

    async def queues(self, agent: str, limit: int, *, after: Queue | None = None) -> list[Queue]:
        return await self.keep_trying(lambda: self._store.queues(agent, limit, after=after))

    async def ready(
        self, shards: Iterable[str], queues: Mapping[Queue, Cursor], each: int, *, programs: Programs = None
    ) -> list[QueuePage]:
        return await self.keep_trying(lambda: self._store.ready(shards, queues, each, programs=programs))

    async def active(self, shards: Iterable[str]) -> list[Run]:
        return await self.keep_trying(lambda: self._store.active(shards))

    async def due(self, shards: Iterable[str], until: int, limit: int, *, programs: Programs = None) -> list[Run]:
        return await self.keep_trying(lambda: self._store.due(shards, until, limit, programs=programs))

    async def next_due(self, shards: Iterable[str], *, programs: Programs = None) -> int | None:
        return await self.keep_trying(lambda: self._store.next_due(shards, programs=programs))

    async def wait_change(self) -> None:
        """Return when others may have committed: also after the store could not tell, since it may not tell again."""
        try:
            await self._store.wait_change()
        except StoreBusy:
            await self._pause(_UNTOLD_SECONDS)

    async def keep_trying(self, read: Callable[[], Awaitable[T]]) -> T:
        """What `read` gives, as soon as the store is not busy."""
        seconds = _FIRST_PAUSE_SECONDS
        while True:
            try:
                result = await read()
            except StoreBusy as error:
                if not self._told:  # thousands of runs may be reading
                    log.warning("the store cannot be read, and is tried again and again: %s", error)
                self._told = True
            else:
                self._told = False
                return result
            await self._pause(seconds)
            seconds = min(2 * seconds, _PAUSE_SECONDS_MOST)

    async def _pause(self, seconds: float) -> None:
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        alarm = self._clock.call_later(seconds, lambda: over.set_result(None))
        try:
            await over
        finally:
            alarm.cancel()
