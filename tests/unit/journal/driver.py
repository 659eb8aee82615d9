"""Drives one agent by hand: plays kernel, hands, clock and people, in an order that the test chooses.

    drive = Drive(buyer, items=["pen"]).start()
    drive.complete(1, "19.90")                          # step 1 was tool price
    drive.fire(2)                                       # step 2 was a timer

It journals like the kernel: an input is an event before the brain learns of it, and what the brain then asks for
is journaled after it, unless it was withdrawn in the meantime.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

from perdure.agents.agent import AnyAgent
from perdure.agents.context import RunInfo, run_agent
from perdure.journal import isolation
from perdure.journal.brain import INPUTS, Brain
from perdure.journal.commands import Call, Command, Emit, Fail, OpenAsk, Patch, Receive, Send, Spawn, Timer, Withdraw
from perdure.values.clock import iso
from perdure.values.events import Event
from perdure.values.ids import ask_id
from perdure.values.json import decode, encode

isolation.install()

RUN = "run_0000000001"
BEGIN_US = 1_700_000_000_000_000


def fresh_brain(agent: AnyAgent, run: str = RUN) -> Brain:
    """A brain of `agent` that has learned nothing yet."""
    info = RunInfo(run, agent.name, agent.version, None, None, 1)
    return Brain(run, lambda brain: run_agent(agent, brain, info))


def copied(events: Sequence[Event]) -> list[Event]:
    """The same events, as if read from a store: nothing shared with the originals."""
    return [Event(e.run, e.seq, e.type, e.time_us, e.step, e.attempt, e.raw) for e in events]


class Entry(NamedTuple):
    """An event that has no number and time yet."""

    type: str
    step: int | None
    raw: str
    attempt: int | None = None


@dataclass
class Plan:
    """What is to happen to a run besides the settling of its own steps."""

    #: gives the result of a command, or raises what it fails with; default: what the tool's function itself does
    world: Callable[[Command], Any] | None = None
    #: (topic, value) of messages, in the order in which they come
    mail: list[tuple[str, Any]] = field(default_factory=list)
    #: the number of inputs after which somebody cancels
    cancel_after: int | None = None


class Drive:
    """One run: its brain, its journal, and everything that it asked for."""

    def __init__(self, agent: AnyAgent, *, state: dict[str, Any] | None = None, **input: Any) -> None:
        self.agent = agent
        self.brain = fresh_brain(agent)
        self.journal: list[Event] = []
        #: everything the code asked for, in order, with the number of inputs it had been given by then
        self.asked: list[tuple[str, int]] = []
        #: how the brain looked after so many inputs
        self.looks: dict[int, tuple[object, ...]] = {}
        #: the state as journaled, now and after so many inputs
        self.saved: dict[str, Any] = {}
        self.saves: dict[int, dict[str, Any]] = {}
        self.inputs = 0
        self.now_us = BEGIN_US
        self._input, self._state = input, state
        self._new: list[Command] = []

    @classmethod
    def of(cls, agent: AnyAgent, journal: Sequence[Event]) -> Drive:
        """A run rebuilt from its journal, to go on with."""
        drive = cls(agent)
        drive.journal = copied(journal)
        drive.now_us = drive.journal[-1].time_us
        drive.inputs = sum(event.type in INPUTS for event in journal)
        drive.saved = state_in(journal)
        drive.brain.replay(drive.journal)
        drive._take()
        drive._absorb()
        return drive

    @property
    def value(self) -> Any:
        """What the agent returned; raises what it raised."""
        assert self.brain.divergence is None, self.brain.divergence
        outcome = self.brain.outcome
        assert outcome is not None, f"still waits for {self.waits}"
        if outcome.error is not None:
            raise outcome.error
        assert outcome.value is not None, outcome
        return decode(outcome.value)

    @property
    def over(self) -> bool:
        """True when the code has ended or no longer fits its journal."""
        return self.brain.outcome is not None or self.brain.divergence is not None

    @property
    def waits(self) -> list[str]:
        """What the run waits for."""
        return [describe(command) for command in self.brain.pending.values()]

    def command(self, step: int) -> Any:
        """The command that the run waits for as step `step`."""
        return self.brain.pending[step]

    @property
    def types(self) -> list[str]:
        """The types of the journal's events."""
        return [event.type for event in self.journal]

    # What happens to a run, one event at a time.

    def start(self) -> Drive:
        """The run is recorded and begun."""
        self._happen(Entry("run.queued", None, encode({"input": self._input})))
        self._happen(Entry("run.started", None, encode({} if self._state is None else {"state": self._state})))
        return self

    def complete(self, step: int, result: Any = None) -> None:
        """Step `step` ended well."""
        self._happen(Entry("step.completed", step, encode({"step": step, "kind": "tool", "result": result}), 1))

    def fail(self, step: int, message: str = "it broke", type: str = "RuntimeError") -> None:
        """Step `step` failed for good."""
        error = {"type": type, "message": message}
        self._happen(Entry("step.failed", step, encode({"step": step, "kind": "tool", "error": error}), 1))

    def resolve(self, step: int, outcome: str, result: Any = None) -> None:
        """A person settled a step of unknown outcome."""
        self._happen(Entry("step.resolved", step, encode({"step": step, "outcome": outcome, "result": result}), 1))

    def fire(self, step: int) -> None:
        """The timer of step `step` is due."""
        timer = self.brain.pending[step]
        assert isinstance(timer, Timer)
        self.now_us = max(self.now_us, timer.due)
        self._happen(Entry("timer.fired", step, encode({"step": step})))

    def answer(self, step: int, value: Any) -> None:
        """A person answered."""
        self._happen(Entry("ask.answered", step, encode({"step": step, "value": value, "by": "ann"})))

    def expire(self, step: int) -> None:
        """Nobody answered or decided in time."""
        self._happen(Entry("ask.expired", step, encode({"step": step})))

    def decide(self, step: int, *, approved: bool, args: dict[str, Any] | None = None, note: str | None = None) -> None:
        """A person granted or refused an action."""
        asked = self.brain.pending[step]
        assert isinstance(asked, OpenAsk)
        data = {"step": step, "approved": approved, "args": args or asked.detail["args"], "by": "ann", "note": note}
        self._happen(Entry("approval.granted" if approved else "approval.rejected", step, encode(data)))

    def end_child(self, step: int, result: Any = None, *, error: dict[str, Any] | None = None) -> None:
        """A child run ended."""
        child = self.brain.pending[step]
        assert isinstance(child, Spawn)
        end = {"status": "succeeded", "result": result} if error is None else {"status": "failed", "error": error}
        self._happen(Entry("child.ended", step, encode({"run": child.run, "step": step, **end})))

    def message(self, topic: str, value: Any) -> None:
        """A message reached the run."""
        self._happen(Entry("message.received", None, encode({"topic": topic, "value": value, "sender": "test"})))

    def cancel(self, reason: str = "enough") -> None:
        """Somebody asked to cancel the run."""
        self._happen(Entry("run.cancelling", None, encode({"reason": reason})))

    # Whole runs.

    def play(self, seed: int | None = None, plan: Plan | None = None) -> Drive:
        """Let everything happen that can, until the run is over or waits for what cannot.

        Without a seed in order of issue, timers and messages last; with one in a random order, several in one
        commit now and then.
        """
        plan = plan or Plan()
        mail = list(plan.mail)
        dice = Random(seed)
        for _ in range(500):
            if self.over:
                return self
            if plan.cancel_after is not None and self.inputs >= plan.cancel_after and not self.brain.cancelling:
                self.cancel()
                continue
            commands = self._possible(timers_last=seed is None)
            if mail and (not commands or (seed is not None and dice.random() < 0.2)):
                self.message(*mail.pop(0))
            elif not commands:
                return self
            else:
                number = 1 if seed is None else min(len(commands), dice.choice([1, 1, 2, 3]))
                chosen = commands[:1] if seed is None else dice.sample(commands, number)
                self._happen(*[self._settlement(command, plan.world or by_itself) for command in chosen])
        raise AssertionError(f"no end in sight; waits for {self.waits}")

    # Details.

    def _possible(self, *, timers_last: bool) -> list[Command]:
        commands = [command for command in self.brain.pending.values() if not isinstance(command, Receive)]
        timers = [command for command in commands if isinstance(command, Timer)]
        others = [command for command in commands if not isinstance(command, Timer)]
        first = sorted(timers, key=lambda timer: (timer.due, timer.step))[:1]
        return (others or [*first]) if timers_last else [*others, *first]

    def _settlement(self, command: Command, world: Callable[[Command], Any]) -> Entry:
        step = command.step
        try:
            data = {"step": step, "kind": command.kind, "result": world(command)}
        except Exception as error:  # noqa: BLE001 - the world may fail in any way
            data = {"step": step, "kind": command.kind, "error": {"type": type(error).__name__, "message": str(error)}}
        failed = "error" in data
        match command:
            case Timer():
                self.now_us = max(self.now_us, command.due)
                return Entry("timer.fired", step, encode({"step": step}))
            case OpenAsk() if failed:
                return Entry("ask.expired", step, encode({"step": step}))
            case OpenAsk(kind="approval"):
                data |= {"approved": data["result"], "args": command.detail["args"], "by": "ann"}
                return Entry("approval.granted" if data["result"] else "approval.rejected", step, encode(data))
            case OpenAsk():
                return Entry("ask.answered", step, encode({**data, "value": data["result"], "by": "ann"}))
            case Spawn():
                data |= {"run": command.run, "status": "failed" if failed else "succeeded"}
                return Entry("child.ended", step, encode(data))
        return Entry("step.failed" if failed else "step.completed", step, encode(data), 1)

    def _happen(self, *entries: Entry) -> None:
        for event in [self._journal(entry) for entry in entries]:  # one commit: all are written before any is told
            self.inputs += 1
            self.brain.deliver(event)
            self._take()
        self._absorb()

    def _journal(self, entry: Entry) -> Event:
        self.now_us += 1_000
        event = Event(RUN, len(self.journal) + 1, entry.type, self.now_us, entry.step, entry.attempt, entry.raw)
        self.journal.append(event)
        return event

    def _take(self) -> None:
        commands = self.brain.take_commands()
        self.asked += [(describe(command), self.inputs) for command in commands]
        self.looks[self.inputs] = look(self.brain)
        self._new += [command for command in commands if not command.recorded]

    def _absorb(self) -> None:
        draft: list[Entry] = []
        for command in self._new:
            if isinstance(command, Withdraw):
                _withdraw(draft, command.command)
            elif not isinstance(command, Fail):
                draft.append(_opening(command))
        failures = [command.error for command in self._new if isinstance(command, Fail)]
        self._new.clear()
        changes = self.brain.take_state_changes()
        if changes:
            changed = {key: decode(text) for key, text in changes.items() if text is not None}
            removed = [key for key, text in changes.items() if text is None]
            draft.append(Entry("state.changed", None, encode({"set": changed, "unset": removed})))
        for entry in draft:
            self._journal(entry)
        self.saved = self.saves[self.inputs] = state_in(self.journal)
        for failure in failures:
            error = {"type": type(failure).__name__, "message": str(failure)}
            self._happen(Entry("run.failing", None, encode({"error": error})))


