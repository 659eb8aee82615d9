"""What does a batch look like as one request? The transactions of a batch, put together by what they change.

All of them are written by one statement, which accepts all or none. So a batch is put together only from transactions
that do not depend on each other in ways that the statement's order (closes, consumes, creates, updates, asks, state,
signals, events) would hide; `stretches` parts a batch where they do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from psycopg.types.json import Jsonb

from perdure.errors import AlreadySettled
from perdure.store.contract import Ask, AskClose, NewRun, RunUpdate, Signal, Transaction
from perdure.store.postgres.exchange import Crossings
from perdure.store.postgres.journals import Tail, Tails
from perdure.store.rows import ask_row, run_row, wait_text
from perdure.values.events import Event
from perdure.values.json import decode
from perdure.values.runs import Run

_RUN_COLUMNS = (
    "id", "agent", "version", "session", "shard", "status", "reason", "wait", "wake_at", "created", "updated", "parent",
    "parent_step", "priority", "concurrency_key", "idempotency_key", "attempt", "strikes", "forked_run", "forked_seq",
    "seq", "steps",
)  # fmt: skip
_ASK_COLUMNS = (
    "id", "run", "agent", "session", "shard", "step", "kind", "title", "detail", "addressee", "created", "deadline",
    "status", "answer", "closed_by", "note", "closed",
)  # fmt: skip


def stretches(batch: Sequence[Transaction]) -> list[list[Transaction]]:
    """`batch` in parts that can each be written as one, in order."""
    parts: list[list[Transaction]] = []
    order = _Order()
    for work in batch:
        if alone(work):
            parts.append([work])
            order = _Order()
            order.closed = True
        elif not parts or not order.keeps(work):
            parts.append([work])
            order = _Order()
            order.note(work)
        else:
            parts[-1].append(work)
            order.note(work)
    return parts


def alone(work: Transaction) -> bool:
    """Must it be written by itself? Users' SQL, forks, and runs that want their session for themselves."""
    return bool(work.statements) or any(
        new.session_must_be_free or new.run.forked_from is not None for new in work.create
    )


class _Order:
    """What a part holds, as far as a later transaction could depend on it in another order than the statement's."""

    def __init__(self) -> None:
        self.closed = False
        self._epochs: dict[str, int] = {}
        self._asked: set[str] = set()
        self._called: set[str | None] = set()
        self._updated: set[str] = set()

    def keeps(self, work: Transaction) -> bool:
        """`work` may be written together with what is there."""
        if self.closed or (work.fence is not None and self._epochs.get(*work.fence) != work.fence.epoch):
            return False
        return not (
            any(close.id in self._asked for close in work.close_asks)
            or any(new.run.id in self._called for new in work.create)
            # The last word on a run would hide one before it that must be refused.
            or not self._updated.isdisjoint(work.updates)
        )

    def note(self, work: Transaction) -> None:
        """`work` is there too."""
        if work.fence is not None:
            self._epochs[work.fence.shard] = work.fence.epoch
        self._asked.update([ask.id for ask in work.open_asks], [close.id for close in work.close_asks])
        self._called.update(signal.run for signal in work.signals)
        self._updated.update(work.updates)


