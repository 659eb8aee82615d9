"""Why is this run not moving? One line for people, one object for programs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from perdure.journal.commands import Call, Command, OpenAsk, Receive, Spawn, Timer
from perdure.values.clock import iso
from perdure.values.ids import ask_id
from perdure.values.runs import Run


class Wait(NamedTuple):
    """What a run waits for.

    `detail["kind"]` is ask, approval, unknown, message, child, retry, timer, pause, quarantine or worker.
    """

    reason: str
    detail: dict[str, Any]


def describe_wait(run: str, pending: Iterable[Command], retrying: Iterable[int], unknown: Iterable[int]) -> Wait | None:
    """The most telling of a run's waits: what a person can do something about comes first."""
    retries, unknowns = set(retrying), set(unknown)
    best: tuple[int, Command] | None = None
    children = 0
    for command in pending:
        children += isinstance(command, Spawn)
        rank = _rank(command, unknowns)
        if best is None or rank < best[0]:
            best = (rank, command)
    if best is None:
        return None
    return _describe(run, best[1], retries, unknowns, children)


def describe_pause(run: str) -> Wait:
    """Somebody paused it."""
    return Wait(f"paused; go on with: perdure resume {run}", {"kind": "pause"})


def describe_quarantine(run: str, data: dict[str, Any]) -> Wait:
    """It was parked; `data` is that of the event that says so."""
    why = data.get("reason", "unknown")
    message = str(data.get("error", {}).get("message", "")).partition("\n")[0]
    return Wait(f"parked ({why}: {message}); then: perdure retry {run}", {"kind": "quarantine", "why": why})


def describe_missing(run: Run, versions: Iterable[str], *, cancelling: bool) -> Wait:
    """The node that owns it does not have its version."""
    has = ", ".join(versions) or "none"
    purpose = ": it is to be cancelled, and may have to undo what it did" if cancelling else ""
    return Wait(
        f"no worker has version {run.version} of agent {run.agent} (this one has: {has}); start one that does{purpose}",
        {"kind": "worker", "agent": run.agent, "version": run.version, "cancelling": cancelling},
    )


def _rank(command: Command, unknowns: set[int]) -> int:
    match command:
        case Call() if command.step in unknowns:
            return 0
        case OpenAsk():
            return 1
        case Receive():
            return 2
        case Spawn():
            return 3
        case Call():
            return 4
        case _:
            return 5


def _describe(run: str, command: Command, retries: set[int], unknowns: set[int], children: int) -> Wait | None:
    match command:
        case Call() if command.step in unknowns:
            return Wait(
                f"nobody knows whether step {command.step} ({command.name}) happened; "
                f"decide with: perdure resolve {run} {command.step} --happened JSON | --run-again | --fail",
                {"kind": "unknown", "step": command.step, "name": command.name},
            )
        case Call() if command.step in retries:
            return Wait(
                f"step {command.step} ({command.name}) failed and will be tried again",
                {"kind": "retry", "step": command.step, "name": command.name},
            )
        case OpenAsk():
            who = command.to or "somebody"
            verb = "answer" if command.kind == "ask" else "approve"
            return Wait(
                f"waits for {who} to {verb}: {command.title}",
                {"kind": command.kind, "id": ask_id(run, command.step), "step": command.step, "to": command.to},
            )
        case Receive():
            return Wait(
                f"waits for a message on {command.name!r}",
                {"kind": "message", "topic": command.name, "step": command.step},
            )
        case Spawn():
            return Wait(f"waits for {children} child run(s)", {"kind": "child", "run": command.run, "count": children})
        case Timer():
            due = iso(command.due)
            return Wait(f"sleeps until {due}", {"kind": "timer", "due": due, "step": command.step})
    return None
