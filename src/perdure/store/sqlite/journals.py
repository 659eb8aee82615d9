"""Where does each journal end, and what comes next? Writes events in bulk; reads them across forks.

The end of a journal is remembered per run, together with the fence under which it was read: while that epoch
lasts nobody else can move it, so that an append reads nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import apsw

from perdure.errors import AlreadySettled, NotFound
from perdure.store.contract import Fence
from perdure.store.queries import load_queries
from perdure.values.events import Event
from perdure.values.runs import RunStatus

_COMMIT = load_queries("sqlite", "commit")
_READ = load_queries("sqlite", "read")
_TAIL, _APPEND = _COMMIT["tail"], _COMMIT["append"]

#: Runs whose journal's end is remembered: about 1 MB.
_TAILS_MAX = 4096

#: More than any sequence number.
_NO_LAST = 2**62

#: An event as `append` takes it.
EventRow = tuple[int, int, int | str, int, int | None, int | None, str]


class Tail:
    """The end of one run's journal."""

    __slots__ = ("ended", "fence", "key", "seq", "steps")

    def __init__(self, key: int, fence: Fence, ended: bool, seq: int, steps: int) -> None:
        self.key = key
        self.fence = fence
        self.ended = ended
        self.seq = seq
        self.steps = steps


class Journals:
    """Reads journals, and appends to many at once inside the transaction that is open on its connection."""

    def __init__(self, db: apsw.Connection) -> None:
        self._cursor = db.cursor()
        types: list[Any] = db.execute(_READ["event_types"]).fetchall()
        self._names: dict[int | str, str] = dict(types)
        self._codes: dict[str, int | str] = {name: code for code, name in self._names.items()}
        self._tails: dict[str, Tail] = {}
        self._unwritten: list[EventRow] = []

    def follow(self, events: Iterable[Event], fence: Fence) -> list[EventRow]:
        """Rows for `events`, each of which must be the next of its run; the tails move on.

        Raises NotFound, AlreadySettled (the run has ended) or ValueError (not the next, or another shard's run).
        After a refusal `forget` the runs.
        """
        rows = []
        for event in events:
            tail = self.tail(event.run, fence)
            if event.seq != tail.seq + 1 or tail.ended:
                raise _not_next(event, tail)
            tail.seq = event.seq
            step = event.step
            if step is not None and step > tail.steps:
                tail.steps = step
            rows.append(self.row(event, tail.key))
        return rows

    def tail(self, run: str, fence: Fence) -> Tail:
        """The end of a run's journal, remembered or read."""
        tail = self._tails.get(run)
        if tail is not None and tail.fence == fence:
            return tail
        self.flush()
        found = self._cursor.execute(_TAIL, (run,)).get
        if found is None:
            raise NotFound(f"run {run}: there is no such run in this store")
        key, shard, status, seq, steps = found
        if shard != fence.shard:
            raise ValueError(f"run {run} is of shard {shard}: the fence of shard {fence.shard} does not cover it")
        tail = self._tails[run] = Tail(key, fence, RunStatus(status).terminal, seq, steps)
        return tail

    def append(self, rows: Iterable[EventRow]) -> None:
        """Take the rows of an accepted transaction; `flush` writes them."""
        self._unwritten += rows

    def flush(self) -> None:
        """Write what was appended."""
        if self._unwritten:
            self._cursor.executemany(_APPEND, self._unwritten)
            self._unwritten.clear()

    def drop(self) -> None:
        """Do not write what was appended since the last `flush`."""
        self._unwritten.clear()

    def row(self, event: Event, key: int) -> EventRow:
        """An event of the run with this key, as `append` takes it."""
        code = self._codes.get(event.type, event.type)
        return (key, event.seq, code, event.time_us, event.step, event.attempt, event.raw)

    def forget(self, runs: Iterable[str]) -> None:
        """Read the ends of these journals anew when they are needed."""
        for run in runs:
            self._tails.pop(run, None)

    def reset(self) -> None:
        """Forget everything, also what was not written: the transaction was undone."""
        self._tails.clear()
        self._unwritten.clear()

    def read(self, db: apsw.Connection, run: str, after: int, limit: int | None) -> list[Event]:
        """A run's journal after `after` through any connection, the prefix it shares included, in its own name."""
        names = self._names
        events: list[Any] = []
        for key, last in _stretches(db, run):
            if last > after and (limit is None or len(events) < limit):
                room = -1 if limit is None else limit - len(events)
                rows = db.execute(_READ["events"], (key, after, last, room))
                events += [Event(run, seq, names.get(code, code), *rest) for seq, code, *rest in rows]
        return events

    def trim(self) -> None:
        """Keep memory bounded; between transactions only."""
        if len(self._tails) > _TAILS_MAX:
            self._tails.clear()


def shared_steps(db: apsw.Connection, run: str, seq: int) -> int:
    """The highest step number among a run's first `seq` events. Raises NotFound when it does not have as many."""
    end = highest = 0
    for key, last in _stretches(db, run):
        found: Any = db.execute(_READ["end"], (key, min(last, seq))).get
        end, highest = max(end, found[0]), max(highest, found[1])
    if end < seq:
        raise NotFound(f"run {run}: there is no event {seq} to fork at")
    return highest


def _stretches(db: apsw.Connection, run: str) -> list[tuple[int, int]]:
    """Whose events make up a run's journal, and up to where: (key, last seq), oldest first."""
    stretches = []
    origin: str | None = run
    last = _NO_LAST
    while origin is not None:
        found = db.execute(_READ["journal"], (origin,)).get
        if found is None:
            break
        key, origin, shared = found
        stretches.append((key, last))
        last = min(last, shared or 0)
    return stretches[::-1]


def _not_next(event: Event, tail: Tail) -> Exception:
    if tail.ended:
        return AlreadySettled(f"run {event.run} has ended: nothing can follow its event {tail.seq}")
    return ValueError(f"run {event.run}: event {event.seq} ({event.type}) does not follow event {tail.seq}")
