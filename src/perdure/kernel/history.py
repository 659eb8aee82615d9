"""What does a journal say about the steps that are not settled, and about the run as a whole?"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from perdure.errors import JournalDamaged
from perdure.values.clock import from_iso
from perdure.values.effects import Effect
from perdure.values.events import Event


class StepHistory:
    """An unsettled step, as far as it got."""

    __slots__ = ("attempt", "failures", "granted", "heartbeat", "last_type", "retry_at", "streamed")

    def __init__(self) -> None:
        self.last_type = ""
        #: the last attempt that began
        self.attempt = 0
        #: attempts that failed (a crash is not a failure)
        self.failures = 0
        self.retry_at = 0
        self.heartbeat: Any = None
        #: streams that show something of an attempt
        self.streamed: list[str] = []
        #: the approval it was admitted with: (ask id, hash of the action); good for all attempts of this one step
        self.granted: tuple[str, str] | None = None


class History:
    """A journal, folded."""

    def __init__(self) -> None:
        #: unsettled steps by number
        self.steps: dict[int, StepHistory] = {}
        #: unused approvals: ask id -> hash of the action
        self.grants: dict[str, str] = {}
        self.begun = False
        self.paused = False
        #: data of the event that parked the run, or None
        self.quarantine: dict[str, Any] | None = None
        #: raw data of the wish to cancel, or None
        self.cancelling: str | None = None
        #: questions and approvals nobody has settled, by step: (ask id, event type that opened it)
        self.asks: dict[int, tuple[str, str]] = {}
        #: children that have not ended, by step: (run id, whether they are detached)
        self.children: dict[int, tuple[str, bool]] = {}


def read_history(events: Iterable[Event]) -> History:
    """Fold a journal. Settled steps leave no trace, so a long run costs no more than what is open."""
    history = History()
    for event in events:
        kind = event.type
        if kind.startswith("step.") or kind == "stream.delta":
            _read_step(history, event)
        elif (read := _READERS.get(kind)) is not None:
            read(history, event)
    return history


def _read_started(history: History, _: Event) -> None:
    history.begun = True


def _read_forked(history: History, _: Event) -> None:
    # Words of control and consent were said to the original.
    history.paused, history.quarantine, history.cancelling = False, None, None
    history.grants.clear()
    for step in history.steps.values():
        step.granted = None
    history.asks.clear()
    history.children.clear()


def _read_paused(history: History, _: Event) -> None:
    history.paused = True


def _read_resumed(history: History, _: Event) -> None:
    history.paused = False


def _read_quarantined(history: History, event: Event) -> None:
    history.quarantine = event.data


def _read_released(history: History, _: Event) -> None:
    history.quarantine = None


def _read_cancelling(history: History, event: Event) -> None:
    history.cancelling = event.raw


def _read_asked(history: History, event: Event) -> None:
    history.asks[event.step or 0] = (event.data["id"], event.type)


def _read_granted(history: History, event: Event) -> None:
    history.asks.pop(event.step or 0, None)
    history.grants[event.data["id"]] = event.data["hash"]


def _read_ask_closed(history: History, event: Event) -> None:
    history.asks.pop(event.step or 0, None)


def _read_spawned(history: History, event: Event) -> None:
    history.children[event.step or 0] = (event.data["run"], event.data["detach"])


def _read_child_ended(history: History, event: Event) -> None:
    history.children.pop(event.step or 0, None)


_READERS: dict[str, Callable[[History, Event], None]] = {
    "run.started": _read_started,
    "run.forked": _read_forked,
    "run.paused": _read_paused,
    "run.resumed": _read_resumed,
    "run.quarantined": _read_quarantined,
    "run.released": _read_released,
    "run.cancelling": _read_cancelling,
    "ask.opened": _read_asked,
    "ask.answered": _read_ask_closed,
    "ask.expired": _read_ask_closed,
    "ask.withdrawn": _read_ask_closed,
    "approval.requested": _read_asked,
    "approval.granted": _read_granted,
    "approval.rejected": _read_ask_closed,
    "approval.expired": _read_ask_closed,
    "approval.withdrawn": _read_ask_closed,
    "child.spawned": _read_spawned,
    "child.ended": _read_child_ended,
}


def _read_step(history: History, event: Event) -> None:
    number = event.step or 0
    if event.type == "step.completed" or (event.type == "step.failed" and '"retry_at"' not in event.raw):
        history.steps.pop(number, None)
        return
    step = history.steps.get(number)
    if step is None:
        step = history.steps[number] = StepHistory()
    match event.type:
        case "step.started":
            step.attempt = event.attempt or 1
            if '"approval"' in event.raw and (used := event.data.get("approval")) in history.grants:
                step.granted = (used, history.grants.pop(used))
        case "step.failed":
            step.failures += 1
            step.retry_at = from_iso(event.data["retry_at"])
        case "step.heartbeat":
            step.heartbeat = event.data.get("details")
            return
        case "stream.delta":
            if event.data["name"] not in step.streamed:
                step.streamed.append(event.data["name"])
            return
    step.last_type = event.type


class Deed:
    """A step that acts on the world or on other runs, and whether it did: what a journal says."""

    __slots__ = ("_dark", "effect", "happened", "name", "opened", "settled")

    def __init__(self, opened: int, name: str, effect: str) -> None:
        #: the number of the event that opened it
        self.opened = opened
        self.name = name
        self.effect = effect
        #: its own run does no more about it
        self.settled = False
        self.happened = False
        #: attempts of which nobody heard
        self._dark: set[int | None] = set()

    @property
    def in_doubt(self) -> bool:
        """True when nobody knows whether it happened; of what commits with its step, one does."""
        return bool(self._dark) and not self.happened and self.effect != Effect.TRANSACTION

    def read(self, event: Event) -> None:
        """Take in an event of the step."""
        match event.type:
            case "step.started":
                self.settled = False
                self._dark.add(event.attempt)
            case "step.completed":
                self.settled = self.happened = True
            case "step.failed":
                self.settled = '"retry_at"' not in event.raw
                if (_said(event, "error") or {}).get("type") != "StepTimeout":  # else it was stopped half-way
                    self._dark.discard(event.attempt)
            case "step.cancelled":
                self.settled = True
                if _said(event, "outcome") == "not run":
                    self._dark.discard(event.attempt)
            case "step.resolved":
                outcome = _said(event, "outcome")
                self.settled, self.happened = outcome != "run-again", outcome == "happened"
                if outcome == "run-again":
                    self._dark.clear()
            case "message.sent":
                self.settled = self.happened = True  # in one commit
            case "child.spawned":
                self.settled = True  # a fork spawns a child of its own
            case "child.ended":
                self.happened = _said(event, "status") == "succeeded"


def read_deeds(events: Iterable[Event]) -> dict[int, Deed]:
    """The steps of a journal that act on the world or on other runs, by number."""
    deeds: dict[int, Deed] = {}
    for event in events:
        if event.step is None or not event.type.startswith(("step.", "child.", "message.")):
            continue
        if event.step not in deeds and event.type in ("step.started", "child.spawned", "message.sent"):
            effect = _said(event, "effect") or Effect.ONCE
            if effect != Effect.READ:
                deeds[event.step] = Deed(event.seq, _said(event, "name") or "?", effect)
        if event.step in deeds:
            deeds[event.step].read(event)
    return deeds


def _said(event: Event, field: str) -> Any:
    # An event that nobody can read any more must not keep anybody from forking before it.
    try:
        return event.data.get(field)
    except JournalDamaged:
        return None