def look(brain: Brain) -> tuple[object, ...]:
    """Everything about a brain that a replay must bring back."""
    outcome = brain.outcome
    error = None if outcome is None or outcome.error is None else repr(outcome.error)
    end = outcome and (outcome.value, error, outcome.cancelled, outcome.continue_as)
    waits = [describe(command) for command in brain.pending.values()]
    return brain.steps, brain.now_us, brain.cancelling, waits, brain.unread_messages(), end


def state_in(journal: Sequence[Event]) -> dict[str, Any]:
    """The session's state according to a journal."""
    state: dict[str, Any] = {}
    for event in journal:
        if event.type == "run.started":
            state = dict(event.data.get("state", {}))
        elif event.type == "state.changed":
            state |= event.data["set"]
            for key in event.data["unset"]:
                del state[key]
    return state


def describe(command: Command) -> str:
    """A command as text: everything that makes it the same command."""
    match command:
        case Call():
            detail = command.arguments_json
        case Timer():
            detail = f"due {command.due - BEGIN_US}"
        case OpenAsk():
            detail = f"{command.title} {encode(command.detail)} {command.to} {command.deadline}"
        case Send():
            detail = f"{encode(command.to)} {command.value_json}"
        case Emit():
            detail = command.data_json
        case Spawn():
            detail = f"{command.run} {command.input_json} {command.session} {command.detach}"
        case _:
            detail = ""
    return f"#{command.step} {command.kind} {command.name} {detail}".rstrip()


