"""What does a journal say about the steps that are not settled, and about the run as a whole?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from perdure.values.clock import from_iso
from perdure.values.events import Event


class StepHistory:
    """An unsettled step, as far as it got."""

    __slots__ = ("attempt", "failures", "heartbeat", "last_type", "retry_at", "streamed")

    def __init__(self) -> None:
        self.last_type = ""
        #: the last attempt that began
        self.attempt = 0
        #: attempts that failed (a crash is not a failure)
        self.failures = 0
        self.retry_at = 0
        self.heartbeat: Any = None
        self.streamed = False


class History:
    """A journal, folded."""

    def __init__(self) -> None:
        #: unsettled steps by number
        self.steps: dict[int, StepHistory] = {}
        #: unused approvals: hash of the action -> ask id
        self.grants: dict[str, str] = {}
        self.begun = False
        self.paused = False
        self.quarantined = False


def read_history(events: Iterable[Event]) -> History:
    """Fold a journal. Settled steps leave no trace, so a long run costs no more than what is open."""
    history = History()
    for event in events:
        kind = event.type
        if kind.startswith("step.") or kind == "stream.delta":
            _read_step(history, event)
        elif kind == "approval.granted":
            history.grants[event.data["hash"]] = event.data["id"]
        elif kind == "run.started":
            history.begun = True
        elif kind == "run.paused":
            history.paused = True
        elif kind == "run.resumed":
            history.paused = False
        elif kind == "run.quarantined":
            history.quarantined = True
        elif kind == "run.released":
            history.quarantined = False
    return history


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
            if '"approval"' in event.raw and (used := event.data.get("approval")):
                history.grants = {key: id for key, id in history.grants.items() if id != used}
        case "step.failed":
            step.failures += 1
            step.retry_at = from_iso(event.data["retry_at"])
        case "step.heartbeat":
            step.heartbeat = event.data.get("details")
            return
        case "stream.delta":
            step.streamed = True
            return
    step.last_type = event.type
