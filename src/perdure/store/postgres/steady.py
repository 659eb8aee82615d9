"""How does a connection wait for its server without paying for the wait? Its socket stays watched between requests.

The driver tells the loop about its socket anew for every wait, and sets a clock for it: a third of what a request costs
the client. Here the loop is told once; what is rare (a request larger than the socket takes at once, a caller who gives
up) is left to the driver, which goes on from where the request is.

The loop watches a duplicate of the socket that is ours alone: libpq closes its own whenever the line breaks, and the loop
must never watch a number that has become another's.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Generator
from typing import Any

import psycopg
from psycopg.abc import RV, PQGen
from psycopg.pq import ConnStatus
from psycopg.pq.abc import PGconn
from psycopg.waiting import Ready, Wait

#: The driver's own: how often its waits look around (seconds).
_INTERVAL_SECONDS = 0.1


class SteadyConnection(psycopg.AsyncConnection[tuple[Any, ...]]):
    """The driver's connection, for one event loop, with a cheaper `wait`; to be closed, or else it is never collected."""

    def __init__(self, pgconn: PGconn) -> None:
        super().__init__(pgconn)
        #: names of the statements that the server knows (prepared.py)
        self.prepared: set[bytes] = set()
        #: ends the wait under way, if there is one
        self._waiting: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        #: the duplicate, while the loop watches it
        self._watched: int | None = None
        #: it was heard while nobody waited
        self._unasked = False

    async def wait(self, gen: PQGen[RV], interval: float = _INTERVAL_SECONDS, timeout: float | None = None) -> RV:
        """Go through a request of the driver: wherever it waits for the socket, wait. Raises the driver's errors."""
        if timeout is not None:
            self._ignore()
            return await super().wait(gen, interval, timeout)
        try:
            wants = next(gen)
            while wants == Wait.R:
                await self._readable()
                wants = gen.send(Ready.R)
        except StopIteration as end:
            if self.pgconn.status != ConnStatus.OK:
                self._ignore()
            result: RV = end.value
            return result
        except asyncio.CancelledError as cancelled:
            rest = _Rest(gen, cancelled)
        except BaseException:
            self._ignore()
            raise
        else:
            rest = _Rest(gen, wants)
        # The driver watches the socket by itself.
        self._ignore()
        return await super().wait(rest, interval)

    async def close(self) -> None:
        """Close it; whoever waits for an answer hears that it is closed."""
        self._ignore()
        await super().close()
        self._hear()

    async def _readable(self) -> None:
        """Return when there is something to read, or the other end has gone."""
        if self._watched is None:
            self._loop = asyncio.get_running_loop()
            self._watched = os.dup(self.pgconn.socket)
            self._loop.add_reader(self._watched, self._hear)
        assert self._loop is not None
        self._waiting = self._loop.create_future()
        self._unasked = False
        try:
            await self._waiting
        finally:
            self._waiting = None
        if self.closed:  # and what the request would read from is freed
            raise psycopg.OperationalError("the connection was closed")

    def _hear(self) -> None:
        if self._waiting is not None:
            if not self._waiting.done():
                self._waiting.set_result(None)
        elif self._unasked:
            self._ignore()  # a notice, or the end: it would be heard again and again until somebody reads
        else:
            self._unasked = True  # the loop looked once more before the answer was read

    def _ignore(self) -> None:
        if self._watched is not None and self._loop is not None:
            if not self._loop.is_closed():
                self._loop.remove_reader(self._watched)
            os.close(self._watched)
            self._watched = None


class _Rest(Generator[Wait, Ready | int, RV]):
    """What is left of a request that has begun, for a driver that begins at the beginning: `first` is what came up."""

    def __init__(self, request: PQGen[RV], first: Wait | BaseException) -> None:
        self._request = request
        self._first: Wait | BaseException | None = first

    def send(self, ready: Ready | int) -> Wait:
        first, self._first = self._first, None
        if isinstance(first, BaseException):
            raise first
        return self._request.send(ready) if first is None else first

    def throw(self, *error: Any) -> Wait:
        return self._request.throw(*error)
