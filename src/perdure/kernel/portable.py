"""A run as a file: JSON Lines, `{"perdure": 1, "run": {...}}` first, then one event a line.

Exporting loses nothing that a replay, a fork or a person needs. Importing trusts nothing: every line is checked,
what the run's row says follows from its events, and a run that has not ended is imported paused, so that it does not
begin to act by itself. Its session, parent, children and open questions stay where they were: here it is a copy to
look at, to replay and to fork.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from perdure.errors import InvalidInput
from perdure.journal.timeline import read_timeline
from perdure.kernel.history import read_history
from perdure.store.contract import NewRun, Transaction
from perdure.values.clock import from_iso
from perdure.values.events import Event, known_type
from perdure.values.ids import new_run_id
from perdure.values.json import encode
from perdure.values.runs import Run, RunStatus

if TYPE_CHECKING:
    from perdure.kernel.kernel import Kernel

#: The version of the format; a reader refuses others.
FORMAT = 1
#: Characters of one line, and lines of one file, beyond which an import is refused.
LINE_LENGTH_MAX = 64 * 1024 * 1024
LINES_MAX = 5_000_000
#: Steps and attempts of one run, and the last moment (2255), beyond which nothing that counts on them is exact.
_NUMBER_MAX = 1_000_000_000
_TIME_MAX_US = 2**53

_ENDS = {
    "run.succeeded": RunStatus.SUCCEEDED,
    "run.continued": RunStatus.SUCCEEDED,
    "run.failed": RunStatus.FAILED,
    "run.cancelled": RunStatus.CANCELLED,
}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _RunLine(_Strict):
    id: str = Field(pattern=r"^[A-Za-z0-9_.~-]+$", max_length=512)
    agent: str = Field(pattern=r"^[\w.-]+$", max_length=512)
    version: str = Field(max_length=512)
    session: str | None = None
    parent: str | None = None
    status: str
    attempt: int = Field(ge=1, le=_NUMBER_MAX)


L = TypeVar("L", bound=_Strict)


class _Header(_Strict):
    perdure: int
    run: _RunLine


class _EventLine(_Strict):
    run: str
    seq: int = Field(ge=1)
    type: str
    time: str
    step: int | None = Field(default=None, ge=1, le=_NUMBER_MAX)
    attempt: int | None = Field(default=None, ge=1, le=_NUMBER_MAX)
    data: dict[str, Any]


def export_lines(run: Run, events: Iterable[Event]) -> Iterator[str]:
    """The lines of the file, without line ends."""
    about = {
        "id": run.id, "agent": run.agent, "version": run.version, "session": run.session, "parent": run.parent,
        "status": run.status.value, "attempt": run.attempt,
    }  # fmt: skip
    yield encode({"perdure": FORMAT, "run": about})
    for event in events:
        yield encode(event.as_json())


def read_export(lines: Iterable[str]) -> tuple[Run, list[Event]]:
    """The run and its journal, as they were exported. Raises InvalidInput, with the line, for anything unsound."""
    header: _Header | None = None
    events: list[Event] = []
    for number, text in enumerate(lines, 1):
        if number > LINES_MAX or len(text) > LINE_LENGTH_MAX:
            raise InvalidInput(f"line {number}: more or longer lines than a run can have")
        if header is None:
            header = _parse(_Header, number, text)
            if header.perdure != FORMAT:
                raise InvalidInput(f"the file has format {header.perdure}, this Perdure reads {FORMAT}: upgrade it")
        elif text.strip():
            events.append(_event(header.run, number, _parse(_EventLine, number, text), events))
    if header is None or not events:
        raise InvalidInput('the file holds no run: the first line must be {"perdure": 1, ...}, then its events')
    _check_readable(events)
    return _run_of(header.run, events), events


async def import_run(kernel: Kernel, run: Run, events: Sequence[Event]) -> Run:
    """Create `run` with this journal: under its own id where that is free, else under a new one, as a copy.

    Nothing of it moves by itself. Durable when this returns.
    """
    now = kernel.clock.now_us()
    journal = list(events)
    name = run.id
    root = re.split("[.~]", name, maxsplit=1)[0]  # a run that lives here may still give that name to a child
    if await kernel.store.run(name) is not None or await kernel.store.run(root) is not None:
        name = new_run_id(now)
        journal = _as_copy(run.id, name, journal)
    status = _status_of(journal)
    if status is RunStatus.PAUSED and not read_history(journal).paused:
        raw = encode({"by": "import", "note": "a copy; it goes on only when somebody resumes it"})
        journal.append(Event(name, len(journal) + 1, "run.paused", max(now, journal[-1].time_us), None, None, raw))
    # A live session must not wait for a copy, nor a parent hear of its end.
    session = run.session if status.terminal else None
    new = replace(
        run, id=name, status=status, created=min(run.created, now), updated=min(run.updated, now), session=session,
        parent=None, shard=kernel.shard_of(run.agent, session, name),
        reason=_REASONS.get(status, "").format(run=name) or None,
        wait={"kind": "pause" if status is RunStatus.PAUSED else "quarantine"} if status in _REASONS else None,
    )  # fmt: skip
    await kernel.commits.commit(Transaction(create=[NewRun(new, journal)]))
    return new


_REASONS = {
    RunStatus.PAUSED: "imported; a copy to look at and to fork. To let it act here: perdure resume {run}",
    RunStatus.QUARANTINED: "imported while parked; see: perdure show {run}",
}


def _parse(kind: type[L], number: int, text: str) -> L:
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidInput(f"line {number}: {where or 'not a JSON object'}: {first['msg']}") from None


def _event(run: _RunLine, number: int, line: _EventLine, before: list[Event]) -> Event:
    wrong = None
    if line.run != run.id:
        wrong = f"an event of {line.run} in the journal of {run.id}"
    elif line.seq != len(before) + 1:
        wrong = f"seq {line.seq} where {len(before) + 1} must stand: events are missing or repeated"
    elif not known_type(line.type):
        wrong = f"there is no event type {line.type!r}; was it written by a newer Perdure?"
    elif (line.seq == 1) != (line.type == "run.queued"):
        wrong = f"{line.type} as event {line.seq}: a journal begins with run.queued, and only there"
    elif before and before[-1].terminal:
        wrong = f"{line.type} after the run's end"
    if wrong is not None:
        raise InvalidInput(f"line {number}: {wrong}")
    _check_fields(number, line)
    return Event(run.id, line.seq, line.type, _time_us(number, line.time), line.step, line.attempt, encode(line.data))


def _time_us(number: int, text: str) -> int:
    try:
        time_us = from_iso(text)
    except (ValueError, OverflowError):
        time_us = -1
    if not 0 <= time_us <= _TIME_MAX_US:
        raise InvalidInput(f"line {number}: {text!r} is not a time between 1970 and 2255")
    return time_us


#: Fields that readers take for granted, and what readers take every field of that name to be.
_PROMISED = {
    "run.forked": ("from", "seed"), "run.patched": ("name",), "run.warning": ("message",),
    "run.succeeded": ("result",), "run.failed": ("error",), "run.continued": ("run",), "step.resolved": ("outcome",),
    "child.ended": ("run", "status"), "timer.started": ("due",), "ask.opened": ("question",),
    "message.awaited": ("name",), "message.received": ("topic",), "message.sent": ("name",),
}  # fmt: skip
_TEXTS = frozenset({
    "kind", "name", "id", "run", "status", "from", "seed", "due", "retry_at", "at", "outcome", "question", "topic",
    "hash",
})  # fmt: skip
_OBJECTS = frozenset({"error", "state", "set", "schema", "input"})
#: Their data is whatever an agent reports.
_FREE = ("progress", "artifact", "custom.", "stream.", "step.heartbeat")


def _check_fields(number: int, line: _EventLine) -> None:
    if line.type.startswith(_FREE):
        return
    missing = [name for name in _PROMISED.get(line.type, ()) if name not in line.data]
    wrong = [
        name
        for name, value in line.data.items()
        if value is not None and name in _TEXTS | _OBJECTS and (line.type, name) != ("run.forked", "at")
        and not isinstance(value, str if name in _TEXTS else dict)
    ]  # fmt: skip
    error = line.data.get("error")
    if line.type == "run.failed" and isinstance(error, dict) and not {"type", "message"} <= error.keys():
        missing.append("error.type and error.message")
    if missing or wrong:
        said = "is missing" if missing else "is of another type than events of this type have"
        raise InvalidInput(f"line {number}: {line.type}: {', '.join(missing or wrong)} {said}")


def _check_readable(events: list[Event]) -> None:
    # Whoever reads journals relies on the fields that the catalogue promises: better refused here than broken there.
    try:
        read_timeline(events)
        read_history(events)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InvalidInput(f"the data of an event is not what its type promises: {error!r}") from None


def _run_of(line: _RunLine, events: list[Event]) -> Run:
    first = events[0].data
    if first.get("agent") != line.agent or "input" not in first:
        raise InvalidInput(f"line 2: run.queued must name agent {line.agent!r} and its input")
    return Run(
        id=line.id, agent=line.agent, version=line.version, session=line.session, shard="", status=_status_of(events),
        created=events[0].time_us, updated=events[-1].time_us, parent=line.parent, attempt=line.attempt,
        seq=len(events), steps=max((event.step or 0 for event in events), default=0),
    )  # fmt: skip


def _status_of(events: Sequence[Event]) -> RunStatus:
    """What the row must say, whatever the file claims."""
    if events[-1].terminal:
        return _ENDS[events[-1].type]
    return RunStatus.QUARANTINED if read_history(events).quarantine else RunStatus.PAUSED


def _as_copy(original: str, id: str, events: Sequence[Event]) -> list[Event]:
    # run.forked right after run.queued keeps the dice of the original: a replay must see them fall the same.
    seed = next((event.data["seed"] for event in events if event.type == "run.forked"), original)
    raw = encode({"from": original, "at": 0, "seed": seed})
    copies = [events[0], Event(id, 0, "run.forked", events[0].time_us, None, None, raw), *events[1:]]
    return [
        Event(id, seq, event.type, event.time_us, event.step, event.attempt, event.raw)
        for seq, event in enumerate(copies, 1)
    ]
