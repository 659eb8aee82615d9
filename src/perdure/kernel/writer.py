"""How a run's journal grows: entries gather in a draft, a draft becomes a transaction, one at a time.

Sequence numbers and times are given when a draft is taken for writing, so a refused draft leaves no gap and
everything that came up until that moment goes along in the same commit.

A draft that the store may refuse for a reason of its own (an ask that somebody else closed, a user's SQL) is
written alone, with a `refused` callback; the store then decides about nothing else with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Protocol

from perdure.kernel.draft import Draft, Entry
from perdure.kernel.group_commit import GroupCommit, Verdict
from perdure.store.contract import Fence, NewRun, RunUpdate, Transaction
from perdure.values.clock import Clock
from perdure.values.events import Event
from perdure.values.runs import Run


class Author(Protocol):
    """Whose journal it is: hears what became of each draft."""

    def before_writing(self) -> None:
        """Last chance to add to the draft that is about to be taken."""

    def row_update(self, draft: Draft, now: int) -> RunUpdate | None:
        """The run's new row, if it changes with this draft."""

    def written(self, draft: Draft, events: list[Event], signal_ids: list[int]) -> None:
        """The draft is durable."""

    def refused(self, draft: Draft, refusal: Exception) -> None:
        """The draft changed nothing."""

    def written_late(self, draft: Draft, *, accepted: bool) -> None:
        """The draft was under way when the writer was closed; this is what became of it."""


class Writer:
    """The pen of one run."""

    def __init__(self, run: Run, fence: Fence, commits: GroupCommit, clock: Clock, author: Author) -> None:
        self.run = run
        self.fence = fence
        #: sequence number of the last event that is durable
        self.seq = 0
        #: no later event is older than this
        self.time_us = 0
        self.draft = Draft()
        self.closed = False
        self._commits = commits
        self._clock = clock
        self._author = author
        self._alone: deque[Draft] = deque()
        self._registered = False
        self._writing: Draft | None = None
        self._events: list[Event] = []
        self._more = False

    def append(self, type: str, step: int | None, attempt: int | None, raw: str) -> None:
        """Add an event to the current draft."""
        self.draft.entries.append(Entry(type, step, attempt, raw))

    def not_before(self, time_us: int) -> None:
        """What is written from now on is not older than this."""
        if time_us > self.time_us:
            self.time_us = time_us

    def withdraw(self, type: str, step: int) -> bool:
        """Take an event that is not yet being written back out; False when it is too late."""
        for index, entry in enumerate(self.draft.entries):
            if entry.step == step and entry.type == type:
                del self.draft.entries[index]
                return True
        return False

    def write_now(self) -> None:
        """Have the current draft written with the next batch."""
        if self.closed:
            return
        if self._writing is not None:
            self._more = True
        elif not self._registered:
            self._registered = True
            self._commits.submit(self._take, self._ended)

    def write_alone(self, draft: Draft) -> None:
        """Write `draft` in a transaction of its own, after what has gathered so far."""
        if not self.draft.empty:
            self._alone.append(self.draft)
            self.draft = Draft()
        self._alone.append(draft)
        self.write_now()

    def unwritten(self) -> Iterator[Entry]:
        """Entries that are not being written yet, in order."""
        for draft in [*self._alone, self.draft]:
            yield from draft.entries

    def close(self) -> list[NewRun]:
        """Write nothing more; gives the runs that will now not be created."""
        if self.closed:
            return []
        self.closed = True
        drafts = [*self._alone, self.draft]
        self._alone.clear()
        self.draft = Draft()
        return [new for draft in drafts for new in draft.create]

    @property
    def quiet(self) -> bool:
        """True when nothing is being written or waits to be."""
        return not self._registered and not self._alone and self.draft.empty

    def _take(self) -> Transaction:
        if self.closed:
            return Transaction()
        self._author.before_writing()
        if self._alone:
            draft = self._alone.popleft()
            self._more = True  # what gathered meanwhile may have been asked for as well
        else:
            draft, self.draft = self.draft, Draft()
        self._writing = draft
        now = max(self._clock.now_us(), self.time_us)
        id = self.run.id
        self._events = [
            Event(id, seq, entry.type, now, entry.step, entry.attempt, entry.raw)
            for seq, entry in enumerate(draft.entries, self.seq + 1)
        ]
        update = self._author.row_update(draft, now)
        state = None
        if draft.state and self.run.session is not None:
            state = (self.run.agent, self.run.session, draft.state)
        return Transaction(
            fence=self.fence, events=self._events, updates={id: update} if update else {}, create=draft.create,
            signals=draft.signals, consume=draft.consume, open_asks=draft.open_asks, close_asks=draft.close_asks,
            state=state, statements=draft.statements,
        )  # fmt: skip

    def _ended(self, verdict: Verdict) -> None:
        draft, self._writing = self._writing, None
        self._registered = False
        if draft is None:
            return
        if self.closed:
            self._author.written_late(draft, accepted=not isinstance(verdict, Exception))
            return
        events, self._events = self._events, []
        if isinstance(verdict, Exception):
            self._author.refused(draft, verdict)
        else:
            if events:
                self.seq = events[-1].seq
                self.not_before(events[-1].time_us)
            self._author.written(draft, events, verdict or [])
        if self._more or self._alone:
            self._more = False
            self.write_now()
