"""How does what a server says become the values that a Runtime gives?

What only stores need (an ask's shard, a run's strikes) is not sent and stays at its default; the reason why a run is not
moving is the server's own, which knows who is alive.
"""

from __future__ import annotations

from typing import Any

from perdure.errors import PerdureError
from perdure.journal.diff import Difference
from perdure.journal.timeline import StepRecord
from perdure.store.contract import Ask, SessionRow
from perdure.values.clock import from_iso
from perdure.values.events import Event
from perdure.values.json import decode, encode
from perdure.values.runs import Run, RunStatus


def read_run(said: dict[str, Any]) -> Run:
    """A run's row."""
    forked = said["forked_from"]
    return Run(
        id=said["id"], agent=said["agent"], version=said["version"], session=said["session"], shard=said["shard"],
        status=RunStatus(said["status"]), created=from_iso(said["created"]), updated=from_iso(said["updated"]),
        reason=said["reason"], wait=said["wait"], wake_at=_moment(said["wake_at"]), parent=said["parent"],
        priority=said["priority"], concurrency_key=said["concurrency_key"], attempt=said["attempt"],
        forked_from=None if forked is None else (forked["run"], forked["seq"]), seq=said["seq"], steps=said["steps"],
    )  # fmt: skip


def read_event(said: dict[str, Any]) -> Event:
    """An event of a journal."""
    return Event(
        said["run"], said["seq"], said["type"], from_iso(said["time"]), said["step"], said["attempt"],
        encode(said["data"]),
    )  # fmt: skip


def read_ask(said: dict[str, Any]) -> Ask:
    """A question or an approval."""
    detail = {name: said[name] for name in ("schema", "action", "args") if said[name] is not None}
    return Ask(
        id=said["id"], run=said["run"], agent=said["agent"], session=said["session"], shard="", step=said["step"],
        kind=said["kind"], title=said["title"], detail=encode(detail), to=said["to"],
        created=from_iso(said["created"]), deadline=_moment(said["deadline"]), status=said["status"],
        answer=None if said["answer"] is None else encode(said["answer"]), by=said["by"], note=said["note"],
        closed=_moment(said["closed"]),
    )  # fmt: skip


def read_session(said: dict[str, Any]) -> SessionRow:
    """A session of a list."""
    return SessionRow(said["agent"], said["session"], from_iso(said["updated"]), said["active"])


def read_difference(said: dict[str, Any]) -> Difference:
    """A pair of steps of two runs."""
    left, right = (None if side is None else _read_step(side) for side in (said["left"], said["right"]))
    return Difference(left, right, tuple(said["differs"]))


def read_json(text: str | bytes) -> Any:
    """A JSON value of a server. Raises PerdureError for what is none: something else answers there."""
    try:
        return decode(text)
    except ValueError:
        raise PerdureError("what answers there does not speak as a Perdure server does; check its address") from None


def _read_step(said: dict[str, Any]) -> StepRecord:
    return StepRecord(
        said["step"], said["kind"], said["name"], said["at"], said["status"], from_iso(said["started"]),
        ended=_moment(said["ended"]), attempts=said["attempts"], args=said["args"], result=said["result"],
        error=said["error"], refers=said["refers"], due=said["due"],
    )  # fmt: skip


def _moment(text: str | None) -> int | None:
    return None if text is None else from_iso(text)
