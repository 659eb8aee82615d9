"""How does a batch become durable? One SQLite transaction; each of the batch's transactions accepted or refused alone.

Speed comes from doing little: rows of events are collected over the whole batch and written together, and what
may be refused is tried first, so that most transactions need no savepoint: a refusal finds nothing to undo.
"""

from __future__ import annotations

from collections.abc import Sequence

import apsw

from perdure.errors import AlreadyExists, AlreadySettled, Fenced, PerdureError, SessionBusy
from perdure.store.contract import Ask, AskClose, Fence, NewRun, RunUpdate, Signal, Transaction
from perdure.store.queries import load_queries
from perdure.store.rows import ask_row, run_row, signal_row, wait_text
from perdure.store.sqlite.exchange import Exchanges
from perdure.store.sqlite.journals import EventRow, Journals, shared_steps
from perdure.store.sqlite.statements import UserStatements
from perdure.values.runs import Run

_SQL = load_queries("sqlite", "commit")

#: What the driver raises for a value that a row cannot hold: half a character, an object, too large a number.
_UNSTORABLE = (UnicodeError, TypeError, OverflowError)

#: What became of one transaction: nothing to say, the ids of its signals, or why it was refused.
Outcome = Exception | list[int] | None


class Committer:
    """Writes batches through one connection. Not for two threads at a time."""

    def __init__(self, db: apsw.Connection, journals: Journals) -> None:
        self._db = db
        self._execute = db.execute
        self._journals = journals
        self._statements = UserStatements(db)
        self._exchanges = Exchanges(db)
        #: within a batch: the current epochs of the shards it names
        self._epochs: dict[str, int | None] = {}

    def commit(self, batch: Sequence[Transaction], *, careful: bool = False) -> list[Outcome]:
        """Make `batch` durable. Raises the driver's errors, after which nothing of it has happened.

        `careful` writes each transaction out by itself, to find the one that cannot be.
        """
        self._journals.trim()
        self._epochs.clear()
        self._exchanges.begin_batch()
        self._execute("begin immediate")
        try:
            outcomes = [self._outcome(transaction, careful) for transaction in batch]
            self._journals.flush()
            self._execute("commit")
        except _AllUndoneError as undone:
            self._undo()
            at = next(index for index, transaction in enumerate(batch) if transaction is undone.transaction)
            outcomes = self.commit([*batch[:at], *batch[at + 1 :]], careful=careful)
            outcomes.insert(at, undone.refusal)
        except _UNSTORABLE:
            self._undo()
            outcomes = self.commit(batch, careful=True)
        except BaseException:
            self._undo()
            raise
        return outcomes

    def _undo(self) -> None:
        self._journals.reset()
        if self._db.in_transaction:
            self._execute("rollback")

    def _outcome(self, transaction: Transaction, careful: bool) -> Outcome:
        refusal: Exception
        try:
            return self._accept(transaction, careful)
        except _UNSTORABLE as error:
            if not careful:
                raise
            refusal = ValueError(f"a value cannot be stored: {error}")
        except (PerdureError, ValueError) as error:
            refusal = error
        self._journals.forget([*transaction.updates, *(event.run for event in transaction.events)])
        if not self._db.in_transaction:
            raise _AllUndoneError(transaction, refusal)
        return refusal

    def _accept(self, work: Transaction, careful: bool) -> list[int] | None:
        if work.fence is not None:
            self._check_fence(work.fence)
        elif work.events or work.updates or work.consume or work.open_asks or work.state or work.statements:
            raise ValueError("a transaction without a fence may only create runs, put signals and close asks")
        if work.create or work.signals or work.close_asks or work.exchange:
            self._exchanges.refuse_moved(work)
        if not careful and _refusable(work) <= 1:
            return self._write(work)
        self._journals.flush()
        self._execute("savepoint alone")
        try:
            ids = self._write(work)
            if careful:
                self._journals.flush()
        except Exception:
            if self._db.in_transaction:
                self._journals.drop()
                self._execute("rollback to alone")
            raise
        finally:
            if self._db.in_transaction:
                self._execute("release alone")
        return ids

    def _check_fence(self, fence: Fence) -> None:
        shard, epoch = fence
        if shard in self._epochs:
            current = self._epochs[shard]
        else:
            current = self._epochs[shard] = self._execute(_SQL["fence"], (shard,)).get
        if current != epoch:
            raise Fenced(
                f"shard {shard}: epoch {epoch} is over, the shard is at {current}. Another node owns it: this write "
                f"was refused and changed nothing."
            )

    def _write(self, work: Transaction) -> list[int] | None:
        fence = work.fence
        rows = [] if fence is None else self._journals.follow(work.events, fence)
        if work.exchange is not None:
            self._exchanges.write(work.exchange)
        for close in work.close_asks:
            self._close_ask(close)
        for signal_id in work.consume:
            self._consume(signal_id)
        for new in work.create:
            if new.run.forked_from is not None:
                # Whatever it shares must be found, also what this very transaction appends.
                self._journals.append(rows)
                self._journals.flush()
                rows = []
            rows += self._create(new)
        if fence is not None:
            for run, update in work.updates.items():
                self._update(run, update, fence)
        for ask in work.open_asks:
            self._open_ask(ask)
        for statement in work.statements:
            self._statements.run(statement)
        if work.state is not None:
            self._change_state(*work.state)
        delivered = work.exchange is not None and work.exchange.deliver is not None
        ids = [self._put(signal, delivered=delivered) for signal in work.signals]
        self._journals.append(rows)
        return ids or None

    def _create(self, new: NewRun) -> list[EventRow]:
        run = new.run
        first, steps = 1, 0
        if run.forked_from is not None:
            first, steps = run.forked_from[1] + 1, shared_steps(self._db, *run.forked_from)
        for seq, event in enumerate(new.events, first):
            if event.seq != seq or event.run != run.id:
                raise ValueError(f"run {run.id}: its events must be its own and numbered from {first}, not {event}")
        if new.session_must_be_free and run.session is not None:
            if (taken := self._taken(run)) is not None:
                raise taken
            self._check_session(run.agent, run.session)
        seq = first - 1 + len(new.events)
        steps = max([steps, *(event.step or 0 for event in new.events)])
        try:
            self._execute(_SQL["create_run"], run_row(run, seq=seq, steps=steps))
        except apsw.ConstraintError as error:
            raise self._taken(run) or _session_busy(run.id, error) from error
        key = self._db.last_insert_rowid()
        return [self._journals.row(event, key) for event in new.events]

    def _check_session(self, agent: str, session: str) -> None:
        other = self._execute(_SQL["session_taken"], (agent, session)).get
        if other is not None:
            raise SessionBusy(f"session {agent}/{session}: run {other} is active. Wait for it, or cancel it.")

    def _taken(self, run: Run) -> AlreadyExists | None:
        other = self._execute(_SQL["run_taken"], (run.id, run.agent, run.idempotency_key)).get
        if other == run.id:
            return AlreadyExists(f"run {run.id} exists already")
        if other is not None:
            return AlreadyExists(f"idempotency key {run.idempotency_key!r} of {run.agent} has started run {other}")
        return None

    def _update(self, run: str, update: RunUpdate, fence: Fence) -> None:
        tail = self._journals.tail(run, fence)
        values = (
            update.status.value, update.updated, update.reason, wait_text(update.wait), update.wake_at, update.attempt,
            update.strikes, tail.seq, tail.steps, tail.key,
        )  # fmt: skip
        try:
            self._execute(_SQL["update_run"], values)
        except apsw.ConstraintError as error:
            raise _session_busy(run, error) from error
        if not self._db.changes():
            raise AlreadySettled(f"run {run} has ended: its status cannot become {update.status}")
        tail.ended = update.status.terminal

    def _open_ask(self, ask: Ask) -> None:
        try:
            self._execute(_SQL["open_ask"], ask_row(ask))
        except apsw.ConstraintError as error:
            raise AlreadyExists(f"ask {ask.id} exists already") from error

    def _close_ask(self, close: AskClose) -> None:
        self._execute(_SQL["close_ask"], (close.status, close.closed, close.answer, close.by, close.note, close.id))
        if not self._db.changes() and not close.lenient:
            raise AlreadySettled(f"ask {close.id} is not open: it was settled before, or never asked")

    def _consume(self, signal_id: int) -> None:
        self._execute(_SQL["consume_signal"], (signal_id,))
        if not self._db.changes():
            raise AlreadySettled(f"signal {signal_id} was consumed before")

    def _put(self, signal: Signal, *, delivered: bool) -> int:
        if signal.run is not None:
            # The run may be created by this very batch, but its row is written at once: it is found.
            self._execute(_SQL["put_run_signal"], (signal.kind, signal.data, signal.created, signal.run))
            if self._db.changes():
                return self._db.last_insert_rowid()
            if not delivered:
                return 0
        self._execute(_SQL["put_signal"], signal_row(signal))
        return self._db.last_insert_rowid()

    def _change_state(self, agent: str, session: str, changes: dict[str, str | None]) -> None:
        for name, value in changes.items():
            if value is None:
                self._execute(_SQL["unset_state"], (agent, session, name))
            else:
                self._execute(_SQL["set_state"], (agent, session, name, value))


class _AllUndoneError(Exception):
    """A user's SQL failed with `or rollback`: its neighbours are undone too and go again without it."""

    def __init__(self, transaction: Transaction, refusal: Exception) -> None:
        super().__init__()
        self.transaction = transaction
        self.refusal = refusal


def _refusable(work: Transaction) -> int:
    """How many of its parts may be refused after another has written; forks, users' SQL and exchanges count twice."""
    known = len(work.updates) + len(work.create) + len(work.consume) + len(work.open_asks) + len(work.close_asks)
    forks = sum(new.run.forked_from is not None for new in work.create)
    return known + forks + 2 * len(work.statements) + (2 if work.exchange is not None else 0)


def _session_busy(run: str, error: apsw.ConstraintError) -> Exception:
    if getattr(error, "extendedresult", 0) == apsw.SQLITE_CONSTRAINT_UNIQUE:
        return SessionBusy(f"run {run}: another run of its session has begun and not ended")
    return ValueError(f"run {run}: {error}")
