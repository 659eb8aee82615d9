"""How do our values look as rows, and rows as values? The columns are in the order of the queries in sql/*/."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from perdure.store.contract import Ask, Signal
from perdure.values.json import decode, encode
from perdure.values.runs import Run, RunStatus

Row = Sequence[Any]


def run_row(run: Run, *, seq: int, steps: int) -> Row:
    """A new run as `create_run` takes it."""
    forked_run, forked_seq = run.forked_from or (None, None)
    return (
        run.id, run.agent, run.version, run.session, run.shard, run.status.value, run.reason, wait_text(run.wait),
        run.wake_at, run.created, run.updated, run.parent, run.parent_step, int(run.priority), run.concurrency_key,
        run.idempotency_key, run.attempt, run.strikes, forked_run, forked_seq, seq, steps,
    )  # fmt: skip


def run_of(row: Row) -> Run:
    """The run of a row of `perdure_runs_now`."""
    (
        _key, name, agent, version, session, shard, status, created, updated, reason, wait, wake_at, parent,
        parent_step, priority, concurrency_key, idempotency_key, attempt, strikes, forked_run, forked_seq, seq, steps,
    ) = row  # fmt: skip
    return Run(
        name, agent, version, session, shard, RunStatus(status), created, updated, reason,
        None if wait is None else decode(wait), wake_at, parent, parent_step, priority, concurrency_key,
        idempotency_key, attempt, strikes, None if forked_run is None else (forked_run, forked_seq), seq, steps,
    )  # fmt: skip


def wait_text(wait: dict[str, Any] | None) -> str | None:
    """What a run waits for, as JSON text."""
    return None if wait is None else encode(wait)


def signal_row(signal: Signal) -> Row:
    """A signal as `put_signal` takes it."""
    return (signal.agent, signal.session, signal.run, signal.kind, signal.data, signal.shard, signal.created)


def signal_of(row: Row) -> Signal:
    """The signal of a row."""
    return Signal(*row)


def ask_row(ask: Ask) -> Row:
    """An ask as `open_ask` takes it."""
    return (
        ask.id, ask.run, ask.agent, ask.session, ask.shard, ask.step, ask.kind, ask.title, ask.detail, ask.to,
        ask.created, ask.deadline, ask.status, ask.answer, ask.by, ask.note, ask.closed,
    )  # fmt: skip


def ask_of(row: Row) -> Ask:
    """The ask of a row."""
    return Ask(*row)