def by_itself(command: Command) -> Any:
    """What a command brings when nobody says otherwise: a tool's own result, yes to every question, a child's input."""
    if isinstance(command, Spawn):
        return next(iter(decode(command.input_json).values()), None)
    if not isinstance(command, Call):
        return isinstance(command, OpenAsk) or None
    result = command.target.signature.call(command.arguments)
    if command.target.is_async:
        try:
            result.send(None)
        except StopIteration as end:
            result = end.value
        else:
            raise AssertionError(f"{command.name} waits for something: a test's tools must not")
    return decode(command.target.signature.encode_result(result))


def _opening(command: Command) -> Entry:
    step = command.step
    head = {"step": step, "kind": command.kind, "name": command.name, "at": command.at}
    match command:
        case Call():
            return Entry("step.started", step, encode({**head, "args": decode(command.arguments_json)}), 1)
        case Emit():
            return Entry(command.name, step, command.data_json)
        case Patch():
            return Entry("run.patched", None, encode({"name": command.name}))
        case Timer():
            type_, more = "timer.started", {"due": iso(command.due)}
        case OpenAsk():
            type_ = "ask.opened" if command.kind == "ask" else "approval.requested"
            more = {"id": ask_id(RUN, step), **command.detail}
        case Send():
            type_, more = "message.sent", {"value": decode(command.value_json)}
        case Spawn():
            type_, more = "child.spawned", {"run": command.run}
        case _:
            type_, more = "message.awaited", {}
    return Entry(type_, step, encode({**head, **more}))


def _withdraw(draft: list[Entry], command: Command) -> None:
    match command:
        case Call():
            draft.append(Entry("step.cancelled", command.step, encode({"step": command.step, "kind": "tool"}), 1))
        case OpenAsk():
            withdrawn = "ask.withdrawn" if command.kind == "ask" else "approval.withdrawn"
            draft.append(Entry(withdrawn, command.step, encode({"step": command.step})))
        case Timer():  # one that was never written need not be written any more
            draft[:] = [entry for entry in draft if (entry.type, entry.step) != ("timer.started", command.step)]
