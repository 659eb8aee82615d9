"""Does this code still fit that journal? Runs the code against what was recorded: offline, without any effect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from perdure.agents.agent import AnyAgent
from perdure.agents.context import RunInfo, run_agent
from perdure.journal import isolation
from perdure.journal.brain import Brain
from perdure.journal.commands import Command, Timer, Withdraw
from perdure.values.events import Event
from perdure.values.json import decode


@dataclass(frozen=True, slots=True)
class ReplayVerdict:
    """What a replay found."""

    #: steps that the code asked for, as recorded
    steps: int
    #: what does not fit, or None
    divergence: str | None
    #: what the code would do next, where the journal does not end the run
    next: str | None = None

    @property
    def matches(self) -> bool:
        """True when the code does what the journal says."""
        return self.divergence is None


def replay_journal(agent: AnyAgent, run: RunInfo, events: Sequence[Event]) -> ReplayVerdict:
    """Drive `agent` with a run's journal and compare. No tool runs, nothing is written."""
    isolation.install()
    brain = Brain(run.id, lambda brain: run_agent(agent, brain, run))
    try:
        brain.replay(events)
        if brain.divergence is not None:
            return ReplayVerdict(brain.steps, str(brain.divergence))
        return _compare_end(brain, events[-1])
    finally:
        brain.evict()


def _compare_end(brain: Brain, last: Event) -> ReplayVerdict:
    new = _new_commands(brain)
    asks = f"{new[0].kind} {new[0].name!r} ({new[0].at or 'place unknown'})" if new else None
    if not last.terminal:
        return ReplayVerdict(brain.steps, None, next=asks or _end_of(brain))
    if last.type == "run.cancelled" and not brain.cancelling:
        return ReplayVerdict(brain.steps, None)  # cancelled while parked: its code was not asked
    if asks is not None:
        return ReplayVerdict(
            brain.steps, f"run {last.run}: the journal ends with {last.type}, but the code goes on with {asks}"
        )
    recorded, now = _recorded_end(last), _end_of(brain)
    if now != recorded:
        return ReplayVerdict(
            brain.steps, f"run {last.run}: the journal ends with: {recorded}; the code now ends with: {now or 'a wait'}"
        )
    return ReplayVerdict(brain.steps, None)


def _new_commands(brain: Brain) -> list[Command]:
    """What the code asks for that the journal lacks, but for timers that were withdrawn before they were written."""
    new = [command for command in brain.take_commands() if not command.recorded]
    withdrawn = {command.step for command in new if isinstance(command, Withdraw)}
    return [
        command
        for command in new
        if not isinstance(command, Withdraw) and not (isinstance(command, Timer) and command.step in withdrawn)
    ]


def _end_of(brain: Brain) -> str | None:
    outcome = brain.outcome
    if outcome is None:
        return None
    if outcome.value is not None:
        return f"result {decode(outcome.value)!r}"
    if outcome.continue_as is not None:
        return "continue_as"
    if outcome.cancelled:
        return "cancelled"
    # Steps' errors carry the name of what a tool raised; the journal keeps that one.
    kind = getattr(outcome.error, "type", None)
    return f"error {kind if isinstance(kind, str) else type(outcome.error).__name__}"


def _recorded_end(last: Event) -> str:
    match last.type:
        case "run.succeeded":
            return f"result {last.data['result']!r}"
        case "run.failed":
            return f"error {last.data['error']['type']}"
        case "run.continued":
            return "continue_as"
    return "cancelled"
