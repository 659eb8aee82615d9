"""How does a batch become durable, and how do we know that it did? One request, one number, one row that remembers.

A batch goes out as a single statement: fence, changes, events and the batch's number are one transaction of the server,
and one round trip. When one of its transactions is refused, the server has undone all of it; then the batch is written
again in halves, inside savepoints, down to the one that is at fault.

The answer to a commit can be lost: the connection broke after the request was sent, and the server may have committed,
may still be at it, or may get the request later, out of a buffer on the way. So each batch has a number, the next one
of its writer, noted in the row of the writer by the same transaction:

- Who lost an answer asks that row, with a lock that the transaction in question holds until its end, and with a write of
  his own: where a standby must confirm commits, that write returns only after the standby has all that came before.
- The number is there: the batch is durable, and the note says what became of it.
- It is not: the same batch goes out again under the same number. Should the first request arrive after all, one of the
  two finds the number taken and changes nothing (PD000); if it is the second, the row is asked again.

A commit that the standby did not confirm in time ends with a warning, not with an error: durable here, perhaps lost with
this machine. It counts as an answer that was lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Sequence
from typing import Any

import psycopg

from perdure.errors import (
    AlreadyExists,
    AlreadySettled,
    Fenced,
    NotFound,
    PerdureError,
    SessionBusy,
    ShardMoved,
    StoreBroken,
    StoreError,
)
from perdure.store.contract import Fence, Transaction
from perdure.store.member import MOVING
from perdure.store.postgres import failures
from perdure.store.postgres.batch import Batch, alone, stretches
from perdure.store.postgres.connections import REQUEST_SECONDS, Connection, Connections, drop, pauses
from perdure.store.postgres.journals import Tails
from perdure.store.postgres.prepared import Prepared
from perdure.store.postgres.statements import clean, run_statements
from perdure.store.postgres.tries import Outcome, Tries
from perdure.store.queries import load_queries

_SQL = load_queries("postgres", "commit")
_COMMIT = Prepared("perdure_commit", _SQL["commit"])

#: How long a commit goes on trying while the server is away, before it says so.
_PATIENCE_SECONDS = 2.0

#: Refusals that are known before anything is sent.
_KNOWN_HERE = (PerdureError, ValueError, TypeError, OverflowError, UnicodeError)


class Committer:
    """Writes the batches of one store object, one at a time, through a connection of its own."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._tails = Tails()
        self.id = secrets.token_hex(12)
        self._number = 0
        self._connection: Connection | None = None
        self._lock = asyncio.Lock()
        #: a standby has not confirmed the last commit
        self._warned = False
        self._tries = Tries()

    async def open(self) -> None:
        """Make the writer's row."""
        await self._connections.fetch(_SQL["begin_writer"], (self.id,))
        await self._connections.fetch(_SQL["forget_writers"])

    async def close(self) -> None:
        """Wait for the batch under way, and leave."""
        async with self._lock:
            await self._hang_up()
        with contextlib.suppress(StoreError):  # it is forgotten in time
            await self._connections.fetch(_SQL["end_writer"], (self.id,))

    async def commit(self, batch: Sequence[Transaction]) -> list[Outcome]:
        """Make `batch` durable. Raises StoreError; StoreBusy and StoreFull mean that the same batch may be given again."""
        async with self._lock:
            give_up = asyncio.get_running_loop().time() + _PATIENCE_SECONDS
            for pause in pauses():
                try:
                    return await self._try(batch)
                except BaseException as error:
                    # What was sent may still be carried out: this connection says nothing more about it.
                    self._tails.clear()
                    await self._hang_up()
                    if not isinstance(error, (psycopg.Error, OSError)):  # TimeoutError is one
                        raise
                    late = asyncio.get_running_loop().time() > give_up
                    if late or not (failures.is_away(error) or failures.is_undone(error)):
                        raise failures.store_error(error, self._connections.place) from error
                await asyncio.sleep(pause)
        raise AssertionError("the pauses never end")

    async def _try(self, batch: Sequence[Transaction]) -> list[Outcome]:
        if self._tries.unsure:
            await self._settle()
        if (found := self._tries.take(batch)) is not None:
            return found
        try:
            outcomes = await self._at_once(batch) if len(stretches(batch)) == 1 and not alone(batch[0]) else None
        except psycopg.Error as error:
            if not failures.is_refusal(error):
                raise
            outcomes = None
        except _KNOWN_HERE:
            outcomes = None
        if outcomes is None:
            self._tails.clear()
            outcomes = await self._with_care(batch)
        self._number += 1
        self._tries.end()
        return outcomes

    # The usual way: everything in one statement.

    async def _at_once(self, batch: Sequence[Transaction]) -> list[Outcome]:
        """Write the whole batch, or raise what speaks against one of its transactions."""
        await self._learn_tails(batch)
        together = Batch(self._tails)
        for work in batch:
            together.add(work)
        request = together.request()
        put = await self._ask(_SQL["commit"], [self.id, self._number + 1, self._tries.begin(batch, together), *request])
        return list(together.outcomes(put))

    # The careful way: savepoints, and halves of what was refused.

    async def _with_care(self, batch: Sequence[Transaction]) -> list[Outcome]:
        await self._command("begin")
        # In one go, in the order of their names: part by part we would wait in a circle with whoever claims several.
        fenced = sorted({work.fence.shard for work in batch if work.fence is not None})
        await self._rows(_SQL["lock_shards"], (fenced,))
        outcomes: list[Outcome] = []
        for stretch in stretches(batch):
            outcomes += await self._write(stretch)
        await self._ask(_SQL["note"], [self.id, self._number + 1, self._tries.begin(batch, outcomes)])
        await self._command("commit")
        if any(work.statements for work in batch) and not self._connections.pooled:
            assert self._connection is not None
            await clean(self._connection)
        return outcomes

    async def _write(self, works: Sequence[Transaction]) -> list[Outcome]:
        await self._command("savepoint part")
        try:
            outcomes = await self._write_together(works)
        except (*_KNOWN_HERE, psycopg.Error) as error:
            if isinstance(error, psycopg.Error) and not failures.is_refusal(error):
                raise
            self._tails.clear()
            await self._command("rollback to part")
            if len(works) == 1:
                await self._command("release part")
                return [await self._refusal(works[0], error)]
            half = len(works) // 2
            outcomes = [*await self._write(works[:half]), *await self._write(works[half:])]
        await self._command("release part")
        return outcomes

    async def _write_together(self, works: Sequence[Transaction]) -> list[Outcome]:
        await self._learn_tails(works)
        steps = {
            new.run.id: await self._shared_steps(new.run.forked_from, works)
            for work in works for new in work.create if new.run.forked_from is not None
        }  # fmt: skip
        together = Batch(self._tails, lambda run: steps[run])
        for work in works:
            together.add(work)
            if len(works) == 1:
                await self._check_sessions(work)
        put = await self._ask(_SQL["write"], together.request())
        if works[0].statements:  # then it is alone
            assert self._connection is not None
            await run_statements(self._connection, works[0].statements)
        return list(together.outcomes(put))

    async def _check_sessions(self, work: Transaction) -> None:
        begun: dict[tuple[str, str | None], str] = {}
        for new in work.create:
            run = new.run
            if new.session_must_be_free and run.session is not None and await self._taken(work) is None:
                # Two nodes that look at the same time would both find it free: the second waits for the first.
                [[owner]] = await self._rows(_SQL["lock_shard"], (run.shard,))
                if (owner or "").startswith(MOVING):
                    raise _moved(run.shard)
                rows = await self._rows(_SQL["session_taken"], (run.agent, run.session))
                other = rows[0][0] if rows else begun.get((run.agent, run.session))
                if other is not None:
                    raise SessionBusy(
                        f"session {run.agent}/{run.session}: run {other} is active. Wait for it, or cancel it."
                    )
            if not run.status.terminal:
                begun[run.agent, run.session] = run.id

    async def _shared_steps(self, origin: tuple[str, int], works: Sequence[Transaction]) -> int:
        run, seq = origin
        # If its shard leaves for another database, then after us: whoever takes it away sees what we share with it.
        await self._rows(_SQL["hold_origin"], (run,))
        # What this very transaction appends to the origin is shared too.
        own = [event for work in works for event in work.events if event.run == run and event.seq <= seq]
        [[end, steps]] = await self._rows(_SQL["shared"], {"run": run, "seq": seq})
        if max([end, *(event.seq for event in own)]) < seq:
            raise NotFound(f"run {run}: there is no event {seq} to fork at")
        return max([int(steps), *(event.step or 0 for event in own)])

    async def _refusal(self, work: Transaction, error: Exception) -> Exception:
        """Why one transaction by itself was refused, in the contract's words."""
        # Before anything that was known here: it may have been known of an epoch that is over.
        if work.fence is not None and (fenced := await self._fenced(work.fence)) is not None:
            return fenced
        if not isinstance(error, psycopg.Error):
            if isinstance(error, (TypeError, OverflowError, UnicodeError)):
                return ValueError(f"a value cannot be stored: {error}")
            return error
        if error.sqlstate == failures.ASK_CLOSED:
            return AlreadySettled("an ask is not open: it was settled before, or never asked")
        if error.sqlstate == failures.SIGNAL_GONE:
            return AlreadySettled("a signal was consumed before")
        if error.sqlstate == failures.RUN_ENDED:
            return AlreadySettled(f"a run has ended: {', '.join(work.updates)}")
        if error.sqlstate == failures.SHARD_MOVED:
            return _moved(error.diag.message_detail or "")
        if error.sqlstate == failures.NOTE_CHANGED:
            return AlreadyExists(f"{error.diag.message_primary}: somebody else was first")
        if error.sqlstate == failures.PARCEL_GONE:
            return AlreadySettled(f"{error.diag.message_primary}")
        if failures.is_collision(error):
            return await self._collision(work, error)
        return ValueError(f"a value cannot be stored: {error}")

    async def _fenced(self, fence: Fence) -> Fenced | None:
        rows = await self._rows(_SQL["epoch"], (fence.shard,))
        current = rows[0][0] if rows else None
        if current == fence.epoch:
            return None
        return Fenced(
            f"shard {fence.shard}: epoch {fence.epoch} is over, the shard is at {current}. Another node owns it: this "
            f"write was refused and changed nothing."
        )

    async def _collision(self, work: Transaction, error: psycopg.Error) -> Exception:
        taken = await self._taken(work)
        if taken is not None:
            return taken
        constraint = error.diag.constraint_name
        if constraint == "asks_id":
            return AlreadyExists(f"an ask exists already: {', '.join(ask.id for ask in work.open_asks)}")
        if constraint == "runs_active":
            runs = [*work.updates, *(new.run.id for new in work.create)]
            return SessionBusy(f"run {', '.join(runs)}: another run of its session has begun and not ended")
        return ValueError(f"the transaction collides with another: {error}")

    async def _taken(self, work: Transaction) -> AlreadyExists | None:
        for new in work.create:
            run = new.run
            rows = await self._rows(_SQL["run_taken"], {"id": run.id, "agent": run.agent, "key": run.idempotency_key})
            if rows and rows[0][0] == run.id:
                return AlreadyExists(f"run {run.id} exists already")
            if rows:
                return AlreadyExists(
                    f"idempotency key {run.idempotency_key!r} of {run.agent} has started run {rows[0][0]}"
                )
        return None

    # When an answer was lost.

    async def _settle(self) -> None:
        """Ask what became of batches whose answers were lost."""
        rows = await self._rows(_SQL["settle"], (self.id,))
        if not rows:
            raise StoreBroken(
                f"{self._connections.place}: this node is not known there any more. Was the database replaced or "
                f"restored? Start the node again; it goes on from what the database has."
            )
        number, attempt, note = rows[0]
        self._number = int(number)
        self._tries.settle(attempt, note)

    # The connection.

    async def _learn_tails(self, works: Sequence[Transaction]) -> None:
        wanted: dict[str, Fence] = {}
        for work in works:
            if work.fence is not None:
                wanted |= dict.fromkeys([*(event.run for event in work.events), *work.updates], work.fence)
        if wanted:
            await self._tails.learn(wanted, self._rows)

    async def _ask(self, sql: str, values: Sequence[Any]) -> str:
        [[answer]] = await self._rows(sql, values)
        return str(answer)

    async def _command(self, sql: str) -> None:
        await self._rows(sql, ())

    async def _rows(self, sql: str, values: Any) -> list[tuple[Any, ...]]:
        connection = self._connection
        if connection is None or connection.closed:
            connection = self._connection = await self._connections.connect()
            connection.add_notice_handler(self._hear)
        self._warned = False
        async with asyncio.timeout(REQUEST_SECONDS):
            if sql == _SQL["commit"] and not self._connections.pooled:
                rows: list[tuple[Any, ...]] = [(await _COMMIT.ask(connection, values),)]
            else:
                cursor = await connection.execute(sql, values, binary=True)
                rows = await cursor.fetchall() if cursor.description else []
        if self._warned:
            raise TimeoutError("the standby has not confirmed a commit")
        return rows

    async def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await drop(connection)

    def _hear(self, notice: psycopg.errors.Diagnostic) -> None:
        # "canceling wait for synchronous replication": the commit is here and perhaps nowhere else.
        if notice.severity_nonlocalized == "WARNING":
            self._warned = True


def _moved(shard: str) -> ShardMoved:
    return ShardMoved(f"shard {shard} is in another database, or on its way there", shard=shard)
