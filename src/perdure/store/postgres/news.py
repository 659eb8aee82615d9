"""How does a store hear that others have committed? The database tells it; and it looks anyhow, now and then.

Telling is a favour (NOTIFY in a transaction of its own that writes nothing, so that it costs no flush and holds no lock
over one): it may come late, or never. Looking is what makes the delay bounded.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import psycopg

from perdure.errors import StoreError
from perdure.store.postgres.connections import Connection, Connections, drop, pauses

#: How often to look when the database tells us, and when it cannot.
_LOOK_SECONDS = 1.0
_LOOK_SECONDS_UNTOLD = 0.1
#: A single commit is told at once. While commits go on, what came in between is told together, ever more rarely.
_TELL_SECONDS = 0.001
_TELL_SECONDS_MOST = 0.02
_CHANNEL = "perdure"


class News:
    """Hears of other stores' commits, and tells others of ours."""

    def __init__(self, connections: Connections, name: str) -> None:
        self._connections = connections
        self._name = name
        self._changed = asyncio.Event()
        self._listening = False
        self._listener: asyncio.Task[None] | None = None
        self._teller: asyncio.Task[None] | None = None
        self._untold = False

    async def wait(self) -> None:
        """Return when others may have committed: at once if somebody said so since the last call."""
        if self._listener is None and not self._connections.pooled:
            self._listener = asyncio.create_task(self._listen(), name="perdure listener")
        with suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_SECONDS if self._listening else _LOOK_SECONDS_UNTOLD):
                await self._changed.wait()
        self._changed.clear()

    def tell(self) -> None:
        """We have committed something that others may wait for."""
        self._untold = True
        if self._teller is None or self._teller.done():
            self._teller = asyncio.create_task(self._tell(), name="perdure teller")

    async def close(self) -> None:
        """Hear and tell no more; what is untold is told."""
        if self._teller is not None:
            await asyncio.gather(self._teller, return_exceptions=True)
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.gather(self._listener, return_exceptions=True)
            self._listener = None

    async def _tell(self) -> None:
        pause = _TELL_SECONDS
        while self._untold:
            self._untold = False
            with suppress(StoreError):  # they look by themselves
                await self._connections.fetch("select pg_notify(%s, %s)", (_CHANNEL, self._name))
            await asyncio.sleep(pause)
            pause = min(2 * pause, _TELL_SECONDS_MOST)

    def _hear(self, teller: str) -> None:
        if teller != self._name:
            self._changed.set()

    async def _listen(self) -> None:
        wait = pauses()
        while True:
            connection: Connection | None = None
            try:
                connection = await self._connections.connect()
                await connection.execute(f"listen {_CHANNEL}")
                self._listening = True
                self._changed.set()  # whatever was told before
                wait = pauses()
                async for notice in connection.notifies():
                    self._hear(notice.payload)
            except (psycopg.Error, OSError, TimeoutError):
                pass
            except StoreError:  # closed
                return
            finally:
                self._listening = False
                if connection is not None:
                    await drop(connection)
            await asyncio.sleep(next(wait))
