"""How is one transaction accepted or refused? Done piece by piece; a refusal undoes the pieces, last first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from perdure.errors import AlreadyExists, AlreadySettled, Fenced, NotFound, PerdureError, SessionBusy
from perdure.store.contract import Ask, AskClose, Fence, NewRun, RunUpdate, Signal, Transaction
from perdure.store.memory.data import BEGUN, Data, Journal
from perdure.store.memory.exchange import exchange, refuse_moved
from perdure.store.memory.statements import MemorySql
from perdure.values.events import Event
from perdure.values.json import plain
from perdure.values.runs import Run, RunStatus


class Commit:
    """One transaction at work on the data."""

    def __init__(self, data: Data, sql: MemorySql) -> None:
        self._data = data
        self._sql = sql
        self._undo: list[Callable[[], object]] = []

    def apply(self, work: Transaction) -> Exception | list[int] | None:
        """Do all of `work` and give the ids of its signals, or none of it and give the refusal."""
        try:
            self._check_fence(work)
            refuse_moved(self._data, work)
            if work.exchange is not None:
                exchange(self._data, work.exchange, self._undo)
            self._append(work.events, work.fence)
            for close in work.close_asks:
                self._close_ask(close)
            for signal in work.consume:
                self._consume(signal)
            for new in work.create:
                self._create(new)
            for run, update in work.updates.items():
                self._update(run, update, work.fence)
            for ask in work.open_asks:
                self._open_ask(ask)
            if work.statements:
                self._sql.run(work.statements)
        except (PerdureError, ValueError) as refusal:
            for undo in reversed(self._undo):
                undo()
            return refusal
        # From here on nothing is refused.
        if work.state is not None:
            self._change_state(*work.state)
        delivered = work.exchange is not None and work.exchange.deliver is not None
        return [self._put(signal, delivered=delivered) for signal in work.signals] or None

    def _check_fence(self, work: Transaction) -> None:
        if work.fence is None:
            if work.events or work.updates or work.consume or work.open_asks or work.state or work.statements:
                raise ValueError("a transaction without a fence may only create runs, put signals and close asks")
            return
        shard, epoch = work.fence
        ownership = self._data.shards.get(shard)
        if ownership is None or ownership.epoch != epoch:
            raise Fenced(f"shard {shard}: epoch {epoch} is not the current one; the write changed nothing")

    def _journal(self, run: str, fence: Fence | None) -> Journal:
        journal = self._data.journals.get(run)
        if journal is None:
            raise NotFound(f"run {run}: there is no such run in this store")
        if fence is None or journal.row.shard != fence.shard:
            raise ValueError(f"run {run} is of shard {journal.row.shard}: the fence {fence} does not cover it")
        return journal

    def _append(self, events: Sequence[Event], fence: Fence | None) -> None:
        for event in events:
            journal = self._journal(event.run, fence)
            if journal.row.status.terminal:
                raise AlreadySettled(f"run {event.run} has ended: nothing can follow")
            if event.seq != journal.seq + 1:
                raise ValueError(f"run {event.run}: event {event.seq} does not follow event {journal.seq}")
            self._undo.append(_unappend(journal, journal.steps))
            journal.events.append(event)
            journal.steps = max(journal.steps, event.step or 0)

    def _create(self, new: NewRun) -> None:
        run, data = new.run, self._data
        shared, steps = (0, 0) if run.forked_from is None else (run.forked_from[1], self._steps_at(*run.forked_from))
        for seq, event in enumerate(new.events, shared + 1):
            if event.seq != seq or event.run != run.id:
                raise ValueError(f"run {run.id}: its events must be its own, numbered from {shared + 1}, not {event}")
        if run.id in data.journals:
            raise AlreadyExists(f"run {run.id} exists already")
        if run.idempotency_key is not None and (run.agent, run.idempotency_key) in data.by_key:
            raise AlreadyExists(f"idempotency key {run.idempotency_key!r} of {run.agent} was used before")
        if new.session_must_be_free:
            self._check_session(run)
        if run.session is not None and run.status in BEGUN and (run.agent, run.session) in data.begun:
            raise SessionBusy(f"run {run.id}: another run of its session has begun and not ended")
        journal = Journal(
            replace(run, wait=plain(run.wait)),
            arrival=data.next_arrival(),
            shared=shared,
            steps=max([steps, *(event.step or 0 for event in new.events)]),
            events=list(new.events),
        )
        data.add(journal)
        self._undo.append(lambda: data.remove(journal))

    def _steps_at(self, run: str, seq: int) -> int:
        journal = self._data.journals.get(run)
        if journal is None or seq > journal.seq:
            raise NotFound(f"run {run}: there is no event {seq} to fork at")
        own = [event.step or 0 for event in journal.events if event.seq <= seq]
        if journal.row.forked_from is not None:
            origin, shared = journal.row.forked_from
            own.append(self._steps_at(origin, min(shared, seq)))
        return max(own, default=0)

    def _check_session(self, run: Run) -> None:
        for status in (*BEGUN, RunStatus.QUEUED):
            for other in self._data.by_status[status].values():
                if other.session is not None and other.session == (run.agent, run.session):
                    raise SessionBusy(f"session {run.agent}/{run.session}: run {other.row.id} is active")

    def _update(self, run: str, update: RunUpdate, fence: Fence | None) -> None:
        journal = self._journal(run, fence)
        row, data = journal.row, self._data
        if row.status.terminal:
            raise AlreadySettled(f"run {run} has ended: its status cannot become {update.status}")
        if journal.session is not None and update.status in BEGUN:
            other = data.begun.get(journal.session)
            if other is not None and other is not journal:
                raise SessionBusy(f"run {run}: another run of its session, {other.row.id}, has begun and not ended")
        self._undo.append(lambda: data.replace_row(journal, row))
        changed = replace(
            row,
            status=update.status,
            updated=update.updated,
            reason=update.reason,
            wait=plain(update.wait),
            wake_at=update.wake_at,
            attempt=row.attempt if update.attempt is None else update.attempt,
            strikes=row.strikes if update.strikes is None else update.strikes,
        )
        data.replace_row(journal, changed)

    def _open_ask(self, ask: Ask) -> None:
        if ask.id in self._data.asks:
            raise AlreadyExists(f"ask {ask.id} exists already")
        self._data.asks[ask.id] = ask
        self._undo.append(lambda: self._data.asks.pop(ask.id))

    def _close_ask(self, close: AskClose) -> None:
        asks = self._data.asks
        ask = asks.get(close.id)
        if ask is None or ask.status != "open":
            if close.lenient:
                return
            raise AlreadySettled(f"ask {close.id} is not open: it was settled before, or never asked")
        asks[close.id] = replace(
            ask, status=close.status, closed=close.closed, answer=close.answer, by=close.by, note=close.note
        )
        self._undo.append(lambda: asks.update({ask.id: ask}))

    def _consume(self, signal_id: int) -> None:
        signal = self._data.signals.pop(signal_id, None)
        if signal is None:
            raise AlreadySettled(f"signal {signal_id} was consumed before")
        self._undo.append(lambda: self._data.signals.update({signal_id: signal}))

    def _put(self, signal: Signal, *, delivered: bool) -> int:
        if signal.run is not None:
            journal = self._data.journals.get(signal.run)
            if journal is not None:
                row = journal.row
                signal = replace(signal, agent=row.agent, session=row.session, shard=row.shard)
            elif not delivered:
                return 0
        self._data.last_signal += 1
        self._data.signals[self._data.last_signal] = replace(signal, id=self._data.last_signal)
        return self._data.last_signal

    def _change_state(self, agent: str, session: str, changes: dict[str, str | None]) -> None:
        state = self._data.state.setdefault((agent, session), {})
        for name, value in changes.items():
            if value is None:
                state.pop(name, None)
            else:
                state[name] = value


def _unappend(journal: Journal, steps: int) -> Callable[[], object]:
    def undo() -> None:
        journal.events.pop()
        journal.steps = steps

    return undo
