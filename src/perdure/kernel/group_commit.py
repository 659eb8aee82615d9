"""Many runs, one fsync: everything that is ready commits together.

Transactions submitted during one turn of the host's loop form a batch; the next batch gathers while one is
being written. Each submitter hears what became of its own transaction, in order of submission.

A full disk is waited out: nothing was acknowledged, so trying again is safe, and work goes on by itself once
there is room. Any other failure of the store is fatal for the node: after a failed fsync nobody knows what is
on the disk (https://wiki.postgresql.org/wiki/Fsync_Errors), and recovery is cheap. A node that is to end and has no
more time does not wait for room either.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from perdure.errors import AlreadyExists, PerdureError, StoreBusy, StoreError, StoreFull
from perdure.store.contract import Store, Transaction
from perdure.values.clock import Clock

if TYPE_CHECKING:
    from perdure.kernel.outbox import Outbox
    from perdure.store.contract import NewRun

log = logging.getLogger("perdure.kernel")

T = TypeVar("T")
Verdict = Exception | list[int] | None
_BATCH_MOST = 2_000
_RETRY_SECONDS = 0.5


class GroupCommit:
    """The one way into the store's `commit`."""

    def __init__(self, store: Store, clock: Clock, on_fatal: Callable[[Exception], None]) -> None:
        #: why nothing can be written at the moment, or None
        self.stalled: StoreError | None = None
        #: encloses what tells others of what is written, or None while nobody wants to know
        self.outbox: Outbox | None = None
        self._store = store
        self._clock = clock
        self._on_fatal = on_fatal
        self._pending: list[tuple[Callable[[], Transaction], Callable[[Verdict], None]]] = []
        #: ends the writer's sleep, or its pause before another try, if it is in one
        self._wake: asyncio.Future[None] | None = None
        self._pause: asyncio.Future[None] | None = None
        #: who waits for the batch that is being written
        self._writing: list[Callable[[Verdict], None]] = []
        #: why nothing is taken any more, or None
        self._over: Exception | None = None
        self._patient = True
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._write_batches(), name="perdure group commit")

    def submit(self, build: Callable[[], Transaction], done: Callable[[Verdict], None]) -> None:
        """Commit with the next batch; `done` hears None or the signal ids (accepted), or the refusal.

        `build` is called when the batch is written, so that all that gathers until then goes along.
        """
        if self._over is not None:
            done(self._over)
            return
        self._pending.append((build, done))
        _end(self._wake)

    async def commit(
        self, transaction: Transaction, *, then: Callable[[list[int]], object] = lambda _: None,
        otherwise: Callable[[], object] = lambda: None,
    ) -> list[int]:  # fmt: skip
        """Commit and wait; gives the ids of its signals. Raises the refusal.

        `then` is called with the ids the moment it is durable, `otherwise` when it is refused: also when whoever
        waits here gives up.
        """
        future: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()

        def done(verdict: Verdict) -> None:
            if isinstance(verdict, Exception):
                otherwise()
                if not future.done():
                    future.set_exception(verdict)
                return
            then(verdict or [])
            if not future.done():
                future.set_result(verdict or [])

        self.submit(lambda: transaction, done)
        return await future

    async def drain(self) -> None:
        """Return when all that was submitted until now is written. Raises StoreError when the store cannot write."""
        if self._pending or self._writing:
            await self.commit(Transaction())

    def lose_patience(self) -> None:
        """From now on a disk that is full is as fatal as a broken one."""
        self._patient = False
        _end(self._pause)

    async def close(self) -> None:
        """Take nothing more, write what is pending, then stop."""
        # At once: what came while the last batch is being written would never be answered.
        self._over = self._over or PerdureError("this node has stopped")
        self.lose_patience()
        _end(self._wake)
        if self._task is not None:
            await asyncio.wait([self._task])

    def abort(self, error: Exception) -> None:
        """Stop at once, like a crash: what is pending is not written, and whoever waits for it hears `error`."""
        self._over = error
        waiting = [*self._writing, *(done for _, done in self._pending)]
        self._writing, self._pending = [], []
        if self._task is not None:
            self._task.cancel()
        for done in waiting:
            done(error)

    async def _write_batches(self) -> None:
        try:
            while self._pending or self._over is None:
                if self._pending:
                    await self._write_batch()
                else:
                    self._wake = asyncio.get_running_loop().create_future()
                    await self._wake
                    self._wake = None
        except Exception as error:  # noqa: BLE001 - whatever it is: a node that cannot write must not look alive
            self._on_fatal(error)

    async def _write_batch(self) -> None:
        batch = self._pending[:_BATCH_MOST]
        del self._pending[: len(batch)]
        self._writing = writing = [done for _, done in batch]
        transactions = [build() for build, _ in batch]
        outbox = self.outbox
        told = [outbox.enclose(transaction) for transaction in transactions] if outbox is not None else None
        verdicts = await self._write(transactions)
        if outbox is not None and told is not None:
            await self._write_without_known(outbox, transactions, told, verdicts)
        for index, (done, verdict) in enumerate(zip(writing, verdicts, strict=True)):
            if outbox is not None and told is not None and told[index]:
                outbox.settle(told[index], accepted=not isinstance(verdict, Exception))
            done(verdict)
            if self._writing is not writing:
                return  # somebody gave up the node; the others have heard
        self._writing = []

    async def _write_without_known(
        self, outbox: Outbox, transactions: list[Transaction], told: list[list[NewRun]], verdicts: list[Verdict]
    ) -> None:
        """Once more what was refused only because what tells of it exists already."""
        for index, verdict in enumerate(verdicts):
            if not (told[index] and isinstance(verdict, AlreadyExists)):
                continue
            if await self._patiently(partial(outbox.skip_known, transactions[index], told[index])):
                [verdicts[index]] = await self._write([transactions[index]])

    async def _write(self, transactions: list[Transaction]) -> list[Verdict]:
        return list(await self._patiently(lambda: self._store.commit(transactions)))

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                result = await work()
            except (StoreFull, StoreBusy) as error:
                if self.stalled is None:
                    log.error("%s", error)
                self.stalled = error
                if not self._patient:
                    raise
                await self._wait_for_room()
            else:
                self.stalled = None
                return result

    async def _wait_for_room(self) -> None:
        self._pause = asyncio.get_running_loop().create_future()
        alarm = self._clock.call_later(_RETRY_SECONDS, lambda: _end(self._pause))
        await self._pause
        alarm.cancel()


def _end(pause: asyncio.Future[None] | None) -> None:
    if pause is not None and not pause.done():
        pause.set_result(None)
