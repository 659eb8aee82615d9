"""The steps of one run that act on the world: begun, under way, to be tried again, or of unknown outcome.

Fence before spend: an attempt of a `keyed` or `once` step is launched only after its `step.started` is
committed under the shard's epoch. Attempts of free steps are launched at once; their `step.started` travels with
whatever the run commits next.

After a crash each unsettled step is picked up by its effect: repeatable ones run again, `once` is put to
its probe, and where that does not know, to a person.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from perdure.agents.tool import DID_NOT_HAPPEN, Happened
from perdure.journal.commands import Call
from perdure.kernel.contract import Admission, Decision
from perdure.kernel.draft import Draft, Entry
from perdure.kernel.history import StepHistory
from perdure.kernel.step import StepAttempt, Stop, describe
from perdure.store.contract import Statement
from perdure.values.clock import iso
from perdure.values.events import event_data
from perdure.values.json import decode, encode

if TYPE_CHECKING:
    from perdure.kernel.activation import Activation

#: A probe that takes longer knows nothing.
_PROBE_SECONDS = 60.0


class Steps:
    """All unsettled tool steps of one live run."""

    def __init__(self, activation: Activation) -> None:
        #: under way now, by step
        self.attempts: dict[int, StepAttempt] = {}
        #: failed, to be tried again when due, by step
        self.retrying: dict[int, Call] = {}
        #: cut off, and only a person can tell what became of them, by step
        self.unknown: dict[int, Call] = {}
        #: unused approvals: ask id -> hash of the action
        self.grants: dict[str, str] = {}
        #: to be begun again, but the run is paused
        self._held_again: dict[int, Call] = {}
        self._history: dict[int, StepHistory] = {}
        self._probing: set[int] = set()
        self._streaming: set[StepAttempt] = set()
        self._activation = activation
        self._writer = activation.writer
        self._kernel = activation.kernel

    @property
    def busy(self) -> bool:
        """True while something is under way on this node."""
        return bool(self.attempts or self._probing)

    def begin(self, call: Call) -> None:
        """Admit a call's next attempt and run it."""
        if not self._activation.may_move:
            return  # nothing is recorded: whoever takes the run over begins it
        options, history = call.target.options, self._history_of(call.step)
        history.attempt += 1
        decision = self._decide(call, history)
        raw = (
            f'{{"step":{call.step},"kind":"tool","name":{encode(call.name)},"effect":"{options.effect.value}",'
            f'"args":{call.arguments_json}'
            + (f',"approval":{encode(history.granted[0])}' if history.granted else "")
            + (f',"at":{encode(call.at)}}}' if call.at else "}")
        )
        self._writer.append("step.started", call.step, history.attempt, raw)
        attempt = StepAttempt(
            self, self._kernel, self._activation.run, call, history.attempt, last_heartbeat=history.heartbeat
        )
        self.attempts[call.step] = attempt
        if not decision.allowed:
            self.failed(attempt, {"type": "Denied", "message": decision.reason}, retry=False)
        elif options.effect.admitted:
            self._writer.draft.after.append(lambda: self._launch(attempt))
            self._writer.write_now()
        else:
            attempt.launch()
            self._activation.write_soon()

    def withdraw(self, call: Call) -> None:
        """The agent stopped waiting for `call`."""
        step = call.step
        attempt = self.attempts.get(step)
        if attempt is not None:
            attempt.stop(Stop.WITHDRAWN)
            return
        waited = self.retrying.pop(step, None) or self.unknown.pop(step, None) or step in self._probing
        # After a restart the agent may stop waiting before the step was picked up.
        if waited or self._last_type(step) in ("step.started", "step.failed", "step.unknown", "step.resolved"):
            outcome = "cancelled" if call.target.options.effect.repeatable else "unknown"
            self._event("step.cancelled", call, self._attempt_number(step), outcome=outcome)
            self._history.pop(step, None)
            self._activation.write_soon()

    def pick_up(self, call: Call) -> None:
        """Go on with a call that the journal knows but does not settle."""
        last = self._last_type(call.step)
        if last == "step.failed":
            self._retry_at(call, self._history_of(call.step).retry_at)
        elif last == "step.unknown":
            self.unknown[call.step] = call
        elif last == "step.resolved" or call.target.options.effect.repeatable:
            self._again(call)
        else:
            self._find_out(call, "its worker died while it was in flight")

    def adopt(self, history: dict[int, StepHistory], grants: dict[str, str]) -> None:
        """Take over what a journal says."""
        self._history, self.grants = history, grants

    def retry(self, step: int) -> None:
        """The wait before the next attempt is over."""
        self._again(self.retrying.pop(step))

    def go_on(self) -> None:
        """The run is resumed: begin what was settled to be begun again meanwhile."""
        held, self._held_again = self._held_again, {}
        for call in held.values():
            if call.step in self._activation.brain.pending:
                self._again(call)

    def resolve(self, step: int, attempt: int, outcome: str, result: Any, by: str | None) -> str | None:
        """A person settles an unknown attempt of a step; returns why it cannot be, or None."""
        call = self.unknown.get(step)
        if call is None:
            return f"step {step} is not of unknown outcome"
        if attempt != self._attempt_number(step):
            # Said twice of attempt 1, and attempt 2 is in the dark meanwhile: nobody has looked into that one.
            return (
                f"step {step}: {outcome!r} was said of attempt {attempt}, not of attempt {self._attempt_number(step)}"
            )
        text = None
        if outcome == "happened":
            text = encode(result)
            try:
                call.decode(result)
            except Exception as error:  # noqa: BLE001 - a type's own validators may raise anything
                return f"the result does not fit {call.name}: {error}"
        self._resolve(call, outcome, text, by)
        return None

    def stop_all(self, reason: Stop) -> None:
        """Stop everything under way."""
        for attempt in list(self.attempts.values()):
            attempt.stop(reason)

    def abandon_all(self) -> None:
        """The run is parked: stop everything under way, and count it as cut off by a crash."""
        self.stop_all(Stop.SHUTDOWN)
        self.attempts.clear()

    def end_all(self) -> None:
        """The run is over: stop what is under way, and say so in the journal before its last event."""
        for step, attempt in list(self.attempts.items()):
            if attempt.committing:
                continue  # its result goes to the journal before the end does
            self._end_streams(attempt)
            self._event("step.cancelled", attempt.call, attempt.number, outcome=_cut_off(attempt))
            attempt.stop(Stop.WITHDRAWN)
            del self.attempts[step]

    # What attempts report.

    def completed(self, attempt: StepAttempt, result: str) -> None:
        """The tool returned."""
        if not self._settle(attempt):
            return
        self._kernel.steps_done += 1
        call = attempt.call
        raw = f'{{"step":{call.step},"kind":"tool","name":{encode(call.name)},"result":{result}}}'
        self._end_streams(attempt)
        if attempt.statements:
            self._complete_with_statements(attempt, raw)
            return
        self._writer.append("step.completed", call.step, attempt.number, raw)
        self._history.pop(call.step, None)
        self._writer.write_now()

    def failed(self, attempt: StepAttempt, error: dict[str, Any], *, retry: bool) -> None:
        """The tool raised."""
        if not self._settle(attempt):
            return
        call = attempt.call
        history = self._history_of(call.step)
        history.failures += 1
        history.heartbeat = attempt.heartbeat
        retries = call.target.options.retries
        # A withdrawn call is not tried again: nobody would hear of it.
        if retry and history.failures <= retries.retries and call.step in self._activation.brain.pending:
            seconds = retries.wait_seconds(history.failures, self._kernel.dice())
            due = self._kernel.clock.now_us() + round(seconds * 1e6)
            self._flush(attempt)
            history.streamed += [name for name in attempt.streamed if name not in history.streamed]
            self._event("step.failed", call, attempt.number, error=error, retry_at=iso(due))
            self._retry_at(call, due)
        else:
            self._end_streams(attempt)
            self._event("step.failed", call, attempt.number, error=error)
            self._history.pop(call.step, None)
        self._writer.write_now()

    def cut_off(self, attempt: StepAttempt, why: str) -> None:
        """An unrepeatable attempt was stopped half-way and nobody knows what it did."""
        if self._settle(attempt):
            self._flush(attempt)
            self._find_out(attempt.call, why)

    def cancelled(self, attempt: StepAttempt) -> None:
        """The agent no longer waits for it, and the tool has cleaned up."""
        if self._settle(attempt):
            self._end_streams(attempt)
            self._event("step.cancelled", attempt.call, attempt.number, outcome=_cut_off(attempt))
            self._history.pop(attempt.call.step, None)
            self._activation.write_if_changed()
            self._activation.write_soon()

    def abandoned(self, attempt: StepAttempt) -> None:
        """Cut off by a shutdown: it stays under way, and whoever recovers the run finds it in flight."""

    def report(self, attempt: StepAttempt, type: str, raw: str) -> None:
        """An event of the step's own."""
        self._writer.append(type, attempt.call.step, attempt.number, raw)
        self._activation.write_soon()

    def streaming(self, attempt: StepAttempt, *, pressing: bool) -> None:
        """`attempt` has pieces to show: within 50 ms, or at once when there are many."""
        self._streaming.add(attempt)
        if pressing:
            self._writer.write_now()
        else:
            self._activation.write_soon()

    @property
    def streams_wait(self) -> bool:
        """True while pieces wait to be written."""
        return bool(self._streaming)

    def flush_streams(self) -> None:
        """Put all pieces that wait into the draft."""
        for attempt in list(self._streaming):
            self._flush(attempt)

    # Details.

    def _decide(self, call: Call, history: StepHistory) -> Decision:
        """The gate's word; the consent that a step was admitted with is good for all its attempts."""
        options, run = call.target.options, self._activation.run
        grants = dict([history.granted]) if history.granted else self.grants
        decision = self._kernel.decide(
            Admission(
                run.id, run.agent, run.session, call.name, options.effect.value, call.arguments_json, options.approval,
                grants,
            )
        )  # fmt: skip
        if decision.approval is None or history.granted is not None:
            return decision
        if decision.approval not in self.grants:  # whatever a gate says, a consent is used once
            return Decision(allowed=False, reason=f"consent {decision.approval} is not there, or was used")
        history.granted = (decision.approval, self.grants.pop(decision.approval))
        return decision

    def _launch(self, attempt: StepAttempt) -> None:
        # Between admission and launch the agent may have stopped waiting, or the run may have been closed.
        if self.attempts.get(attempt.call.step) is not attempt or self._writer.closed:
            return
        if attempt.call.step in self._activation.brain.pending:
            attempt.launch()
        elif self._settle(attempt):
            self._event("step.cancelled", attempt.call, attempt.number, outcome="not run")
            self._writer.write_now()

    def _settle(self, attempt: StepAttempt) -> bool:
        if self.attempts.get(attempt.call.step) is not attempt or self._writer.closed:
            return False
        del self.attempts[attempt.call.step]
        return True

    def _complete_with_statements(self, attempt: StepAttempt, raw: str) -> None:
        step = attempt.call.step
        self.attempts[step] = attempt  # still under way until its SQL is in
        attempt.committing = True

        def refused(error: Exception) -> None:
            attempt.committing = False
            if self._activation.over:  # the run's last event is on its way: nothing comes after it
                self.attempts.pop(step, None)
            else:
                self.failed(attempt, describe(error), retry=False)

        draft = Draft(refused=refused)
        draft.entries.append(Entry("step.completed", step, attempt.number, raw))
        draft.statements = [Statement(sql, params) for sql, params in attempt.statements]
        draft.after.append(lambda: self.attempts.pop(step, None))
        self._writer.write_alone(draft)

    def _retry_at(self, call: Call, due: int) -> None:
        self.retrying[call.step] = call
        self._activation.expect_due(due, call.step)

    def _again(self, call: Call) -> None:
        if not self._activation.may_move:
            return
        history = self._history_of(call.step)
        for name in history.streamed:
            raw = event_data(step=call.step, name=name)
            self._writer.append("stream.reset", call.step, history.attempt + 1, raw)
        history.streamed = []
        self.begin(call)

    def _find_out(self, call: Call, why: str) -> None:
        self._probing.add(call.step)
        self._kernel.spawn_task(self._reconcile(call, why))

    async def _reconcile(self, call: Call, why: str) -> None:
        result: str | None = None
        try:
            verdict = await self._probe(call)
            if isinstance(verdict, Happened):
                result = call.target.signature.encode_result(verdict.result)
        except Exception as error:  # noqa: BLE001 - a broken probe knows nothing, and says so
            why, verdict = f"{why}; its probe failed: {describe(error)['message']}", None
        finally:
            self._probing.discard(call.step)
        if self._writer.closed:
            return
        if call.step not in self._activation.brain.pending:
            self._activation.write_if_changed()  # it was withdrawn meanwhile: the run may have nothing else to do
        elif result is not None:
            self._resolve(call, "happened", result, "probe")
        elif verdict is DID_NOT_HAPPEN:
            self._resolve(call, "run-again", None, "probe")
        else:
            self._ask_people(call, why)

    async def _probe(self, call: Call) -> Any:
        """What the tool's probe says. Raises an Exception, whatever it raises, and when it takes too long."""
        probing = asyncio.ensure_future(_contained(self._kernel.hands.probe(call)))
        alarm = self._kernel.clock.call_later(_PROBE_SECONDS, probing.cancel)
        try:
            await asyncio.wait([probing])
        finally:
            alarm.cancel()
            probing.cancel()
        if probing.cancelled():
            raise TimeoutError(f"it was cancelled, or took longer than {_PROBE_SECONDS} s")
        return probing.result()

    def _ask_people(self, call: Call, why: str) -> None:
        self.unknown[call.step] = call
        try:
            schema = call.target.signature.output_schema()
        except Exception:  # noqa: BLE001 - a type that has no schema: the answer is checked when it is taken
            schema = {}
        raw = event_data(
            step=call.step, kind="tool", name=call.name, why=why, args=decode(call.arguments_json), schema=schema
        )
        self._writer.append("step.unknown", call.step, self._attempt_number(call.step), raw)
        self._writer.write_now()

    def _resolve(self, call: Call, outcome: str, result: str | None, by: str | None) -> None:
        self.unknown.pop(call.step, None)
        raw = (
            f'{{"step":{call.step},"kind":"tool","name":{encode(call.name)},"outcome":"{outcome}","by":{encode(by)}'
            + (f',"result":{result}}}' if result is not None else "}")
        )
        self._writer.append("step.resolved", call.step, self._attempt_number(call.step), raw)
        if outcome == "run-again":
            # Nothing begins while the run must not move. A parked one picks this up when its journal is read again.
            if self._activation.paused:
                self._held_again[call.step] = call
            elif not self._activation.dormant:
                self._again(call)
        self._writer.write_now()

    def _event(self, type: str, call: Call, attempt: int, **fields: Any) -> None:
        self._writer.append(type, call.step, attempt, event_data(step=call.step, kind="tool", name=call.name, **fields))

    def _flush(self, attempt: StepAttempt) -> None:
        self._streaming.discard(attempt)
        for raw in attempt.take_deltas():
            self._writer.append("stream.delta", attempt.call.step, attempt.number, raw)

    def _end_streams(self, attempt: StepAttempt) -> None:
        self._flush(attempt)
        for name in attempt.streamed:
            raw = event_data(step=attempt.call.step, name=name)
            self._writer.append("stream.completed", attempt.call.step, attempt.number, raw)

    def _history_of(self, step: int) -> StepHistory:
        history = self._history.get(step)
        if history is None:
            history = self._history[step] = StepHistory()
        return history

    def _attempt_number(self, step: int) -> int:
        history = self._history.get(step)
        return max(1, history.attempt) if history is not None else 1

    def _last_type(self, step: int) -> str:
        history = self._history.get(step)
        return history.last_type if history is not None else ""


async def _contained(probe: Awaitable[Any]) -> Any:
    try:
        return await probe
    except SystemExit as error:  # out of a task it would end the process
        raise RuntimeError(f"it exited with {error.code}") from error


def _cut_off(attempt: StepAttempt) -> str:
    if not attempt.launched:
        return "not run"
    return "cancelled" if attempt.call.target.options.effect.repeatable else "unknown"
