"""The brain: one run's code, driven by the events of its journal.

    deliver(event) --> [ deterministic loop runs the agent's code ] --> take_commands()

Everything the agent's code awaits becomes a numbered command; everything it learns arrives as an event that
is already committed. So the code is a function of its journal, and that is the whole trick of durability:

- Live, the kernel turns new commands into events and effects, commits, and delivers the results.
- After a crash or an eviction, the same code runs again from the top and is given the same events in the
  same order. Command n must then be what the journal says step n was: same kind, same name. Commands that
  the journal already knows are matched and dropped; only what it does not know is new.
- If they differ, the code has changed under the run: `divergence` is set, the loop stops, nothing is written.

Results are delivered one event at a time, each followed by running the loop until nothing is ready. Live and
replay do this alike, so two results of one commit cannot be seen in another order later.

The brain does no I/O and has no clock: time is the time of the last delivered event.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
import sys
from asyncio import events as asyncio_events
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

from perdure.errors import (
    ApprovalRejected,
    AskTimeout,
    ChildFailed,
    NonDeterminismError,
    StepError,
    StepTimeout,
    UnknownOutcome,
)
from perdure.journal.commands import Command, Patch, Receive, Timer, Withdraw
from perdure.journal.loop import RunLoop, RunTimer
from perdure.values.events import Event
from perdure.values.json import encode


class ContinueAs(BaseException):  # noqa: N818 - not an error: it ends a run on purpose
    """Ends the run; its work goes on in a new one with `arguments`. A BaseException so that no except catches it."""

    def __init__(self, input_json: str) -> None:
        super().__init__("the run continues in a new one")
        self.input_json = input_json


class Evicted(BaseException):  # noqa: N818 - not an error: the run left memory
    """Clean-up code of a run that left memory tried to go on."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the agent's function ended. Exactly one field is set; `value` is plain data as JSON text."""

    value: str | None = None
    error: BaseException | None = None
    cancelled: bool = False
    continue_as: str | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the journal says about a step."""

    kind: str
    name: str
    at: str


def current_brain() -> Brain | None:
    """The brain whose code is running on this thread right now, or None."""
    loop = asyncio_events._get_running_loop()
    return loop.brain if type(loop) is _BrainLoop else None


class _BrainLoop(RunLoop):
    brain: Brain


class Brain:
    """One run in memory. `program(brain)` makes the coroutine of the agent's function."""

    def __init__(self, run: str, program: Callable[[Brain], Coroutine[Any, Any, str]]) -> None:
        self.run = run
        self.input: Any = None
        self.outcome: Outcome | None = None
        self.divergence: NonDeterminismError | None = None
        #: the session's state as the agent sees it: key -> value
        self.state: dict[str, Any] = {}
        #: commands the journal does not settle yet, by step
        self.pending: dict[int, Command] = {}
        #: set while somebody has asked to cancel and the code has not ended
        self.cancelling = False
        self.steps = 0
        self.patches: set[str] = set()
        self.replaying = False
        self._program = program
        self._commands: list[Command] = []
        self._recorded: dict[int, Recorded] = {}
        self._messages: dict[str, deque[Any]] = {}
        self._receivers: dict[str, deque[Receive]] = {}
        self._journaled_state: dict[str, str] = {}
        self._state_touched = False
        self._random: random.Random | None = None
        self._seed = run
        self._evicted = False
        self._main: asyncio.Task[str] | None = None
        self._loop = _BrainLoop(self._timer_started, self._timer_cancelled)
        self._loop.brain = self

    # The kernel's side.

    def replay(self, history: Iterable[Event]) -> None:
        """Bring a fresh brain to where the journal ends. Afterwards `take_commands` gives what is new."""
        events = list(history)
        self._recorded = _index_steps(events)
        self.patches = {event.data["name"] for event in events if event.type == "run.patched"}
        self.replaying = True
        last = len(events) - 1
        for index, event in enumerate(events):
            if index == last:
                self.replaying = False
            if event.type == "state.changed":
                self._note_state(event)
            elif event.type in INPUTS:
                self.deliver(event)
            if self.divergence is not None:
                return
        self.replaying = False
        self._check_all_recorded_were_issued()

    def deliver(self, event: Event) -> None:
        """Tell the run what happened (one of INPUTS, committed) and let its code go on until it waits again."""
        if self._loop.stopped:
            return
        if event.time_us > self._loop.now_us:
            self._loop.now_us = event.time_us
        _HANDLERS[event.type](self, event)
        self._loop.run_ready()
        if self._main is not None and self._main.done() and self.outcome is None:
            self._finish(self._main)

    def take_commands(self) -> list[Command]:
        """The new commands since the last call, in order."""
        commands, self._commands = self._commands, []
        return commands

    def take_state_changes(self) -> dict[str, str | None]:
        """What the code changed in its state since the last call: key -> JSON text, or None for removed.

        Compares by value, because agents mutate what they once took out of the state.
        """
        if not self._state_touched:
            return {}
        current = {key: encode(value) for key, value in self.state.items()}
        changes: dict[str, str | None] = {
            key: text for key, text in current.items() if self._journaled_state.get(key) != text
        }
        changes.update({key: None for key in self._journaled_state if key not in current})
        self._journaled_state = current
        return changes

    @property
    def waits(self) -> Iterable[Command]:
        """Every command the run waits for, by step."""
        return self.pending.values()

    def unread_messages(self) -> list[tuple[str, Any]]:
        """Messages that were received but never taken, as (topic, value)."""
        return [(topic, value) for topic, queue in self._messages.items() for value in queue]

    def evict(self) -> None:
        """Leave memory. The journal can rebuild the brain at any time."""
        self._evicted = True
        self._loop.discard()

    # The agent's side: used by Context and tools while the code runs.

    @property
    def now_us(self) -> int:
        """The run's own time, microseconds since the epoch."""
        return self._loop.now_us

    @property
    def random(self) -> random.Random:
        """Dice that fall the same in every replay."""
        if self._random is None:
            self._random = random.Random(self._seed)  # noqa: S311 - reproducible on purpose; not for secrets
        return self._random

    def touch_state(self) -> dict[str, Any]:
        """The state, about to be read or written."""
        self._state_touched = True
        return self.state

    def issue(self, command: Command) -> Command:
        """Number a command, match it with the journal, and hand it to the kernel if it is new."""
        if self._evicted:
            raise Evicted
        self.steps += 1
        command.step = self.steps
        recorded = self._recorded.get(self.steps)
        if recorded is not None:
            if recorded.kind != command.kind or recorded.name != command.name:
                self._diverge(command, recorded)
            command.recorded = True
        self._commands.append(command)
        return command

    async def result(self, command: Command) -> Any:
        """Wait for what an issued command brings."""
        command.future = self._loop.create_future()
        self.pending[command.step] = command
        try:
            return await command.future
        except asyncio.CancelledError:
            if self.pending.pop(command.step, None) is not None and not self._evicted:
                self._commands.append(Withdraw(command))
            raise

    def spawned(self, command: Command) -> Command:
        """Expect the end of a child that was just issued, whether or not anybody awaits it yet."""
        command.future = self._loop.create_future()
        self.pending[command.step] = command
        return command

    async def join(self, command: Command) -> Any:
        """Wait for a child's end; several may. A waiter that is cancelled leaves the child alone."""
        future = command.future
        assert future is not None
        return await asyncio.shield(future)

    def take_message(self, topic: str) -> tuple[bool, Any]:
        """(True, value) when a message on `topic` is there already."""
        queue = self._messages.get(topic)
        return (True, queue.popleft()) if queue else (False, None)

    async def next_message(self, command: Receive) -> Any:
        """Wait for the next message on the command's topic."""
        queue = self._receivers.setdefault(command.name, deque())
        queue.append(command)
        try:
            return await self.result(command)
        finally:
            if command in queue:
                queue.remove(command)

    def patched(self, name: str, at: str) -> bool:
        """True where new code may run: live, or where the journal remembers that it did."""
        if name in self.patches:
            return True
        if self.replaying:
            return False
        self.patches.add(name)
        self._commands.append(Patch(name, at))
        return True

    # Events.

    def _on_queued(self, event: Event) -> None:
        self.input = event.data["input"]

    def _on_forked(self, event: Event) -> None:
        data = event.data
        self._seed = data.get("seed", self._seed)
        if "input" in data:
            self.input = data["input"]

    def _on_started(self, event: Event) -> None:
        state = event.data.get("state", {})
        self._journaled_state = {key: encode(value) for key, value in state.items()}
        self.state = state
        context = contextvars.Context()
        self._main = context.run(self._loop.create_task, self._program(self), context=context)

    def _on_completed(self, event: Event) -> None:
        command = self.pending.pop(event.step or 0, None)
        if command is not None:
            self._resolve(command, event.data.get("result"))

    def _on_failed(self, event: Event) -> None:
        if "retry_at" not in event.data:
            self._reject(event, lambda error: _step_error(error, event.step))

    def _on_resolved(self, event: Event) -> None:
        outcome = event.data["outcome"]
        if outcome == "happened":
            self._on_completed(event)
        elif outcome == "fail":
            message = f"step {event.step} was in flight when its worker died, and a person decided that it failed"
            self._reject(event, lambda _: UnknownOutcome(message, type="UnknownOutcome", step=event.step))

    def _on_answered(self, event: Event) -> None:
        command = self.pending.pop(event.step or 0, None)
        if command is not None:
            self._resolve(command, event.data)

    def _on_expired(self, event: Event) -> None:
        self._reject(event, lambda _: AskTimeout("nobody answered in time", type="AskTimeout", step=event.step))

    def _on_child_ended(self, event: Event) -> None:
        data = event.data
        if data["status"] == "succeeded":
            self._on_completed(event)
        else:
            self._reject(event, lambda error: _child_error(data["run"], error, event.step))

    def _on_timer_fired(self, event: Event) -> None:
        command = self.pending.pop(event.step or 0, None)
        if isinstance(command, Timer):
            self._loop.fire(command.handle)

    def _on_message(self, event: Event) -> None:
        topic, value = event.data["topic"], event.data["value"]
        receivers = self._receivers.get(topic)
        while receivers:
            command = receivers.popleft()
            if self.pending.pop(command.step, None) is not None:
                self._resolve(command, value)
                return
        self._messages.setdefault(topic, deque()).append(value)

    def _note_state(self, event: Event) -> None:
        # Live, take_state_changes knows this already; in a replay this is how it learns what is journaled.
        for key, value in event.data.get("set", {}).items():
            self._journaled_state[key] = encode(value)
        for key in event.data.get("unset", ()):
            self._journaled_state.pop(key, None)
        self._state_touched = True

    def _on_cancelling(self, event: Event) -> None:
        self.cancelling = True
        if self._main is not None:
            self._main.cancel(event.data.get("reason"))

    # Details.

    def _resolve(self, command: Command, value: Any) -> None:
        future = command.future
        if future is None or future.done():
            return
        try:
            future.set_result(command.decode(value))
        except Exception as error:  # noqa: BLE001 - whatever a decoder raises: the journal no longer fits the code
            self.divergence = NonDeterminismError(
                f"run {self.run}: the recorded result of step {command.step} ({command.kind} {command.name}) "
                f"does not fit the types in the code any more: {error}.\n{_WAYS_OUT.format(run=self.run)}"
            )
            self._loop.stopped = True

    def _reject(self, event: Event, make: Callable[[dict[str, Any]], Exception]) -> None:
        command = self.pending.pop(event.step or 0, None)
        if command is not None and command.future is not None and not command.future.done():
            command.future.set_exception(make(event.data.get("error") or {}))
            command.future.exception()  # a child nobody awaits is not worth asyncio's "never retrieved"

    def _finish(self, main: asyncio.Task[str]) -> None:
        self.outcome = _outcome_of(main, self.cancelling)
        self.evict()

    def _timer_started(self, handle: RunTimer) -> None:
        command = Timer(position_outside_asyncio(), round(handle.when() * 1e6), handle)
        handle.step = self.issue(command).step
        self.pending[command.step] = command

    def _timer_cancelled(self, handle: RunTimer) -> None:
        command = self.pending.pop(handle.step, None)
        if command is not None and not self._evicted:
            self._commands.append(Withdraw(command))

    def _diverge(self, command: Command, recorded: Recorded) -> None:
        if self.divergence is None:
            self.divergence = NonDeterminismError(
                f"run {self.run}: step {command.step} was recorded as {recorded.kind} {recorded.name!r} "
                f"({recorded.at or 'place unknown'}), but the code now asks for {command.kind} {command.name!r} "
                f"({command.at or 'place unknown'}).\n{_WAYS_OUT.format(run=self.run)}"
            )
        self._loop.stopped = True

    def _check_all_recorded_were_issued(self) -> None:
        missing = next((step for step in self._recorded if step > self.steps), None)
        if missing is not None and self.divergence is None:
            recorded = self._recorded[missing]
            self.divergence = NonDeterminismError(
                f"run {self.run}: step {missing} was recorded as {recorded.kind} {recorded.name!r} "
                f"({recorded.at or 'place unknown'}), but the code no longer asks for it.\n"
                f"{_WAYS_OUT.format(run=self.run)}"
            )


