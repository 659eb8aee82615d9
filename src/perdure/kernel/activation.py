"""A run in memory: its brain on one side, its journal on the other.

The cycle, for every run, for ever:

    committed event -> brain.deliver -> new commands -> entries in a draft, effects begun -> commit -> deliver ...

The brain learns only from committed events, in journal order. What the run waits for, and so its status,
is worked out when a draft is taken for writing, not kept up to date in between. An input in a draft will move the
brain once it is committed; until then the run counts as running, so that a crash right after finds it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from perdure.errors import Fenced
from perdure.journal.brain import INPUTS, Brain
from perdure.journal.commands import Call, Command, Emit, OpenAsk, Patch, Receive, Send, Spawn, Timer, Withdraw
from perdure.kernel.draft import Draft, Entry
from perdure.kernel.history import read_history
from perdure.kernel.step import Stop, describe
from perdure.kernel.steps import Steps
from perdure.kernel.waiting import Wait, describe_wait
from perdure.kernel.writer import Writer
from perdure.store.contract import Ask, AskClose, Fence, RunUpdate, Signal
from perdure.values.clock import iso
from perdure.values.events import Event, event_data
from perdure.values.ids import ask_id, continued_run_id
from perdure.values.json import encode
from perdure.values.runs import Run, RunStatus

if TYPE_CHECKING:
    from perdure.kernel.kernel import Kernel


class Activation:
    """One live run. Made by the kernel, which owns it; gone when the run is evicted or over."""

    def __init__(self, kernel: Kernel, run: Run, fence: Fence, brain: Brain) -> None:
        self.kernel = kernel
        self.run = run
        self.brain = brain
        self.writer = Writer(run, fence, kernel.commits, kernel.clock, self)
        self.steps = Steps(self)
        #: as the store has it
        self.status = run.status
        #: its code has been started
        self.begun = False
        self.paused = False
        self.quarantined = False
        self._wake_at = run.wake_at
        self._wait_kind: str | None = (run.wait or {}).get("kind")
        self.strikes = run.strikes
        self.attempt = run.attempt
        self._row_dirty = False
        self._dues: list[tuple[int, int]] = []
        self._withheld: list[Event] = []
        self._taken: set[int] = set()
        self._over = False

    # Coming to life.

    def begin(self, state: dict[str, Any]) -> None:
        """Start a run that was only recorded until now."""
        self.begun = True
        self.writer.append("run.started", None, None, encode({"state": state} if state else {}))
        self.writer.write_now()

    def load(self, events: Sequence[Event], *, crashed: bool = False) -> None:
        """Rebuild the run from its journal and pick up what was under way.

        `crashed` says that its last owner died while it was moving: that is recorded, and counted.
        """
        self.writer.seq, self.writer.time_us = events[-1].seq, events[-1].time_us
        history = read_history(events)
        self.steps.adopt(history.steps, history.grants)
        self.begun = history.begun
        self.paused, self.quarantined = history.paused, history.quarantined
        if crashed:
            self._record_crash()
        if self.quarantined:
            return
        self.brain.replay(events)
        self._absorb()
        for command in list(self.brain.pending.values()):
            if command.recorded:
                self._pick_up(command)
        self.write_if_changed()

    @property
    def evictable(self) -> bool:
        """True when memory holds nothing that the store does not."""
        return self.writer.quiet and not self.steps.busy and self.status not in (RunStatus.RUNNING, RunStatus.QUEUED)

    def close(self) -> None:
        """Leave memory without writing anything more."""
        self.writer.closed = True
        self.steps.stop_all(Stop.SHUTDOWN)
        self.brain.evict()

    # Writing: the Author of the run's Writer.

    def write_soon(self) -> None:
        """Have the draft written within 50 ms, or earlier with something more pressing."""
        self.kernel.write_soon(self)

    def write_if_changed(self) -> None:
        """Have the draft written now if the run's row would change with it."""
        if self._row_dirty or self._status_now() is not self.status or self._next_due() != self._wake_at:
            self.writer.write_now()

    def before_writing(self) -> None:
        self.steps.flush_streams()

    def row_update(self, draft: Draft, now: int) -> RunUpdate | None:
        status = self._status_with(draft)
        wait = self._wait(status)
        kind = None if wait is None else wait.detail["kind"]
        wake_at = self._next_due() if status is RunStatus.WAITING else None
        progressed = self.steps.progressed and self.strikes > 0
        self.steps.progressed = False
        unchanged = status is self.status and wake_at == self._wake_at and kind == self._wait_kind
        if unchanged and not progressed and not self._row_dirty:
            return None
        if progressed:
            self.strikes = 0
        self.status, self._wake_at, self._wait_kind, self._row_dirty = status, wake_at, kind, False
        if wake_at is not None:
            self.kernel.due_at(wake_at)
        return RunUpdate(
            status=status, updated=now, reason=wait and wait.reason, wait=wait and wait.detail, wake_at=wake_at,
            attempt=self.attempt, strikes=self.strikes,
        )  # fmt: skip

    def written(self, draft: Draft, events: list[Event], signal_ids: list[int]) -> None:
        if events:
            self.kernel.published(self.run.id, events)
        if draft.signals:
            self.kernel.signals_written(draft.signals, signal_ids)
        for new in draft.create:
            self.kernel.run_written(new.run, new.events)
        for call_back in draft.after:
            call_back()
        if events and events[-1].terminal:
            self.kernel.ended(self, events[-1])
            return
        self._deliver([event for event in events if event.type in INPUTS])
        self.kernel.settled(self)

    def refused(self, draft: Draft, refusal: Exception) -> None:
        for new in draft.create:
            self.kernel.not_written(new)
        if isinstance(refusal, Fenced):
            self.kernel.lost(self)
        elif draft.refused is not None:
            self._row_dirty = True  # the row it carried was not written either
            draft.refused(refusal)
            self.write_if_changed()
        else:
            self.kernel.fail(refusal)

    # Delivering, and doing what the brain asks for.

    def _deliver(self, inputs: list[Event]) -> None:
        if self.paused or self.quarantined:
            self._withheld += inputs
        elif inputs:
            for event in inputs:
                self.brain.deliver(event)
            self._absorb()
        self.write_if_changed()

    def _absorb(self) -> None:
        if self.brain.divergence is not None:
            self.quarantine(self.brain.divergence)
            return
        for command in self.brain.take_commands():
            if not command.recorded:
                _HANDLERS[type(command)](self, command)
        changes = self.brain.take_state_changes()
        if changes:
            self._change_state(changes)
        if self.brain.outcome is not None and not self._over:
            self._end()

    def _do_call(self, call: Command) -> None:
        assert isinstance(call, Call)
        self.steps.begin(call)

    def _do_timer(self, timer: Command) -> None:
        assert isinstance(timer, Timer)
        raw = event_data(step=timer.step, kind="sleep", name="sleep", due=iso(timer.due), at=timer.at or None)
        self.writer.append("timer.started", timer.step, None, raw)
        self.expect_due(timer.due, timer.step)
        self.write_soon()

    def _do_ask(self, command: Command) -> None:
        assert isinstance(command, OpenAsk)
        run, id, detail = self.run, ask_id(self.run.id, command.step), command.detail
        self.writer.draft.open_asks.append(
            Ask(
                id=id, run=run.id, agent=run.agent, session=run.session, shard=run.shard, step=command.step,
                kind=command.kind, title=command.title, detail=encode(detail), to=command.to,
                created=self.kernel.clock.now_us(), deadline=command.deadline,
            )
        )  # fmt: skip
        shown = {"question": command.title, "schema": detail["schema"]} if command.kind == "ask" else detail
        raw = event_data(
            id=id, step=command.step, kind=command.kind, name=command.name, to=command.to,
            deadline=None if command.deadline is None else iso(command.deadline), at=command.at or None, **shown,
        )  # fmt: skip
        self.writer.append("ask.opened" if command.kind == "ask" else "approval.requested", command.step, None, raw)
        if command.deadline is not None:
            self.expect_due(command.deadline, command.step)
        self.writer.write_now()

    def _do_receive(self, command: Command) -> None:
        raw = event_data(step=command.step, kind="receive", name=command.name, at=command.at or None)
        self.writer.append("message.awaited", command.step, None, raw)
        self.write_soon()

    def _do_send(self, command: Command) -> None:
        assert isinstance(command, Send)
        name, sender = encode(command.name), encode(self.run.id)
        raw = (
            f'{{"step":{command.step},"kind":"send","name":{name},"to":{encode(command.to)},'
            f'"at":{encode(command.at)},"value":{command.value_json}}}'
        )
        self.writer.append("message.sent", command.step, None, raw)
        data = f'{{"topic":{name},"value":{command.value_json},"sender":{sender}}}'
        self.writer.draft.signals.append(self.kernel.signal_to(command.to, "message", data))
        self.writer.write_now()

    def _do_emit(self, command: Command) -> None:
        assert isinstance(command, Emit)
        self.writer.append(command.name, command.step, None, command.data_json)
        self.write_soon()

    def _do_spawn(self, command: Command) -> None:
        assert isinstance(command, Spawn)
        new = self.kernel.new_run(
            command.agent, command.input_json, id=command.run, session=command.session, parent=self.run.id,
            parent_step=command.step, priority=self.run.priority,
        )  # fmt: skip
        self.writer.draft.create.append(new)
        raw = (
            f'{{"step":{command.step},"kind":"child","name":{encode(command.name)},"run":{encode(command.run)},'
            f'"detach":{encode(command.detach)},"at":{encode(command.at)}}}'
        )
        self.writer.append("child.spawned", command.step, None, raw)
        self.writer.write_now()

    def _do_patch(self, command: Command) -> None:
        self.writer.append("run.patched", None, None, event_data(name=command.name))
        self.write_soon()

    def _do_withdraw(self, withdrawal: Command) -> None:
        assert isinstance(withdrawal, Withdraw)
        match withdrawal.command:
            case Call() as call:
                self.steps.withdraw(call)
            case Timer() as timer:
                self.writer.withdraw("timer.started", timer.step)
            case OpenAsk() as ask:
                self._withdraw_ask(ask)

    def _withdraw_ask(self, ask: OpenAsk) -> None:
        id = ask_id(self.run.id, ask.step)
        close = AskClose(id, "withdrawn", self.kernel.clock.now_us(), lenient=True)
        self.writer.draft.close_asks.append(close)
        type = "ask.withdrawn" if ask.kind == "ask" else "approval.withdrawn"
        self.writer.append(type, ask.step, None, event_data(id=id, step=ask.step))
        self.writer.write_now()

    def _change_state(self, changes: dict[str, str | None]) -> None:
        self.writer.draft.state.update(changes)
        fields = ",".join(f"{encode(key)}:{text}" for key, text in changes.items() if text is not None)
        removed = [key for key, text in changes.items() if text is None]
        unset = f',"unset":{encode(removed)}' if removed else ""
        self.writer.append("state.changed", None, None, f'{{"set":{{{fields}}}{unset}}}')
        self.write_soon()

    # Picking up after a crash or an eviction.

    def _pick_up(self, command: Command) -> None:
        match command:
            case Timer():
                self.expect_due(command.due, command.step)
            case OpenAsk() if command.deadline is not None:
                self.expect_due(command.deadline, command.step)
            case Call():
                self.steps.pick_up(command)

    def _record_crash(self) -> None:
        self.attempt += 1
        self.strikes += 1
        self._row_dirty = True
        raw = event_data(attempt=self.attempt, node=self.kernel.node)
        self.writer.append("run.recovered", None, None, raw)
        if self.strikes > self.kernel.settings.strikes_most:
            error = RuntimeError(
                f"the worker died {self.strikes} times in a row without a completed step of this run; "
                f"look at its journal, then: perdure retry {self.run.id}"
            )
            self.quarantine(error, reason="CrashLoop")
        self.writer.write_now()

    # Time.

    def expect_due(self, due: int, step: int) -> None:
        """Something of `step` is due at `due`."""
        heapq.heappush(self._dues, (due, step))
        self.kernel.due_for(self, due)

    def fire_due(self, now: int) -> None:
        """Do what is due: timers, deadlines of asks, retries."""
        if self.paused or self.quarantined or self._over:
            return
        while self._dues and self._dues[0][0] <= now:
            _, step = heapq.heappop(self._dues)
            command = self.brain.pending.get(step)
            if step in self.steps.retrying:
                self.steps.retry(step)
            elif isinstance(command, Timer):
                self.writer.append("timer.fired", step, None, event_data(step=step))
                self.writer.write_now()
            elif isinstance(command, OpenAsk):
                self._expire(command)
        self.write_if_changed()

    def _expire(self, command: OpenAsk) -> None:
        id = ask_id(self.run.id, command.step)
        # Refused when somebody answered in time after all: then the answer is on its way as a signal.
        draft = Draft(refused=lambda _: None)
        draft.close_asks.append(AskClose(id, "expired", self.kernel.clock.now_us()))
        type = "ask.expired" if command.kind == "ask" else "approval.expired"
        draft.entries.append(Entry(type, command.step, None, event_data(id=id, step=command.step)))
        self.writer.write_alone(draft)

    def _next_due(self) -> int | None:
        while self._dues and not self._still_due(self._dues[0][1]):
            heapq.heappop(self._dues)
        return self._dues[0][0] if self._dues else None

    def _still_due(self, step: int) -> bool:
        return step in self.steps.retrying or isinstance(self.brain.pending.get(step), Timer | OpenAsk)

    # What reaches the run from outside.

    def take_signal(self, signal: Signal) -> None:
        """Journal a signal and act on it; it is consumed in the same commit. Twice the same changes nothing."""
        if self._over or self.writer.closed or signal.id in self._taken:
            return
        self._taken.add(signal.id)
        self.writer.draft.consume.append(signal.id)
        self.kernel.apply_signal(self, signal)
        self.writer.write_now()

    def pause(self, raw: str) -> None:
        """Stop moving; what is in flight may end."""
        if not self.paused:
            self.paused = True
            self.writer.append("run.paused", None, None, raw)

    def resume(self, raw: str) -> None:
        """Go on."""
        if self.paused:
            self.paused = False
            self.writer.append("run.resumed", None, None, raw)
            self.writer.draft.after.append(self._deliver_withheld if self.begun else self._queue_again)

    def cancel(self, raw: str) -> None:
        """Throw CancelledError into the agent's code and let it clean up."""
        if self.brain.cancelling:
            return
        if self.quarantined or not self.begun:  # its code cannot run, so there is nothing to clean up with
            self._finish("run.cancelled", raw)
            return
        self.resume(raw)
        self.writer.append("run.cancelling", None, None, raw)

    def quarantine(self, error: Exception, *, reason: str | None = None) -> None:
        """Park the run: going on could do harm. A person looks, then retries, forks or cancels."""
        self.steps.stop_all(Stop.SHUTDOWN)
        self.quarantined = True
        self.brain.evict()
        raw = event_data(reason=reason or type(error).__name__, error=describe(error))
        self.writer.append("run.quarantined", None, None, raw)
        self.writer.write_now()

    def release(self, raw: str) -> None:
        """Let a quarantined run try again: it is loaded afresh once that is recorded."""
        if self.quarantined:
            self.strikes = 0
            self._row_dirty = True
            self.quarantined = False
            self.writer.append("run.released", None, None, raw)
            self.writer.draft.after.append(lambda: self.kernel.reload(self))

    def _deliver_withheld(self) -> None:
        inputs, self._withheld = self._withheld, []
        self._deliver(inputs)
        self.fire_due(self.kernel.clock.now_us())

    def _queue_again(self) -> None:
        self.kernel.reload(self)

    # The end.

    def _end(self) -> None:
        outcome = self.brain.outcome
        assert outcome is not None
        if outcome.value is not None:
            self._finish("run.succeeded", f'{{"result":{outcome.value}}}')
        elif outcome.continue_as is not None:
            self._continue_as(outcome.continue_as)
        elif outcome.cancelled:
            self._finish("run.cancelled", "{}")
        else:
            error = outcome.error or RuntimeError("the agent ended without a result")
            self._finish("run.failed", event_data(error=describe(error)))

    def _continue_as(self, input_json: str) -> None:
        run = self.run
        agent = self.kernel.agents.get(run.agent, run.version)
        assert agent is not None
        new = self.kernel.new_run(
            agent, input_json, id=continued_run_id(run.id), session=run.session, parent=run.parent,
            parent_step=run.parent_step, priority=run.priority, concurrency_key=run.concurrency_key,
        )  # fmt: skip
        self.writer.draft.create.append(new)
        for topic, value in self.brain.unread_messages():
            data = encode({"topic": topic, "value": value, "sender": run.id})
            self.writer.draft.signals.append(self.kernel.signal_to({"run": new.run.id}, "message", data))
        self._finish("run.continued", event_data(run=new.run.id))

    def _finish(self, type: str, raw: str) -> None:
        self._over = True
        self.steps.end_all()
        for command in list(self.brain.pending.values()):
            if isinstance(command, OpenAsk):
                self._withdraw_ask(command)
            elif isinstance(command, Spawn) and not command.detach:
                reason = encode({"by": self.run.id, "reason": "its parent ended"})
                self.writer.draft.signals.append(self.kernel.signal_to({"run": command.run}, "cancel", reason))
        if self.run.parent is not None and self.run.parent_step is not None and type != "run.continued":
            end = f",{raw[1:]}" if raw != "{}" else "}"
            data = (
                f'{{"run":{encode(self.run.id)},"step":{self.run.parent_step},"status":"{_END_STATUS[type].value}"{end}'
            )
            self.writer.draft.signals.append(self.kernel.signal_to({"run": self.run.parent}, "child", data))
        self.writer.append(type, None, None, raw)
        self.writer.write_now()

    # Status.

    def _status_with(self, draft: Draft) -> RunStatus:
        entries = draft.entries
        if entries and entries[-1].type in _END_STATUS:
            return _END_STATUS[entries[-1].type]
        if not (self.paused or self.quarantined) and any(entry.type in INPUTS for entry in entries):
            return RunStatus.RUNNING
        return self._status_now()

    def _status_now(self) -> RunStatus:
        if self.quarantined:
            return RunStatus.QUARANTINED
        if self.paused:
            return RunStatus.PAUSED
        if not self.begun and not self._over:
            return RunStatus.QUEUED
        if self._over or self.steps.busy or not self.brain.pending:
            return RunStatus.RUNNING
        return RunStatus.WAITING

    def _wait(self, status: RunStatus) -> Wait | None:
        match status:
            case RunStatus.WAITING:
                return describe_wait(self.run.id, self.brain.pending.values(), self.steps.retrying, self.steps.unknown)
            case RunStatus.PAUSED:
                return Wait(f"paused; go on with: perdure resume {self.run.id}", {"kind": "pause"})
            case RunStatus.QUARANTINED:
                return Wait(
                    f"parked; see: perdure show {self.run.id}; then: perdure retry {self.run.id}", {"kind": "quarantine"}
                )
        return None


_END_STATUS = {
    "run.succeeded": RunStatus.SUCCEEDED,
    "run.failed": RunStatus.FAILED,
    "run.cancelled": RunStatus.CANCELLED,
    "run.continued": RunStatus.SUCCEEDED,
}

_HANDLERS: dict[type[Command], Callable[[Activation, Command], None]] = {
    Call: Activation._do_call,
    Timer: Activation._do_timer,
    OpenAsk: Activation._do_ask,
    Receive: Activation._do_receive,
    Send: Activation._do_send,
    Emit: Activation._do_emit,
    Spawn: Activation._do_spawn,
    Patch: Activation._do_patch,
    Withdraw: Activation._do_withdraw,
}
