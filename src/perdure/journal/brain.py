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

Code that cannot go on, because nothing can wake it, it never waits or its state cannot be saved, asks for its own
failure (`Fail`), when there is nothing more to deliver. It hears of that from the journal like of everything else,
as if somebody cancelled it: so it cleans up and compensates, in every replay at the same point, and then the run fails.

The brain does no I/O and has no clock: time is the time of the last delivered event.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
import sys
from asyncio import events as asyncio_events
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping
from copy import copy
from functools import partial
from typing import Any

from perdure.errors import AgentError, AskTimeout, NonDeterminismError, NotInAgent, NotJsonError, UnknownOutcome
from perdure.journal.commands import Command, Fail, Patch, Receive, Timer, Withdraw
from perdure.journal.ending import Outcome, child_error, outcome_of, run_error, step_error
from perdure.journal.loop import RunLoop, RunTimer
from perdure.journal.recording import NOTHING, Recording, opens
from perdure.journal.state import State
from perdure.values.events import Event
from perdure.values.json import decode

#: The last moment a timer or a deadline can have: the end of the year 9999, where datetimes end.
LATEST_US = 253_402_300_799_000_000


def current_brain() -> Brain | None:
    """The brain whose code is running on this thread right now, or None."""
    loop = asyncio_events._get_running_loop()
    return loop.brain if type(loop) is _BrainLoop else None


class _BrainLoop(RunLoop):
    brain: Brain | None