_WAYS_OUT = (
    "Nothing is lost: the run is parked. Three ways out: (1) put the old code back, or keep both behind "
    '`if ctx.patched("name")`, then `perdure retry {run}`; (2) `perdure fork {run} --at STEP` to go on from an '
    "earlier step with the new code; (3) `perdure cancel {run}`."
)

_OPENING = frozenset(
    {"step.started", "child.spawned", "timer.started", "ask.opened", "approval.requested", "message.awaited",
     "message.sent"}
)  # fmt: skip

# Events the agent itself appends; told apart from a step's own by having no attempt.
_EMITTED = frozenset({"progress", "artifact"})

_HANDLERS: dict[str, Callable[[Brain, Event], None]] = {
    "run.queued": Brain._on_queued,
    "run.forked": Brain._on_forked,
    "run.started": Brain._on_started,
    "run.cancelling": Brain._on_cancelling,
    "step.completed": Brain._on_completed,
    "step.failed": Brain._on_failed,
    "step.resolved": Brain._on_resolved,
    "ask.answered": Brain._on_answered,
    "ask.expired": Brain._on_expired,
    "approval.granted": Brain._on_answered,
    "approval.rejected": Brain._on_answered,
    "approval.expired": Brain._on_expired,
    "child.ended": Brain._on_child_ended,
    "timer.fired": Brain._on_timer_fired,
    "message.received": Brain._on_message,
}

