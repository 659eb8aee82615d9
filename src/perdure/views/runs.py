"""How is a run shown? As lists print it, and by itself with what it was given and what it brought."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from perdure.values.clock import iso
from perdure.values.events import Event
from perdure.values.runs import Run
from perdure.views.why import Why


def run_json(run: Run, why: Why) -> dict[str, Any]:
    """A run as lists print it."""
    return {
        "id": run.id, "agent": run.agent, "version": run.version, "session": run.session, "status": run.status,
        "reason": why.reason, "wait": why.wait, "created": iso(run.created), "updated": iso(run.updated),
        "parent": run.parent, "attempt": run.attempt, "steps": run.steps,
    }  # fmt: skip


def run_row_json(run: Run, why: Why) -> dict[str, Any]:
    """The whole row of a run, as HTTP lists it."""
    return {
        **run_json(run, why), "shard": run.shard, "seq": run.seq, "priority": run.priority,
        "concurrency_key": run.concurrency_key,
        "wake_at": None if run.wake_at is None else iso(run.wake_at), "forked_from": _forked_from(run),
    }  # fmt: skip


def ends_json(run: Run, journal: Sequence[Event]) -> dict[str, Any]:
    """What a run was given and what it brought. `journal` may leave out what lies between its beginning and its end."""
    last = journal[-1] if journal and journal[-1].terminal else None
    data = last.data if last is not None else {}
    return {
        "input": input_of(journal), "result": data.get("result"), "error": data.get("error"),
        "forked_from": _forked_from(run),
        "continued_as": data["run"] if last is not None and last.type == "run.continued" else None,
    }  # fmt: skip


def input_of(journal: Sequence[Event]) -> Any:
    """The input by parameter name: of a fork that was given another one, that one."""
    begun = [event.data for event in journal if event.type in ("run.queued", "run.forked")]
    given = [data["input"] for data in begun if "input" in data]
    return given[-1] if given else None


def _forked_from(run: Run) -> dict[str, Any] | None:
    return None if run.forked_from is None else {"run": run.forked_from[0], "seq": run.forked_from[1]}
