"""What did a run do, step by step? A journal folded into one record for each step: for people, and for comparing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from perdure.values.clock import iso
from perdure.values.events import OPENING, Event, emittable


@dataclass(slots=True)
class StepRecord:
    """One step as far as the journal knows it. Times are microseconds since the epoch."""

    step: int
    #: tool | sleep | ask | approval | receive | send | child | emit
    kind: str
    name: str
    #: file:line in the agent's code
    at: str | None
    #: open | retrying | unknown | done | failed | expired | rejected | withdrawn
    status: str
    started: int
    ended: int | None = None
    attempts: int = 1
    args: Any = None
    result: Any = None
    error: dict[str, Any] | None = None
    #: the child run's id, or the ask's
    refers: str | None = None
    #: retry, deadline or timer: when something happens by itself, RFC 3339
    due: str | None = None
    #: a child that lives on when the run ends
    detached: bool = False

    @property
    def seconds(self) -> float | None:
        """How long it took from its first start to its end, or None while it is open."""
        return None if self.ended is None else max(0.0, (self.ended - self.started) / 1e6)

    def as_json(self) -> dict[str, Any]:
        """The public form; docs/contract.md describes it."""
        return {
            "step": self.step, "kind": self.kind, "name": self.name, "at": self.at, "status": self.status,
            "attempts": self.attempts, "args": self.args, "result": self.result, "error": self.error,
            "refers": self.refers, "due": self.due, "started": iso(self.started),
            "ended": None if self.ended is None else iso(self.ended), "seconds": self.seconds,
        }  # fmt: skip


def read_timeline(events: Iterable[Event]) -> list[StepRecord]:
    """The steps of a journal by number."""
    steps: dict[int, StepRecord] = {}
    for event in events:
        if event.step is None:
            if event.type == "message.received":
                _give_message(steps, event)
            elif event.terminal:
                _end_run(steps, event)
        elif event.attempt is None and emittable(event.type):
            steps[event.step] = _instant(event, "emit", event.type, event.data)
        elif event.type in _READERS:
            _READERS[event.type](steps, event)
    return [steps[number] for number in sorted(steps)]


def _instant(event: Event, kind: str, name: str, args: Any) -> StepRecord:
    at = event.data.get("at") if kind == "send" else None
    return StepRecord(event.step or 0, kind, name, at, "done", event.time_us, ended=event.time_us, args=args)


def _open(steps: dict[int, StepRecord], event: Event) -> None:
    number, data = event.step or 0, event.data
    known = steps.get(number)
    if known is not None and event.type == "step.started":
        known.attempts, known.status, known.due = event.attempt or known.attempts, "open", None
        return
    steps[number] = StepRecord(
        number, data["kind"], data["name"], data.get("at"), "open", event.time_us, attempts=event.attempt or 1,
        args=_asked(event), refers=data.get("run") or data.get("id"), due=data.get("due") or data.get("deadline"),
        detached=data.get("detach", False),
    )  # fmt: skip


def _asked(event: Event) -> Any:
    if event.type == "ask.opened":
        return {name: event.data[name] for name in ("question", "to") if event.data.get(name) is not None}
    return event.data.get("args", event.data.get("input"))


def _send(steps: dict[int, StepRecord], event: Event) -> None:
    data = event.data
    steps[event.step or 0] = _instant(event, "send", data["name"], {"to": data["to"], "value": data.get("value")})


def _end(status: str, result_field: str | None = None) -> Callable[[dict[int, StepRecord], Event], None]:
    def end(steps: dict[int, StepRecord], event: Event) -> None:
        record = steps.get(event.step or 0)
        if record is not None:
            _close(record, status, event)
            record.result = event.data.get(result_field) if result_field else None

    return end


def _close(record: StepRecord, status: str, event: Event) -> None:
    record.status, record.ended, record.due = status, event.time_us, None


def _fail(steps: dict[int, StepRecord], event: Event) -> None:
    record = steps.get(event.step or 0)
    if record is None:
        return
    record.error, record.due = event.data.get("error"), event.data.get("retry_at")
    record.status, record.ended = ("retrying", None) if record.due is not None else ("failed", event.time_us)


def _unknown(steps: dict[int, StepRecord], event: Event) -> None:
    record = steps.get(event.step or 0)
    if record is not None:
        record.status = "unknown"


def _resolve(steps: dict[int, StepRecord], event: Event) -> None:
    outcome = event.data["outcome"]
    if outcome == "happened":
        _end("done", "result")(steps, event)
    elif outcome == "fail":
        _end("failed")(steps, event)
    else:
        record = steps.get(event.step or 0)
        if record is not None:
            record.status = "open"


def _child_ended(steps: dict[int, StepRecord], event: Event) -> None:
    _end("done" if event.data["status"] == "succeeded" else "failed", "result")(steps, event)
    record = steps.get(event.step or 0)
    if record is not None:
        record.error = event.data.get("error")


def _fire(steps: dict[int, StepRecord], event: Event) -> None:
    _end("done")(steps, event)
    receive = steps.get((event.step or 0) - 1)
    if receive is not None and receive.status == "open" and _timeout_of(receive, steps) is not None:
        _close(receive, "expired", event)


def _give_message(steps: dict[int, StepRecord], event: Event) -> None:
    for record in steps.values():
        if record.kind == "receive" and record.status == "open" and record.name == event.data["topic"]:
            _close(record, "done", event)
            record.result = event.data["value"]
            timeout = _timeout_of(record, steps)
            if timeout is not None and timeout.status == "open":
                _close(timeout, "withdrawn", event)
            return


def _timeout_of(receive: StepRecord, steps: dict[int, StepRecord]) -> StepRecord | None:
    # No event says that a receive was given up, but `receive(timeout=)` starts its timer at once: as the next step, in
    # the same commit, from the same line. A receive that was cancelled otherwise counts as open until the run ends.
    timer = steps.get(receive.step + 1)
    if receive.kind != "receive" or receive.at is None or timer is None or timer.kind != "sleep":
        return None
    return timer if (timer.at, timer.started) == (receive.at, receive.started) else None


def _end_run(steps: dict[int, StepRecord], event: Event) -> None:
    for record in steps.values():
        if record.status in ("open", "retrying") and not record.detached:  # what became of an unknown one stays unknown
            _close(record, "withdrawn", event)


_READERS: dict[str, Callable[[dict[int, StepRecord], Event], None]] = {
    **dict.fromkeys(OPENING, _open),
    "message.sent": _send,
    "step.completed": _end("done", "result"),
    "step.failed": _fail,
    "step.cancelled": _end("withdrawn"),
    "step.unknown": _unknown,
    "step.resolved": _resolve,
    "child.ended": _child_ended,
    "timer.fired": _fire,
    "ask.answered": _end("done", "value"),
    "ask.expired": _end("expired"),
    "ask.withdrawn": _end("withdrawn"),
    "approval.granted": _end("done", "args"),
    "approval.rejected": _end("rejected"),
    "approval.expired": _end("expired"),
    "approval.withdrawn": _end("withdrawn"),
}