#: The event types that a brain learns from; everything else in a journal is its own doing or for people.
INPUTS = frozenset(_HANDLERS)


def _index_steps(events: Iterable[Event]) -> dict[int, Recorded]:
    recorded = {}
    for event in events:
        if event.step is None:
            continue
        if event.type in _OPENING:
            data = event.data
            recorded[event.step] = Recorded(data["kind"], data["name"], data.get("at", ""))
        elif event.attempt is None and (event.type in _EMITTED or event.type.startswith("custom.")):
            recorded[event.step] = Recorded("emit", event.type, "")
    return recorded


def _outcome_of(main: asyncio.Task[str], cancelling: bool) -> Outcome:
    if main.cancelled():
        if cancelling:
            return Outcome(cancelled=True)
        return Outcome(error=asyncio.CancelledError("the agent cancelled itself"))
    error = main.exception()
    if error is None:
        return Outcome(value=main.result())
    if isinstance(error, ContinueAs):
        return Outcome(continue_as=error.input_json)
    return Outcome(error=error)


def _step_error(error: dict[str, Any], step: int | None) -> StepError:
    kinds: dict[str, type[StepError]] = {
        "StepTimeout": StepTimeout, "ApprovalRejected": ApprovalRejected, "UnknownOutcome": UnknownOutcome,
    }  # fmt: skip
    kind = error.get("type", "StepError")
    return kinds.get(kind, StepError)(error.get("message", ""), type=kind, step=step)


def _child_error(run: str, error: dict[str, Any], step: int | None) -> ChildFailed:
    kind, message = error.get("type", "RunCancelled"), error.get("message", "the child was cancelled")
    return ChildFailed(f"{run}: {kind}: {message}", type=kind, run=run, step=step)


def position_outside_asyncio() -> str:
    """file:line of the nearest caller that is neither asyncio's nor ours."""
    frame = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if not module.startswith(("asyncio", "perdure.", "contextlib")):
            return f"{frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_lineno}"
        if frame.f_back is None:
            break
        frame = frame.f_back
    return ""