class Brain:
    """One run in memory. `program(brain)` makes the coroutine of the agent's function."""

    def __init__(self, run: str, program: Callable[[Brain], Coroutine[Any, Any, str]]) -> None:
        self.run = run
        self.input: Any = None
        self.outcome: Outcome | None = None
        self.divergence: NonDeterminismError | None = None
        #: commands the journal does not settle yet, by step
        self.pending: dict[int, Command] = {}
        #: set while somebody has asked to cancel and the code has not ended
        self.cancelling = False
        self.steps = 0
        self._program = program
        self._commands: list[Command] = []
        self._recorded = NOTHING
        self._patches: dict[str, bool] = {}
        self._messages: dict[str, deque[Any]] = {}
        self._receivers: dict[str, deque[Receive]] = {}
        self._state = State()
        self._changes: dict[str, str | None] = {}
        self._random: random.Random | None = None
        self._seed = run
        self._forks: list[Event] = []
        self._evicted = False
        self._main: asyncio.Task[str] | None = None
        #: why the code never came to rest, or None
        self._restless: AgentError | None = None
        #: it was found that the code cannot go on; the journal does not say so yet
        self._failing = False
        #: what the run fails with, whatever its code makes of it
        self._failure: Exception | None = None
        self._loop = _BrainLoop(self._timer_started, self._timer_cancelled)  # type: ignore[abstract]  # it is not
        self._loop.brain = self

    # The kernel's side.

    def replay(self, history: Iterable[Event]) -> None:
        """Bring a fresh brain to where the journal ends. Afterwards `take_commands` gives what is new."""
        events = list(history)
        # A fork's input and dice count from its start, although its journal says so only after the part it shares.
        self._forks = [event for event in events if event.type == "run.forked"]
        self._recorded = Recording(events)
        self._loop.replaying = True
        self._run(partial(self._take_all, events))
        self._loop.replaying = False
        self._check_all_recorded_were_issued()
        self._recorded = NOTHING  # what is issued from now on is new

    def deliver(self, event: Event) -> None:
        """Tell the run what happened (one of INPUTS, committed) and let its code go on until it waits again.

        Raises nothing that agent code raises: that is the run's outcome.
        """
        if not self._loop.stopped:
            self._run(partial(self._take, event))

    def take_commands(self) -> list[Command]:
        """The new commands since the last call, in order. None of a run that has diverged.

        Call it when there is nothing more to deliver: that code cannot go on is found out now.
        """
        error = self._impasse()
        if error is not None and self._failure is not None:
            self._run(partial(self._end, Outcome(error=self._failure)))  # it was told, and waits for nothing once more
        elif error is not None and not self._failing:
            self._failing = True
            self._commands.append(Fail(error))
        commands, self._commands = self._commands, []
        return commands if self.divergence is None else []

    def take_state_changes(self) -> dict[str, str | None]:
        """What the code had changed in its state by the last `take_commands`: key -> JSON text, or None for removed."""
        if self.divergence is not None:
            return {}
        if self.outcome is not None:
            self._changes.update(self._state.changes())
        changes, self._changes = self._changes, {}
        return changes

    def unread_messages(self) -> list[tuple[str, Any]]:
        """Messages that were received but never taken, as (topic, value)."""
        return [(topic, value) for topic, queue in self._messages.items() for value in queue]

    def evict(self) -> None:
        """Leave memory. The journal can rebuild the brain at any time."""
        self._evicted = True
        self._loop.discard()
        self._loop.brain = None  # no cycle: memory is free at once, not when the garbage collector comes round

    def __del__(self) -> None:
        # Somebody dropped a live run. Collected as it is, its clean-up code would run as if there were no run at all,
        # and what were steps would be plain calls.
        if not self._evicted:
            self.evict()

    # The agent's side: used by Context and tools while the code runs.

    @property
    def now_us(self) -> int:
        """The run's own time, microseconds since the epoch."""
        return self._loop.now_us

    def deadline(self, timeout: float | None) -> int | None:
        """The moment `timeout` seconds from now, as `now_us`; None for never."""
        return None if timeout is None else round(min(self.now_us + timeout * 1e6, LATEST_US))

    @property
    def random(self) -> random.Random:
        """Dice that fall the same in every replay."""
        self._check_inside()
        if self._random is None:
            self._random = random.Random(self._seed)  # noqa: S311 - reproducible on purpose; not for secrets
        return self._random

    def touch_state(self) -> Mapping[str, Any]:
        """The session's state by key, about to be read or written."""
        self._check_inside()
        if not self._evicted:  # what clean-up code does to it when the run is over is not part of the run
            self._state.touched = True
        return self._state.values

    def bind_state(self, values: Mapping[str, Any]) -> None:
        """From now on, `values` is where the state is read from."""
        self._state.values = values

    def check_state(self) -> None:
        """Raises NotJsonError when the state cannot be saved. For the end of the code, while it can still clean up."""
        try:
            copy(self._state).freeze()  # of a copy: this only asks
        except NotJsonError as error:
            self._failure = error
            raise

    def issue(self, command: Command) -> Command:
        """Number a command, match it with the journal, and hand it to the kernel if it is new."""
        self._check_inside()
        if self._evicted:
            return command  # what clean-up code asks for when the run has left memory is asked for in vain
        self.steps += 1
        command.step = self.steps
        event = self._recorded.openings.get(self.steps)
        if event is not None:
            if not opens(event, command):
                self._diverge(command)
            command.recorded = True
        self._commands.append(command)
        return command

    async def result(self, command: Command) -> Any:
        """Wait for what an issued command brings."""
        self.expect(command)
        assert command.future is not None
        try:
            return await command.future
        except asyncio.CancelledError:
            self._withdraw(command.step)
            raise

    def expect(self, command: Command) -> Command:
        """Be ready for what an issued command brings, whether or not anybody awaits it yet."""
        command.future = asyncio.Future(loop=self._loop)
        if not self._evicted:
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
        """True where new code may run: where the journal holds nothing ahead, or remembers that it ran.

        The first answer for a name stays, so that one run does not mix old and new.
        """
        answer = self._patches.get(name)
        if answer is None:
            known = name in self._recorded.patches
            answer = self._patches[name] = known or self.steps >= self._recorded.last_step
            if answer:
                patch = Patch(name, at)
                patch.recorded = known
                self._commands.append(patch)
        return answer

    # Events. `Event.data` is shared with whoever else reads the event; what agent code gets is decoded for it alone.

    def _take_all(self, events: list[Event]) -> None:
        for event in events:
            if event.type == "state.changed":
                self._state.note(event.data.get("set", {}), event.data.get("unset", ()))
            elif event.type in INPUTS and not self._loop.stopped:
                self._take(event)

    def _take(self, event: Event) -> None:
        if event.time_us > self._loop.now_us:
            self._loop.now_us = event.time_us
        _HANDLERS[event.type](self, event)
        self._run_ready()

    def _run_ready(self) -> None:
        try:
            self._loop.run_ready()
        except AgentError as error:
            self._restless = error
        if self._main is not None and self._main.done() and self.outcome is None and self.divergence is None:
            self._end(self._outcome(self._main))

    def _impasse(self) -> Exception | None:
        """Why the code cannot go on as it is, or None."""
        if self._main is None or self._loop.stopped:
            return None
        if self._restless is not None:
            return self._restless
        if not self.pending:
            return AgentError(_STALLED)
        try:
            self._changes.update(self._state.changes())
        except NotJsonError as error:
            return error if self._failure is None else None  # it has been told, and may still put it right
        return None

    def _outcome(self, main: asyncio.Task[str]) -> Outcome:
        outcome = outcome_of(main, cancelling=self.cancelling)
        if self._failure is None or self._failure is outcome.error:
            return outcome
        try:
            main.result()
        except BaseException as end:  # noqa: BLE001 - the failure is what ended the run; this only came of it
            for note in getattr(end, "__notes__", ()):
                self._failure.add_note(note)
        return Outcome(error=self._failure)

    def _on_queued(self, event: Event) -> None:
        self.input = decode(event.raw)["input"]
        for fork in self._forks:
            self._on_forked(fork)

    def _on_forked(self, event: Event) -> None:
        data = decode(event.raw)
        self._seed = data.get("seed", self._seed)
        if "input" in data:
            self.input = data["input"]

    def _on_started(self, event: Event) -> None:
        self._state.begin(decode(event.raw).get("state", {}))
        context = contextvars.Context()
        self._main = context.run(self._loop.create_task, self._program(self), context=context)

    def _on_completed(self, event: Event) -> None:
        command = self.pending.pop(event.step or 0, None)
        if command is not None:
            self._resolve(command, decode(event.raw).get("result"))

    def _on_failed(self, event: Event) -> None:
        if "retry_at" not in event.data:
            self._reject(event, lambda error: step_error(error, event.step))

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
            self._resolve(command, decode(event.raw))

    def _on_expired(self, event: Event) -> None:
        self._reject(event, lambda _: AskTimeout("nobody answered in time", type="AskTimeout", step=event.step))

    def _on_child_ended(self, event: Event) -> None:
        data = event.data
        if data["status"] == "succeeded":
            self._on_completed(event)
        else:
            self._reject(event, lambda error: child_error(data["run"], error, event.step))

    def _on_timer_fired(self, event: Event) -> None:
        command = self.pending.pop(event.step or 0, None)
        if isinstance(command, Timer):
            self._loop.fire(command.handle)

    def _on_message(self, event: Event) -> None:
        data = decode(event.raw)
        topic, value = data["topic"], data["value"]
        receivers = self._receivers.get(topic)
        while receivers:
            command = receivers.popleft()
            if self.pending.pop(command.step, None) is not None:
                self._resolve(command, value)
                return
        self._messages.setdefault(topic, deque()).append(value)

    def _on_cancelling(self, event: Event) -> None:
        self.cancelling = True
        if self._main is not None:
            self._main.cancel(event.data.get("reason"))

    def _on_failing(self, event: Event) -> None:
        self._failure, self._restless = run_error(event.data["error"]), None
        if self._main is not None:
            # Cancelled, rather than thrown the error: groups and timeouts clean up for that, and for nothing else.
            self._main.cancel(str(self._failure))

    # Details.

    def _resolve(self, command: Command, value: Any) -> None:
        future = command.future
        if future is None or future.done():
            return
        try:
            future.set_result(command.decode(value))
        except Exception as error:  # noqa: BLE001 - whatever a decoder raises: the journal no longer fits the code
            self._park(
                f"the recorded result of step {command.step} ({command.kind} {command.name}) does not fit the types "
                f"in the code any more: {error}"
            )

    def _reject(self, event: Event, make: Callable[[dict[str, Any]], Exception]) -> None:
        command = self.pending.pop(event.step or 0, None)
        if command is not None and command.future is not None and not command.future.done():
            command.future.set_exception(make(event.data.get("error") or {}))
            command.future.exception()  # a child nobody awaits is not worth asyncio's "never retrieved"

    def _run(self, work: Callable[[], None]) -> None:
        try:
            self._loop.run(work)
        except BaseException:  # Ctrl-C in the middle of agent code: what it left undone is not what it did
            self.evict()
            raise

    def _end(self, outcome: Outcome) -> None:
        self.outcome = outcome
        try:
            self._state.freeze()
        except NotJsonError as error:
            self.outcome = Outcome(error=self._failure or error)
        self.evict()

    def _check_inside(self) -> None:
        if asyncio_events._get_running_loop() is not self._loop:
            raise NotInAgent(
                f"the context of run {self.run} was used outside of its agent's own code, such as in a step; "
                "a step takes its arguments and returns its result"
            )

    def _timer_started(self, handle: RunTimer) -> None:
        command = Timer(position_outside_asyncio(), round(min(handle.when() * 1e6, LATEST_US)), handle)
        handle.step = self.issue(command).step
        if not self._evicted:
            self.pending[command.step] = command

    def _timer_cancelled(self, handle: RunTimer) -> None:
        self._withdraw(handle.step)

    def _withdraw(self, step: int) -> None:
        command = self.pending.pop(step, None)
        if command is not None and not self._evicted:
            withdrawal = Withdraw(command)
            withdrawal.recorded = step in self._recorded.withdrawn
            self._commands.append(withdrawal)

    def _diverge(self, command: Command) -> None:
        recorded = self._recorded.recorded_as(command.step)
        self._park(
            f"step {command.step} was recorded as {recorded}, but the code now asks for {command.kind} "
            f"{command.name!r} ({command.at or 'place unknown'})"
        )

    def _check_all_recorded_were_issued(self) -> None:
        missing = self._recorded.first_after(self.steps)
        if missing is not None:
            recorded = self._recorded.recorded_as(missing)
            self._park(f"step {missing} was recorded as {recorded}, but the code no longer asks for it")

    def _park(self, why: str) -> None:
        if self.divergence is None:
            self.divergence = NonDeterminismError(f"run {self.run}: {why}.\n{_WAYS_OUT.format(run=self.run)}")
        self.outcome = None
        self._loop.stopped = True


_STALLED = (
    "this run waits for something that nothing can bring: no step, timer, question, message or child of it is under "
    "way, and nothing else may wake it. Wait for the world with `await ctx.receive(...)`, `await ctx.ask(...)` or a "
    "step; an event, queue or future must be set by a task of the run"
)

_WAYS_OUT = (
    "Nothing is lost: the run is parked. Three ways out: (1) put the old code back, or keep both behind "
    '`if ctx.patched("name")`, then `perdure retry {run}`; (2) `perdure fork {run} --at STEP` to go on from an '
    "earlier step with the new code; (3) `perdure cancel {run}`."
)

_HANDLERS: dict[str, Callable[[Brain, Event], None]] = {
    "run.queued": Brain._on_queued,
    "run.forked": Brain._on_forked,
    "run.started": Brain._on_started,
    "run.cancelling": Brain._on_cancelling,
    "run.failing": Brain._on_failing,
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
