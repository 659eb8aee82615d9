"""The events of a journal: the catalogue, and the record itself.

`CATALOGUE` is the one list of event types; docs/events.md is generated from it and the kernel refuses to
write a type that is not in it (users add their own below `custom.`).
"""

from __future__ import annotations

from typing import Any

from perdure.errors import JournalDamaged
from perdure.values.clock import iso
from perdure.values.json import decode, encode

CATALOGUE: dict[str, str] = {
    "run.queued": "The run was recorded. data: agent, version, input (by parameter name), session, parent, key.",
    "run.started": "A worker began the run. data: state (the session's state at that moment).",
    "run.recovered": "A worker took the run over after a crash. data: attempt, node.",
    "run.forked": "The journal up to here is shared with another run. data: from, at, and input when changed.",
    "run.paused": "Somebody paused the run. data: by, note.",
    "run.resumed": "Somebody resumed the run. data: by.",
    "run.failing": "The code cannot go on, such as when nothing can wake it; clean-up runs now. data: error.",
    "run.cancelling": "Cancellation was asked for; clean-up runs now. data: by, reason.",
    "run.patched": "The run took a new code path. data: name.",
    "run.quarantined": "The run was parked because going on could do harm. data: reason, error.",
    "run.released": "A person released the run from quarantine. data: by.",
    "run.warning": "Something worth a look that changes nothing. data: message.",
    "run.succeeded": "Terminal. data: result.",
    "run.failed": "Terminal. data: error (type, message, at).",
    "run.cancelled": "Terminal. data: by, reason.",
    "run.continued": "Terminal: the work goes on in another run. data: run.",
    "step.started": "A step began an attempt. data: step, kind, name, args, effect, at.",
    "step.completed": "A step ended well. data: step, kind, name, result.",
    "step.failed": "An attempt failed. data: step, kind, name, error, and retry_at when it will be tried again.",
    "step.cancelled": "The agent stopped waiting for a step. data: step, kind, name, outcome.",
    "step.heartbeat": "A long step is alive. data: step, details.",
    "step.unknown": "Cut off while an unrepeatable effect was in flight. data: step, kind, name, why, args, schema.",
    "step.resolved": "An unknown effect was settled. data: step, outcome (happened | run-again | fail), result, by.",
    "child.spawned": "A child run was recorded in the same commit. data: step, kind, name, run, detach, input.",
    "child.ended": "A child run ended. data: step, run, status, result or error.",
    "timer.started": "A durable timer began. data: step, kind, name, due.",
    "timer.fired": "A durable timer was due. data: step.",
    "ask.opened": "A question waits for a person. data: id, step, kind, name, question, schema, to, deadline.",
    "ask.answered": "A person answered. data: id, step, value, by.",
    "ask.expired": "Nobody answered in time. data: id, step.",
    "ask.withdrawn": "The agent stopped waiting for an answer. data: id, step.",
    "approval.requested": "An action waits for consent. data: id, step, kind, name, args, hash, to, deadline.",
    "approval.granted": "A person consented. data: id, step, args, hash, by, note.",
    "approval.rejected": "A person refused. data: id, step, by, note.",
    "approval.expired": "Nobody decided in time. data: id, step.",
    "approval.withdrawn": "The agent stopped waiting for consent. data: id, step.",
    "message.awaited": "The run waits for a message. data: step, kind, name (the topic).",
    "message.received": "A message reached the run. data: topic, value, sender, id.",
    "message.sent": "The run sent a message, in this commit. data: step, kind, name (the topic), to, value.",
    "state.changed": "The session's state changed, in this commit. data: set, unset.",
    "progress": "How far the work is. data: whatever the agent reports.",
    "artifact": "Something the work produced. data: whatever the agent reports.",
    "stream.delta": "A piece of a stream (pieces of <= 50 ms or 4 KB are one event). data: step, name, text or items.",
    "stream.reset": "An attempt was retried: drop what the stream showed so far. data: step, name.",
    "stream.completed": "The stream of a step is whole. data: step, name.",
}

TERMINAL = frozenset({"run.succeeded", "run.failed", "run.cancelled", "run.continued"})

#: The types by which a step enters the journal; so does what an agent emits, under its own type.
OPENING = frozenset(
    {"step.started", "child.spawned", "timer.started", "ask.opened", "approval.requested", "message.awaited",
     "message.sent"}
)  # fmt: skip


class Event:
    """One ordered record of a run's journal. Treat it as frozen; `raw` is its data as JSON text.

    A plain class with slots, not a dataclass: two of these are made per step, and a frozen dataclass
    costs three times as much to make.
    """

    __slots__ = ("_data", "attempt", "raw", "run", "seq", "step", "time_us", "type")

    def __init__(
        self, run: str, seq: int, type: str, time_us: int, step: int | None, attempt: int | None, raw: str
    ) -> None:
        self.run = run
        #: dense from 1 within the run
        self.seq = seq
        self.type = type
        self.time_us = time_us
        #: the step it belongs to, or None
        self.step = step
        #: the attempt of that step (from 1), or None
        self.attempt = attempt
        self.raw = raw
        self._data: dict[str, Any] | None = None

    @property
    def data(self) -> dict[str, Any]:
        """The event's data; decoded on first use. Raises JournalDamaged when it is no JSON."""
        if self._data is None:
            try:
                self._data = decode(self.raw)
            except ValueError as error:
                raise JournalDamaged(
                    f"event {self.seq} ({self.type}) of {self.run} is unreadable: {error}. Something other than Perdure "
                    f"changed the store; put it back from a backup, or go on without: perdure fork {self.run} --at STEP"
                ) from error
        return self._data

    @property
    def terminal(self) -> bool:
        """True for the last event of a run."""
        return self.type in TERMINAL

    @property
    def time(self) -> str:
        """When it was recorded, RFC 3339 in UTC."""
        return iso(self.time_us)

    def as_json(self) -> dict[str, Any]:
        """The public form: {run, seq, type, time, step, attempt, data}."""
        return {
            "run": self.run,
            "seq": self.seq,
            "type": self.type,
            "time": self.time,
            "step": self.step,
            "attempt": self.attempt,
            "data": self.data,
        }

    def __repr__(self) -> str:
        return f"<Event {self.run} {self.seq} {self.type} {self.raw[:80]}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Event) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> tuple[object, ...]:
        return (self.run, self.seq, self.type, self.time_us, self.step, self.attempt, self.raw)


def known_type(type: str) -> bool:
    """True for a type of the catalogue or a user's own (`custom.*`)."""
    return type in CATALOGUE or type.startswith("custom.")


def emittable(type: str) -> bool:
    """True for what agents and tools emit: `progress`, `artifact`, `custom.*`. Without an attempt it is a step."""
    return type in ("progress", "artifact") or type.startswith("custom.")


def catalogue_markdown() -> str:
    """docs/events.md, generated: a test compares the file with this."""
    lines = ["# Events", "", "Generated from `perdure.values.events.CATALOGUE`; do not edit.", ""]
    lines += ["An event is `{run, seq, type, time, step, attempt, data}`; `seq` is dense from 1 within a run.", ""]
    lines += ["| type | meaning |", "|---|---|"]
    lines += [f"| `{name}` | {meaning} |" for name, meaning in CATALOGUE.items()]
    lines += ["| `custom.*` | Whatever an agent emits under its own name. |", ""]
    return "\n".join(lines)


def event_data(**fields: Any) -> str:
    """The raw data of an event, leaving out what is None."""
    return encode({name: value for name, value in fields.items() if value is not None})
