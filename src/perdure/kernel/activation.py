"""A run in memory: its brain on one side, its journal on the other.

The cycle, for every run, for ever:

    committed event -> brain.deliver -> new commands -> entries in a draft, effects begun -> commit -> deliver ...

The brain learns only from committed events, in journal order. What the run waits for, and so its status,
is worked out when a draft is taken for writing, not kept up to date in between. An input in a draft will move the
brain once it is committed; until then the run counts as running, so that a crash right after finds it.

An activation is dormant when its code is not loaded: the run is paused or parked, or it has no place to move in.
A dormant run can only be written to. To move, it is loaded afresh.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from perdure.errors import Fenced
from perdure.journal.brain import INPUTS, Brain
from perdure.journal.commands import Call, Command, OpenAsk, Spawn, Timer
from perdure.kernel.draft import Draft, Entry
from perdure.kernel.ending import END_STATUS, end_run, finish_run
from perdure.kernel.history import History, read_history
from perdure.kernel.requests import carry_out
from perdure.kernel.signals import apply_signal
from perdure.kernel.step import Stop, describe
from perdure.kernel.steps import Steps
from perdure.kernel.waiting import Wait, describe_pause, describe_quarantine, describe_wait
from perdure.kernel.writer import Writer
from perdure.store.contract import AskClose, Fence, RunUpdate, Signal
from perdure.values.events import Event, event_data
from perdure.values.ids import ask_id
from perdure.values.json import encode
from perdure.values.runs import Run, RunStatus

if TYPE_CHECKING:
    from perdure.kernel.kernel import Kernel

log = logging.getLogger("perdure.kernel")


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
        #: its code is not loaded
        self.dormant = False
        #: what its journal says, while it is dormant
        self.history = History()
        self.paused = False
        #: why it is parked (data of the event), or None
        self.quarantine: dict[str, Any] | None = None
        #: its last event is in a draft
        self.over = False
        #: raw data of the wish to cancel, or None
        self.cancelling: str | None = None
        self.strikes = run.strikes
        #: inputs that are journaled and that the brain has not learned of
        self.withheld: list[Event] = []
        self._begun = False
        self._wake_at = run.wake_at
        self._wait = run.wait
        self._row_dirty = False
        self._dues: list[tuple[int, int]] = []
        self._taken: set[int] = set()

    # Coming to life.

    def load(
        self, events: Sequence[Event], *, state: dict[str, Any] | None = None, crashed: bool = False,
        rests: bool = False,
    ) -> None:  # fmt: skip
        """Rebuild the run from its journal and pick up what was under way; begin it if it never was.

        `crashed`: its last owner died while it was moving; that is recorded. `rests`: it has no place to move in.
        `state`: what its session holds, for a run that begins.
        """
        self.writer.seq, self.writer.time_us = events[-1].seq, events[-1].time_us
        history = read_history(events)
        self._begun, self.cancelling = history.begun, history.cancelling
        self.paused, self.quarantine = history.paused, history.quarantine
        if crashed:
            self._record_crash()
        # Why it did not move is told no longer; a reason that stays would hide a crash from the next owner.
        self._row_dirty |= self.status is RunStatus.RUNNING and self.run.reason is not None
        self.dormant = rests or self.parked
        if self.dormant:
            self.history = history
            self.write_if_changed()
            return
        self.steps.adopt(history.steps, history.grants)
        self.brain.replay(events)
        if not self._begun:
            self._begun = True
            self.kernel.runs_begun += 1
            self.writer.append("run.started", None, None, encode({"state": state} if state else {}))
            self.writer.write_now()
        self._absorb()
        if not self.over and self.quarantine is None:
            for command in list(self.brain.pending.values()):
                if command.recorded:
                    self._pick_up(command, history)
        self.write_if_changed()

    @property
    def parked(self) -> bool:
        """True while it must not move, whatever there is to do."""
        return self.paused or self.quarantine is not None or self.over

    @property
    def evictable(self) -> bool:
        """True when memory holds nothing that the store does not."""
        if not self.writer.quiet or self.steps.busy:
            return False
        return self.dormant or self.status not in (RunStatus.RUNNING, RunStatus.QUEUED)

    @property
    def may_move(self) -> bool:
        """True while this node goes on with runs of its shard: none of their code moves while they are given up."""
        return self.kernel.leases.holds(self.run.shard)

    def close(self) -> None:
        """Leave memory without writing anything more."""
        for new in self.writer.close():
            self.kernel.not_written(new)
        self.steps.stop_all(Stop.SHUTDOWN)
        self.brain.evict()

    # Writing: the Author of the run's Writer.

    def write_soon(self) -> None:
        """Have the draft written within 50 ms, or earlier with something more pressing."""
        self.kernel.alarms.write_soon(self)

    def write_if_changed(self) -> None:
        """Have the draft written now if the run's row would change with it."""
        status = self._status_now()
        if self._row_dirty or status is not self.status or self._wake_at_in(status) != self._wake_at:
            self.writer.write_now()

    def before_writing(self) -> None:
        self.steps.flush_streams()

    def row_update(self, draft: Draft, now: int) -> RunUpdate | None:
        status = self._status_with(draft)
        wake_at = self._wake_at_in(status)
        progressed = self.strikes > 0 and any(_is_progress(entry) for entry in draft.entries)
        # While it moves there is nothing to describe; while it waits, its pending commands may be many.
        same = status is self.status and wake_at == self._wake_at and not self._row_dirty and not progressed
        if same and status is RunStatus.RUNNING:
            return None
        wait = self._describe(status)
        detail = None if wait is None else wait.detail
        if same and detail == self._wait:
            return None
        if progressed:
            self.strikes = 0
        self.status, self._wake_at, self._wait, self._row_dirty = status, wake_at, detail, False
        return RunUpdate(
            status=status, updated=now, reason=None if wait is None else wait.reason, wait=detail, wake_at=wake_at,
            attempt=self.run.attempt, strikes=self.strikes,
        )  # fmt: skip

    def written(self, draft: Draft, events: list[Event], signal_ids: list[int]) -> None:
        self._taken.difference_update(draft.consume)
        self.kernel.taken.add(draft.consume)
        if self._wake_at is not None:
            self.kernel.alarms.due_at(
                self._wake_at
            )  # only now: an alarm that rings before the row is there finds nothing
        if events:
            self.kernel.followers.published(self.run.id, events)
        for new in draft.create:
            self.kernel.run_written(new.run, new.events)
        if draft.signals:
            self.kernel.mailroom.written(draft.signals, signal_ids)
        for call_back in draft.after:
            call_back()
        if events and events[-1].terminal:
            self.kernel.ended(self)
            return
        self.deliver([event for event in events if event.type in INPUTS])
        self.kernel.settled(self)

    def refused(self, draft: Draft, refusal: Exception) -> None:
        for new in draft.create:
            self.kernel.not_written(new)
        if isinstance(refusal, Fenced):
            self.kernel.ownership.refused(self.writer.fence)
        elif draft.refused is not None:
            self._row_dirty = True  # the row it carried was not written either
            draft.refused(refusal)
            self.write_if_changed()
            self.kernel.settled(self)
        else:
            self.kernel.cannot_go_on(self, refusal)

    def written_late(self, draft: Draft, *, accepted: bool) -> None:
        for new in draft.create:
            if accepted:
                self.kernel.run_written(new.run, new.events)
            else:
                self.kernel.not_written(new)

    # Delivering, and doing what the brain asks for.

    def deliver(self, inputs: list[Event]) -> None:
        """Tell the brain what is durable now, unless it must not move."""
        # What was withheld comes first: a run that was just resumed hears of everything in the order of its journal.
        inputs, self.withheld = [*self.withheld, *inputs], []
        if self.dormant or self.paused or not self.may_move:
            self.withheld = inputs
        elif inputs:
            try:
                self._tell(inputs)
                self._absorb()
            except Exception as error:
                log.exception("run %s cannot go on", self.run.id)
                self.park(error)
        self.write_if_changed()

    def _tell(self, inputs: list[Event]) -> None:
        monotonic, most = self.kernel.clock.monotonic, self.kernel.settings.hog_seconds
        for index, event in enumerate(inputs):
            began = monotonic()
            self.brain.deliver(event)
            if (held := monotonic() - began) > most:
                self._report_hog(held)
            if self.brain.outcome is not None:
                self.withheld = inputs[index + 1 :]
                return

    def _report_hog(self, seconds: float) -> None:
        message = (
            f"agent code held the worker's loop for {seconds:.1f} s between two awaits, and every other run with it; "
            f"move the computation into a tool: a sync one runs in a thread"
        )
        log.warning("run %s: %s", self.run.id, message)
        self.writer.append("run.warning", None, None, event_data(message=message))
        self.write_soon()

    def _absorb(self) -> None:
        if self.brain.divergence is not None:
            self.park(self.brain.divergence)
            return
        for command in self.brain.take_commands():
            if not command.recorded:
                carry_out(self, command)
        changes = self.brain.take_state_changes()
        if changes:
            self._change_state(changes)
        if self.brain.outcome is not None and not self.over:
            end_run(self, self.brain.outcome)

    def _change_state(self, changes: dict[str, str | None]) -> None:
        self.writer.draft.state.update(changes)
        fields = ",".join(f"{encode(key)}:{text}" for key, text in changes.items() if text is not None)
        removed = [key for key, text in changes.items() if text is None]
        unset = f',"unset":{encode(removed)}' if removed else ""
        self.writer.append("state.changed", None, None, f'{{"set":{{{fields}}}{unset}}}')
        self.write_soon()

    # Picking up after a crash or an eviction.

    def _pick_up(self, command: Command, history: History) -> None:
        match command:
            case Timer():
                self.expect_due(command.due, command.step)
            case OpenAsk() if history.asks.get(command.step, ("",))[0] != ask_id(self.run.id, command.step):
                carry_out(self, command)  # the original's question is answered in the original: a fork asks its own
            case OpenAsk() if command.deadline is not None:
                self.expect_due(command.deadline, command.step)
            case Spawn() if history.children.get(command.step, ("",))[0] != command.run:
                carry_out(self, command)  # likewise
            case Call():
                self.steps.pick_up(command)

    def _record_crash(self) -> None:
        self._row_dirty = True
        self.writer.append("run.recovered", None, None, event_data(attempt=self.run.attempt, node=self.kernel.node))
        if self.strikes > self.kernel.settings.strikes_most:
            error = RuntimeError(
                f"the worker died {self.strikes} times in a row without a completed step of this run; "
                f"look at its journal, then: perdure retry {self.run.id}"
            )
            self.park(error, reason="CrashLoop")
        self.writer.write_now()

    # Time.

    def expect_due(self, due: int, step: int) -> None:
        """Something of `step` is due at `due`."""
        heapq.heappush(self._dues, (due, step))
        self.kernel.alarms.due_for(self, due)

    def fire_due(self, now: int) -> None:
        """Do what is due: timers, deadlines of asks, retries."""
        if self.dormant or self.parked or not self.may_move:
            return
        if self._dues and self._dues[0][0] <= now:
            self.writer.not_before(now)  # the clock may be set back until it is written
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
        if (due := self._next_due()) is not None:
            self.kernel.alarms.due_for(self, due)
        self.write_if_changed()

    def _expire(self, command: OpenAsk) -> None:
        id = ask_id(self.run.id, command.step)
        # Refused when somebody answered in time after all: then the answer is on its way as a signal.
        draft = Draft(refused=lambda _: None)
        draft.close_asks.append(AskClose(id, "expired", self.kernel.clock.now_us()))
        type = "ask.expired" if command.kind == "ask" else "approval.expired"
        draft.entries.append(Entry(type, command.step, None, event_data(id=id, step=command.step)))
        self.writer.write_alone(draft)

    def _wake_at_in(self, status: RunStatus) -> int | None:
        return self._next_due() if status is RunStatus.WAITING else None

    def _next_due(self) -> int | None:
        while self._dues and not self._still_due(self._dues[0][1]):
            heapq.heappop(self._dues)
        return self._dues[0][0] if self._dues else None

    def _still_due(self, step: int) -> bool:
        return step in self.steps.retrying or isinstance(self.brain.pending.get(step), Timer | OpenAsk)

    # What reaches the run from outside.

    def take_signal(self, signal: Signal) -> bool:
        """Journal a signal and act on it; it is consumed in the same commit. Twice the same changes nothing.

        False when it must wait: for whoever follows this run, or until the run goes on.
        """
        if signal.id in self._taken:
            return True
        if self.over or self._must_wait(signal):
            return False
        self._taken.add(signal.id)
        self.writer.draft.consume.append(signal.id)
        try:
            apply_signal(self, signal)
        except Exception as error:  # noqa: BLE001 - kept, it would do the same to every node that reads it
            message = f"a signal ({signal.kind}) could not be taken: {describe(error)['message']}"
            self.writer.append("run.warning", None, None, event_data(message=message))
        self.writer.write_now()
        return True

    def _must_wait(self, signal: Signal) -> bool:
        if signal.kind == "message" and signal.run is None:
            return self.quarantine is not None  # should it be cancelled, the session's next run reads its mail
        return signal.kind == "resolve" and (self.dormant or self.paused)

    def pause(self, raw: str) -> None:
        """Stop moving; what is in flight may end."""
        if not self.paused:
            self.paused = True
            self.writer.append("run.paused", None, None, raw)

    def resume(self, raw: str) -> None:
        """Go on: at once with the code at hand, else when it is loaded afresh."""
        if self.paused:
            self.paused = False
            self.writer.append("run.resumed", None, None, raw)
            if not self.dormant:
                self.writer.draft.after.append(self._go_on)

    def cancel(self, raw: str) -> None:
        """Throw CancelledError into the agent's code and let it clean up."""
        if self.quarantine is not None or not self._begun:  # its code cannot run: there is nothing to clean up with
            finish_run(self, "run.cancelled", raw)
            return
        if self.cancelling is not None:
            return
        self.cancelling = raw
        self.resume(raw)
        self.writer.append("run.cancelling", None, None, raw)

    def park(self, error: Exception, *, reason: str | None = None) -> None:
        """Quarantine the run: going on could do harm. A person looks, then retries, forks or cancels."""
        self.steps.abandon_all()
        self.dormant = True
        self.brain.evict()
        self.quarantine = {"reason": reason or type(error).__name__, "error": describe(error)}
        self.writer.append("run.quarantined", None, None, encode(self.quarantine))
        self.writer.write_now()

    def release(self, raw: str) -> None:
        """Let a quarantined run try again."""
        if self.quarantine is not None:
            self.strikes = 0
            self._row_dirty = True
            self.quarantine = None
            self.writer.append("run.released", None, None, raw)

    def _go_on(self) -> None:
        self.deliver([])
        self.steps.go_on()
        self.fire_due(self.kernel.clock.now_us())
        self.kernel.live.take_held(self)

    # Status.

    def _status_with(self, draft: Draft) -> RunStatus:
        entries = draft.entries
        if entries and entries[-1].type in END_STATUS:
            return END_STATUS[entries[-1].type]
        if not self.parked and not self.dormant and any(entry.type in INPUTS for entry in entries):
            return RunStatus.RUNNING
        return self._status_now()

    def _status_now(self) -> RunStatus:
        if self.quarantine is not None:
            return RunStatus.QUARANTINED
        if self.paused:
            # Paused counts as begun: one that waits for its turn in its session cannot say so yet.
            return RunStatus.PAUSED if self._begun or self.run.session is None else RunStatus.QUEUED
        if self.dormant and not self.over:
            # Somebody gives it a place, and finds out what it waits for.
            return RunStatus.RUNNING if self._begun and self.run.status is not RunStatus.QUEUED else RunStatus.QUEUED
        if self.over or self.withheld or self.steps.busy or not self.brain.pending:
            return RunStatus.RUNNING
        return RunStatus.WAITING

    def _describe(self, status: RunStatus) -> Wait | None:
        match status:
            case RunStatus.WAITING:
                return describe_wait(self.run.id, self.brain.pending.values(), self.steps.retrying, self.steps.unknown)
            case RunStatus.PAUSED | RunStatus.QUEUED if self.paused:
                return describe_pause(self.run.id)
            case RunStatus.QUARANTINED:
                return describe_quarantine(self.run.id, self.quarantine or {})
        return None


def _is_progress(entry: Entry) -> bool:
    return entry.type in INPUTS and not entry.type.startswith("run.")
