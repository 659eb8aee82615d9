"""Who is watching? Followers read the store from their own position and are only nudged when there is more.

So a slow reader costs nothing but its own wait, and a reader that comes back after a restart goes on where it was. All
that is kept in memory is one future for each reader that waits.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from typing import NoReturn, TypeVar

from perdure.store.contract import RunFilter, Store
from perdure.values.events import Event
from perdure.values.runs import RunStatus

T = TypeVar("T")

_PAGE = 500
_ENDS = tuple(status for status in RunStatus if status.terminal)


class Followers:
    """Nudges for readers of journals, and for those who wait for a run's end."""

    def __init__(self, store: Store, moves_here: Callable[[str], bool] = lambda _: False) -> None:
        self._store = store
        #: of a run that moves here, `published` will tell the end: the store need not be asked first
        self._moves_here = moves_here
        self._nudges: defaultdict[str, set[asyncio.Future[None]]] = defaultdict(set)
        self._ends: defaultdict[str, set[asyncio.Future[Event]]] = defaultdict(set)
        self._failure: Exception | None = None
        #: called with the events of every commit of this node: for those who watch all its runs
        self.watchers: list[Callable[[str, list[Event]], object]] = []
        #: called when another process wrote, nobody knows to which run
        self.listeners: list[Callable[[], object]] = []

    def published(self, run: str, events: list[Event]) -> None:
        """There is more in the journal of `run`."""
        for watch in self.watchers:
            watch(run, events)
        for nudge in self._nudges.pop(run, ()):
            if not nudge.done():
                nudge.set_result(None)
        if events and events[-1].terminal:
            for end in self._ends.pop(run, ()):
                if not end.done():
                    end.set_result(events[-1])

    async def changed_elsewhere(self) -> None:
        """Another process wrote: anybody may have more to read."""
        for listen in self.listeners:
            listen()
        for run in list(self._nudges):
            self.published(run, [])
        awaited = tuple(self._ends)
        for first in range(0, len(awaited), _PAGE):
            some = awaited[first : first + _PAGE]
            for ended in await self._store.runs(RunFilter(ids=some, statuses=_ENDS, limit=len(some))):
                self.published(ended.id, await self._store.events(ended.id, ended.seq - 1))

    def fail(self, error: Exception) -> None:
        """The node is dead: nobody will ever be nudged again."""
        self._failure = error
        waiting: list[asyncio.Future[None] | asyncio.Future[Event]] = []
        for nudges in self._nudges.values():
            waiting += nudges
        for ends in self._ends.values():
            waiting += ends
        for future in waiting:
            if not future.done():
                future.set_exception(error)
                future.exception()  # a reader that is not waiting just now hears of it when it asks for more
        self._nudges.clear()
        self._ends.clear()

    async def failure(self) -> NoReturn:
        """Wait until the node is dead, then raise why."""
        while True:
            await self._expect(self._nudges, "")

    async def follow(self, run: str, after: int) -> AsyncIterator[Event]:
        """The journal of `run` after `after`, then live, until its last event."""
        while True:
            nudge = self._expect(self._nudges, run)
            try:
                events = await self._store.events(run, after, _PAGE)
                for event in events:
                    yield event
                    after = event.seq
                    if event.terminal:
                        return
                if not events:
                    await nudge
            finally:
                self._forget(self._nudges, run, nudge)

    async def end(self, run: str) -> Event:
        """The last event of `run`, once there is one."""
        future = self._expect(self._ends, run)
        try:
            row = None if self._moves_here(run) else await self._store.run(run)
            if row is not None and row.status.terminal:
                return (await self._store.events(run, row.seq - 1))[-1]
            return await future
        finally:
            self._forget(self._ends, run, future)

    def _expect(self, waiting: defaultdict[str, set[asyncio.Future[T]]], run: str) -> asyncio.Future[T]:
        if self._failure is not None:
            raise self._failure
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        waiting[run].add(future)
        return future

    def _forget(self, waiting: defaultdict[str, set[asyncio.Future[T]]], run: str, future: asyncio.Future[T]) -> None:
        futures = waiting.get(run)
        if futures is not None:
            futures.discard(future)
            if not futures:
                del waiting[run]
