"""On which connection and thread does a call run, and what does a failing disk mean for the next one?

Writes run where they are called while the disk is quick, since a commit takes about as long as a change of
threads. While it is slow, or another process holds the write lock, they run in a thread of their own, in order,
and reads use a second connection meanwhile. After a failed write to the disk nothing runs any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from threading import Event
from typing import Any, Concatenate, ParamSpec, TypeVar

import apsw

from perdure.errors import StoreBroken, StoreBusy, StoreError
from perdure.store.sqlite import reads
from perdure.store.sqlite.failures import store_error
from perdure.store.sqlite.log import Log
from perdure.store.sqlite.schema import connect, open_database
from perdure.values.clock import Clock

Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")

#: How long a write waits for another process.
_PATIENCE_MS = 5_000
#: How often it tries.
_RETRY_SECONDS = 0.0005
#: Writes that take longer than this, by their moving average, leave the caller's thread.
_SLOW_SECONDS = 0.003
#: Weight of the last write in the moving average.
_LAST_WEIGHT = 0.2


class Database:
    """The connections to one file. Its calls belong to one event loop's thread."""

    def __init__(self, path: str, clock: Clock, *, slots: int, vfs: str | None) -> None:
        self.path = path
        self._clock = clock
        self._slots = slots
        self._vfs = vfs
        self._writer: apsw.Connection | None = None
        self.log: Log
        self._reader: apsw.Connection | None = None
        self._thread: ThreadPoolExecutor
        self._last_in_thread: Future[Any] | None = None
        self._average_seconds = 0.0
        self._changes = 0
        self._never = Event()
        self._broken: StoreBroken | None = None

    def open(self) -> apsw.Connection:
        """Make or migrate the file; returns the connection for writes. Raises StoreError."""
        self._refuse_if_broken()
        try:
            self._writer = open_database(self.path, slots=self._slots, patience_ms=_PATIENCE_MS, vfs=self._vfs)
        except (apsw.Error, OSError) as error:
            raise self._failure(error) from error
        self.log = Log(self._writer)
        self._thread = ThreadPoolExecutor(1, "perdure-store")
        return self._writer

    async def close(self) -> None:
        """Wait for the write under way and let go of the file; idempotent."""
        if self._last_in_thread is not None:
            await asyncio.wait([asyncio.wrap_future(self._last_in_thread)])
            self._thread.shutdown()
        connections, self._reader, self._writer = (self._reader, self._writer), None, None
        for connection in connections:
            if connection is not None:
                if self._broken is not None:
                    # The last connection would copy the log into the database and delete it: hands off.
                    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
                # What cannot be copied now stays in the log: nothing to tell, nothing lost.
                with suppress(apsw.Error):
                    connection.close()

    async def write(self, work: Callable[[], Result]) -> Result:
        """Run `work`, which writes through the writer, alone and after all writes before it. Raises StoreError."""
        writer = self._usable()
        if self._average_seconds < _SLOW_SECONDS and not self._thread_works():
            writer.set_busy_timeout(0)
            try:
                return self._timed(work)
            except StoreBusy:
                # Nothing was done yet. Waiting for another process must not stop the event loop.
                pass
            finally:
                writer.set_busy_timeout(_PATIENCE_MS)
        self._last_in_thread = self._thread.submit(self._patiently, work)
        # Shielded: who stops waiting must not make the order of writes, or whether they happen, a matter of luck.
        return await asyncio.shield(asyncio.wrap_future(self._last_in_thread))

    def read(
        self,
        query: Callable[Concatenate[apsw.Connection, Arguments], Result],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Result:
        """The answer of `query` to what was committed so far. Raises StoreError."""
        db = self._usable()
        try:
            if self._thread_works():
                if self._reader is None:
                    self._reader = connect(self.path, patience_ms=_PATIENCE_MS, vfs=self._vfs)
                db = self._reader
            return query(db, *args, **kwargs)
        except apsw.Error as error:
            raise self._failure(error) from error

    def changes(self) -> int:
        """A number that differs from the last one when another process has committed since."""
        # Asked of the writer, for which its own commits do not count; while it is at work the old answer stands.
        if not self._thread_works():
            self._changes = self.read(reads.changes)
        return self._changes

    def _refuse_if_broken(self) -> None:
        if self._broken is not None:
            raise StoreBroken(str(self._broken))

    def _usable(self) -> apsw.Connection:
        self._refuse_if_broken()
        if self._writer is None:
            raise StoreError(f"{self.path}: the store is closed. Call open() first.")
        return self._writer

    def _thread_works(self) -> bool:
        return self._last_in_thread is not None and not self._last_in_thread.done()

    def _patiently(self, work: Callable[[], Result]) -> Result:
        assert self._writer is not None
        self._writer.set_busy_handler(self._wait_for_lock)
        return self._timed(work)

    def _wait_for_lock(self, tries: int) -> bool:
        # SQLite's own waiting soon looks only every 100 ms: beside a process that commits without a pause it starves.
        self._never.wait(_RETRY_SECONDS)
        return tries * _RETRY_SECONDS < _PATIENCE_MS / 1000

    def _timed(self, work: Callable[[], Result]) -> Result:
        self._refuse_if_broken()
        start = self._clock.monotonic()
        try:
            result = work()
        except (apsw.Error, OSError) as error:
            raise self._failure(error) from error
        if self.log.full:
            self._empty_log()
        self._average_seconds += (self._clock.monotonic() - start - self._average_seconds) * _LAST_WEIGHT
        return result

    def _empty_log(self) -> None:
        try:
            self.log.empty()
        except apsw.Error as error:
            # The commit before it is durable and stays acknowledged: the next call hears of the disk.
            self._failure(error)

    def _failure(self, error: apsw.Error | OSError) -> StoreError:
        failure = store_error(error, self.path)
        if isinstance(failure, StoreBroken):
            self._broken = failure
        return failure