class Batch:
    """Transactions that are written together, and what becomes of their signals."""

    def __init__(self, tails: Tails, shared_steps: Callable[[str], int] = lambda _: 0) -> None:
        self._tails = tails
        #: of a fork, by its own id: the highest step number of the prefix that it shares
        self._shared_steps = shared_steps
        self.fences: dict[str, int] = {}
        self._events: list[tuple[str, Event]] = []
        self._updates: dict[str, tuple[RunUpdate, Tail]] = {}
        self._work: dict[str, list[Any]] = {}
        self._state: dict[tuple[str, str, str], dict[str, Any]] = {}
        self._crossings = Crossings()
        #: how many signals each transaction put
        self._signals: list[int] = []

    def add(self, work: Transaction) -> None:
        """Put one more transaction in. Raises its refusal as far as it can be known here; then the batch is spoilt."""
        fence = work.fence
        if fence is None and (
            work.events or work.updates or work.consume or work.open_asks or work.state or work.statements
        ):
            raise ValueError("a transaction without a fence may only create runs, put signals and close asks")
        if fence is not None:
            self.fences[fence.shard] = fence.epoch
            for event in work.events:
                self._tails.get(event.run, fence).follow(event)
                self._events.append((fence.shard, event))
        if work.exchange is not None:
            self._crossings.add(work.exchange)
        self._take("closes", _closes(work.close_asks))
        self._take("consumes", list(work.consume))
        for new in work.create:
            self._create(new, work)
        if fence is not None:
            for run, update in work.updates.items():
                self._update(run, update, self._tails.get(run, fence))
            for ask in work.open_asks:
                self._open(ask)
            if work.state is not None:
                self._change_state(fence.shard, *work.state)
        delivered = work.exchange is not None and work.exchange.deliver is not None
        self._take("signals", [signal_fields(signal, delivered=delivered) for signal in work.signals])
        self._signals.append(len(work.signals))

    def request(self) -> list[Any]:
        """The arguments of write_1."""
        work = {name: rows for name, rows in {**self._work, **self._crossings.rows()}.items() if rows}
        if self._updates:
            work["updates"] = [_changed(run, update, tail) for run, (update, tail) in self._updates.items()]
        if self._state:
            work["state"] = list(self._state.values())
        return arguments(self.fences, self._events, work)

    def outcomes(self, put: str) -> list[list[int] | None]:
        """What became of each transaction, from write_1's answer."""
        ids = decode(put)
        outcomes: list[list[int] | None] = []
        first = 0
        for many in self._signals:
            outcomes.append(ids[first : first + many] or None)
            first += many
        return outcomes

    def _take(self, name: str, rows: list[Any]) -> None:
        if rows:
            self._work.setdefault(name, []).extend(rows)

    def _create(self, new: NewRun, work: Transaction) -> None:
        run = new.run
        first, steps = 1, 0
        if run.forked_from is not None:
            first, steps = run.forked_from[1] + 1, self._shared_steps(run.id)
        seq = first - 1 + len(new.events)
        steps = max([steps, *(event.step or 0 for event in new.events)])
        fence = work.fence if work.fence is not None and work.fence.shard == run.shard else None
        tail = Tail(run.id, run.shard, fence, run.status.terminal, first - 1, steps)
        for event in new.events:
            if event.run != run.id or event.seq != tail.seq + 1:
                raise ValueError(f"run {run.id}: its events must be its own and numbered from {first}, not {event}")
            tail.seq = event.seq
            self._events.append((run.shard, event))
        self._tails.add(tail)
        self._take("creates", [run_fields(run, seq, steps)])

    def _update(self, run: str, update: RunUpdate, tail: Tail) -> None:
        if tail.ended:
            raise AlreadySettled(f"run {run} has ended: its status cannot become {update.status}")
        tail.ended = update.status.terminal
        self._updates[run] = (update, tail)

    def _open(self, ask: Ask) -> None:
        self._take("asks", [ask_fields(ask)])

    def _change_state(self, shard: str, agent: str, session: str, changes: dict[str, str | None]) -> None:
        for name, value in changes.items():
            self._state[agent, session, name] = {
                "agent": agent, "session": session, "name": name, "value": value, "shard": shard,
            }  # fmt: skip


def arguments(fences: dict[str, int], events: Sequence[tuple[str, Event]], work: dict[str, Any]) -> list[Any]:
    """The arguments of write_1: each event with its shard, all else by what is to be done with it."""
    shards, listed = [shard for shard, _ in events], [event for _, event in events]
    return [
        list(fences), _numbers(fences.values()), shards, [event.run for event in listed],
        _numbers(event.seq for event in listed), [event.type for event in listed],
        _numbers(event.time_us for event in listed), _numbers(event.step for event in listed),
        _numbers(event.attempt for event in listed), [event.raw for event in listed], Jsonb(work),
    ]  # fmt: skip


def run_fields(run: Run, seq: int, steps: int) -> dict[str, Any]:
    """A new run as write_1 takes it."""
    return dict(zip(_RUN_COLUMNS, run_row(run, seq=seq, steps=steps), strict=True))


def ask_fields(ask: Ask) -> dict[str, Any]:
    """A new ask as write_1 takes it."""
    return dict(zip(_ASK_COLUMNS, ask_row(ask), strict=True))


def signal_fields(signal: Signal, *, delivered: bool) -> dict[str, Any]:
    """A signal as write_1 takes it; one that was `delivered` is kept even if its run has not come yet."""
    fields = {
        "agent": signal.agent, "session": signal.session, "run": signal.run, "kind": signal.kind, "data": signal.data,
        "shard": signal.shard, "created": signal.created,
    }  # fmt: skip
    return {**fields, "delivered": True} if delivered else fields


def _closes(closes: Sequence[AskClose]) -> list[dict[str, Any]]:
    """Each ask once: the statement would take any of several words on it."""
    first: dict[str, AskClose] = {}
    for close in closes:
        if close.id in first and not close.lenient:
            raise AlreadySettled(f"ask {close.id} is closed twice")
        first.setdefault(close.id, close)
    return [_close(close) for close in first.values()]


def _close(close: AskClose) -> dict[str, Any]:
    return {
        "id": close.id, "status": close.status, "closed": close.closed, "answer": close.answer, "by": close.by,
        "note": close.note, "lenient": close.lenient,
    }  # fmt: skip


def _changed(run: str, update: RunUpdate, tail: Tail) -> dict[str, Any]:
    return {
        "id": run, "status": update.status.value, "updated": update.updated, "reason": update.reason,
        "wait": wait_text(update.wait), "wake_at": update.wake_at, "attempt": update.attempt, "strikes": update.strikes,
        "seq": tail.seq, "steps": tail.steps,
    }  # fmt: skip


def _numbers(values: Iterable[int | None]) -> str:
    # A literal: the driver would choose the type of a list of numbers by their size.
    # And nothing but a number may stand in it: a comma would shift all that come after.
    return "{" + ",".join(["NULL" if value is None else format(value, "d") for value in values]) + "}"
