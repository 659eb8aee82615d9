"""What does an event say in words? One short line for whoever watches a run; nothing for what only programs need."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any

from perdure.cli.output import shorten, visible
from perdure.values.events import Event
from perdure.views.why import example

#: Events in which a run changes its state or needs somebody; the rest is detail.
STATE = frozenset({
    "run.started", "run.recovered", "run.paused", "run.resumed", "run.cancelling", "run.failing", "run.quarantined",
    "run.released", "run.warning", "run.succeeded", "run.failed", "run.cancelled", "run.continued", "ask.opened",
    "ask.answered", "ask.expired", "approval.requested", "approval.granted", "approval.rejected", "approval.expired",
    "step.unknown", "step.resolved", "message.awaited",
})  # fmt: skip


def line(event: Event) -> str:
    """The event in words."""
    words = _WORDS.get(event.type)
    return visible(words(event, event.data)) if words is not None else f"{event.type} {shorten(event.data)}"


def _by(data: dict[str, Any]) -> str:
    said = data.get("reason") or data.get("note")
    return (f" by {data['by']}" if data.get("by") else "") + (f": {said}" if said else "")


def _step(event: Event, data: dict[str, Any]) -> str:
    return f"step {event.step}" + (f" {data['name']}" if data.get("name") else "")


def _error(data: dict[str, Any]) -> str:
    error = data.get("error") or {}
    return f"{error.get('type', 'error')}: {shorten(error.get('message', ''), 200)}"


def _failed_step(event: Event, data: dict[str, Any]) -> str:
    again = f"; again at {data['retry_at']}" if data.get("retry_at") else ""
    return f"{_step(event, data)} failed: {_error(data)}{again}"


def _unknown(event: Event, data: dict[str, Any]) -> str:
    return (
        f"nobody knows whether {_step(event, data)} happened: "
        f"perdure resolve {event.run} {event.step} --happened JSON | --run-again | --fail"
    )


def _asked(_: Event, data: dict[str, Any]) -> str:
    answer = f"perdure answer {data['id']} {example(data.get('schema'))}"
    return f"asks {data.get('to') or 'anybody'}: {data['question']}\n  {answer}"


def _wants(_: Event, data: dict[str, Any]) -> str:
    decide = f"perdure approve {data['id']} (or: reject)"
    return f"wants {data.get('to') or 'anybody'} to approve {data['name']} {shorten(data.get('args'))}\n  {decide}"


def _sending(run: str, topic: str) -> str:
    return f"perdure send {run} {shlex.quote(topic)} JSON"


_WORDS: dict[str, Callable[[Event, dict[str, Any]], str]] = {
    "run.queued": lambda _, data: f"recorded {data['agent']} {shorten(data['input'])}",
    "run.started": lambda _, __: "started",
    "run.recovered": lambda _, data: f"taken over after a crash, attempt {data.get('attempt')}",
    "run.paused": lambda _, data: f"paused{_by(data)}",
    "run.resumed": lambda _, data: f"resumed{_by(data)}",
    "run.failing": lambda _, data: f"cannot go on: {data['error']['message']}",
    "run.cancelling": lambda _, data: f"being cancelled{_by(data)}",
    "run.quarantined": lambda _, data: f"parked: {_error(data)}",
    "run.released": lambda _, data: f"released{_by(data)}",
    "run.warning": lambda _, data: f"warning: {data['message']}",
    "run.succeeded": lambda _, data: f"succeeded {shorten(data.get('result'))}",
    "run.failed": lambda _, data: f"failed: {_error(data)}",
    "run.cancelled": lambda _, data: f"cancelled{_by(data)}",
    "run.continued": lambda _, data: f"goes on as {data['run']}",
    "step.started": lambda event, data: f"{_step(event, data)} {shorten(data.get('args'))}",
    "step.completed": lambda event, data: f"{_step(event, data)} done {shorten(data.get('result'))}",
    "step.failed": _failed_step,
    "step.cancelled": lambda event, data: f"{_step(event, data)} given up ({data.get('outcome')})",
    "step.unknown": _unknown,
    "step.resolved": lambda event, data: f"{_step(event, data)} settled as {data['outcome']}{_by(data)}",
    "child.spawned": lambda event, data: f"{_step(event, data)} spawned {data['run']}",
    "child.ended": lambda _, data: f"child {data['run']} {data['status']}",
    "timer.started": lambda _, data: f"sleeps until {data['due']}",
    "timer.fired": lambda _, __: "slept",
    "ask.opened": _asked,
    "ask.answered": lambda _, data: f"answered{_by(data)} {shorten(data.get('value'))}",
    "ask.expired": lambda _, __: "nobody answered in time",
    "approval.requested": _wants,
    "approval.granted": lambda _, data: f"approved{_by(data)}",
    "approval.rejected": lambda _, data: f"rejected{_by(data)}",
    "approval.expired": lambda _, __: "nobody decided in time",
    "message.awaited": lambda event, data: f"waits for a message: {_sending(event.run, data['name'])}",
    "message.received": lambda _, data: f"message on {data['topic']} {shorten(data.get('value'))}",
    "message.sent": lambda _, data: f"sent {data['name']} {shorten(data.get('value'))}",
    "progress": lambda _, data: f"progress {shorten(data)}",
    "artifact": lambda _, data: f"artifact {shorten(data)}",
}
