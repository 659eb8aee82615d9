"""What does a store hold? The same things as on disk, as plain dicts; nothing is checked here."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import NamedTuple

from perdure.store.contract import Ask, Document, Node, Signal
from perdure.store.exchange import Note, Parcel
from perdure.values.events import Event
from perdure.values.runs import Run, RunStatus

#: The statuses of a run that has begun and not ended.
BEGUN = frozenset({RunStatus.RUNNING, RunStatus.WAITING, RunStatus.PAUSED, RunStatus.QUARANTINED})


@dataclass(slots=True)
class Journal:
    """A run and its own events; `shared` is how many it has before them, in the run it was forked from."""

    row: Run
    #: order among all runs
    arrival: int
    shared: int
    #: highest step number recorded
    steps: int
    events: list[Event] = field(default_factory=list)

    @property
    def seq(self) -> int:
        """Number of the last event."""
        return self.shared + len(self.events)

    @property
    def run(self) -> Run:
        """The run as it is listed: its row, brought up to date by its events."""
        updated = max(self.row.updated, self.events[-1].time_us) if self.events else self.row.updated
        return replace(self.row, updated=updated, seq=self.seq, steps=self.steps)

    @property
    def session(self) -> tuple[str, str] | None:
        """The session it belongs to."""
        return None if self.row.session is None else (self.row.agent, self.row.session)


@dataclass(slots=True)
class Ownership:
    """A shard's row."""

    epoch: int = 0
    owner: str | None = None
    expires: int | None = None


class Share(NamedTuple):
    """What a node may hold of a limit, and what it would like to."""

    held: int
    wanted: int


class Bucket(NamedTuple):
    """`level` tokens were in it at `time`."""

    level: Fraction
    time: int


class Data:
    """Everything, with the indexes that make questions cheap."""

    def __init__(self) -> None:
        self.journals: dict[str, Journal] = {}
        self._arrivals = 0
        #: runs by status, in order of arrival within what never left it
        self.by_status: dict[RunStatus, dict[str, Journal]] = {status: {} for status in RunStatus}
        #: (agent, session) -> its run that has begun and not ended
        self.begun: dict[tuple[str, str], Journal] = {}
        #: (agent, idempotency key) -> the run it started
        self.by_key: dict[tuple[str, str], Journal] = {}
        self.signals: dict[int, Signal] = {}
        self.last_signal = 0
        self.asks: dict[str, Ask] = {}
        self.state: dict[tuple[str, str], dict[str, str]] = {}
        self.shards: dict[str, Ownership] = {}
        self.nodes: dict[str, Node] = {}
        #: name of a limit -> node -> its share
        self.shares: dict[str, dict[str, Share]] = {}
        #: (name, microseconds in which it fills up) -> what is in it
        self.buckets: dict[tuple[str, int], Bucket] = {}
        #: (kind, id) -> document, expired ones too
        self.documents: dict[tuple[str, str], Document] = {}
        #: (kind, name) -> note
        self.notes: dict[tuple[str, str], Note] = {}
        #: (shard, number) -> parcel, in order of their commits
        self.parcels: dict[tuple[str, int], Parcel] = {}
        self.last_parcel = 0
        #: (shard, database that posts for it) -> number of the last parcel that came
        self.delivered: dict[tuple[str, str], int] = {}
        #: shard -> number of the last move that froze it
        self.moves: dict[str, int] = {}

    def add(self, journal: Journal) -> None:
        """Take a new run."""
        row = journal.row
        self.journals[row.id] = journal
        self._index(journal)
        if row.idempotency_key is not None:
            self.by_key[row.agent, row.idempotency_key] = journal

    def remove(self, journal: Journal) -> None:
        """As if the run had never been: `add` undone."""
        row = journal.row
        del self.journals[row.id]
        self._unindex(journal)
        if row.idempotency_key is not None:
            del self.by_key[row.agent, row.idempotency_key]

    def replace_row(self, journal: Journal, row: Run) -> None:
        """Give a run new row values."""
        self._unindex(journal)
        journal.row = row
        self._index(journal)

    def next_arrival(self) -> int:
        """The place of a new run in the order of all."""
        self._arrivals += 1
        return self._arrivals

    def events_of(self, journal: Journal) -> list[Event]:
        """A run's whole journal, in its own name."""
        run = journal.row.id
        shared = [
            Event(run, event.seq, event.type, event.time_us, event.step, event.attempt, event.raw)
            for event in self._prefix(journal)
        ]
        return shared + journal.events

    def _prefix(self, journal: Journal) -> list[Event]:
        if journal.row.forked_from is None:
            return []
        origin = self.journals[journal.row.forked_from[0]]
        return (self._prefix(origin) + origin.events)[: journal.shared]

    def _index(self, journal: Journal) -> None:
        self.by_status[journal.row.status][journal.row.id] = journal
        if journal.session is not None and journal.row.status in BEGUN:
            self.begun[journal.session] = journal

    def _unindex(self, journal: Journal) -> None:
        del self.by_status[journal.row.status][journal.row.id]
        if journal.session is not None and self.begun.get(journal.session) is journal:
            del self.begun[journal.session]
