"""What did the store accept, in which order, from whom? Its own record, kept while it happens.

A checker that asks the store afterwards sees only what the store kept. This log saw every accepted event and every
claim as it went by, so what was lost, changed, or accepted from somebody who had no right to write is found.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from math import inf

from perdure.store.contract import Lease, Store, Transaction
from perdure.testing.host import current_node
from perdure.values.events import Event
from perdure.values.json import encode


class CommitLog:
    """All accepted writes of a test, over all nodes."""

    def __init__(self, now: Callable[[], float] = lambda: 0.0, latest_us: Callable[[], float] = lambda: inf) -> None:
        #: run -> when its end was committed, in the time of the test; in order of commit
        self.ended: dict[str, float] = {}
        #: runs that were sent word to stop
        self.told_to_stop: set[str] = set()
        self._now = now
        #: what the most advanced clock of all has ever shown
        self._latest_us = latest_us
        #: every accepted event, in order of commit
        self.events: list[Event] = []
        self.violations: list[str] = []
        #: grows with every commit
        self.generation = 0
        #: (run, step, attempt) of all attempts that were recorded as begun
        self.begun: set[tuple[str, int | None, int | None]] = set()
        #: run -> what its steps and questions brought, as JSON text
        self._results: defaultdict[str, set[str]] = defaultdict(set)
        self._origins: dict[str, str] = {}
        self._sessions: dict[str, tuple[str, str]] = {}
        self._active: dict[tuple[str, str], str] = {}
        self._epochs: dict[str, int] = {}
        self._owners: dict[str, str] = {}
        self._shards: dict[str, str] = {}

    def knows(self, run: str, result: str) -> bool:
        """True when `result` was committed to the journal of `run`, or of what it was forked from."""
        origin = self._origins.get(run)
        return result in self._results[run] or (origin is not None and self.knows(origin, result))

    def owned_here(self, run: str) -> bool:
        """True when the simulated node whose code runs is the last one that claimed the shard of `run`."""
        return self._owners.get(self._shards.get(run, "")) == current_node()

    async def commit(self, store: Store, batch: Sequence[Transaction]) -> list[Exception | list[int] | None]:
        """Commit `batch` and note what was accepted."""
        verdicts = await store.commit(batch)
        self.generation += 1
        for transaction, verdict in zip(batch, verdicts, strict=True):
            if not isinstance(verdict, Exception):
                self._note(transaction)
        return verdicts

    async def claim(self, store: Store, node: str, shards: Collection[str], lease_seconds: float) -> list[Lease]:
        """Claim shards and note the epochs."""
        leases = await store.claim(node, shards, lease_seconds)
        for lease in leases:
            if lease.epoch <= self._epochs.get(lease.shard, 0):
                self.violations.append(f"{lease.shard}: claimed by {node} with the old epoch {lease.epoch}")
            self._epochs[lease.shard] = lease.epoch
            self._owners[lease.shard] = current_node()
        return leases

    def _note(self, transaction: Transaction) -> None:
        fence = transaction.fence
        if fence is not None and fence.epoch != self._epochs.get(fence.shard):
            self.violations.append(f"{fence.shard}: a write of epoch {fence.epoch} was accepted in a later one")
        self.told_to_stop |= {signal.run for signal in transaction.signals if signal.kind == "cancel" and signal.run}
        for event in transaction.events:
            self._note_event(event)
        for new in transaction.create:
            self._shards[new.run.id] = new.run.shard
            if new.run.forked_from is not None:
                self._origins[new.run.id] = new.run.forked_from[0]
            if new.run.session is not None:
                self._sessions[new.run.id] = (new.run.agent, new.run.session)
            for event in new.events:
                self._note_event(event)
        for run, update in transaction.updates.items():
            if run in self.ended and not update.status.terminal:
                self.violations.append(f"{run}: has ended, and became {update.status}")

    def _note_event(self, event: Event) -> None:
        if event.run in self.ended:
            self.violations.append(f"{event.run}: {event.type} was accepted after its end")
        if event.time_us > self._latest_us():
            self.violations.append(f"{event.run}: {event.type} is dated in the future")
        self.events.append(event)
        session = self._sessions.get(event.run)
        if event.type == "step.started":
            self.begun.add((event.run, event.step, event.attempt))
        elif event.type in {"step.completed", "step.resolved"}:
            self._results[event.run].add(encode(event.data.get("result")))
        elif event.type == "ask.answered":
            self._results[event.run].add(encode(event.data["value"]))
        elif event.type == "run.started" and session is not None:
            other = self._active.setdefault(session, event.run)
            if other != event.run:
                self.violations.append(f"{event.run}: began while {other}, of the same session, had not ended")
        elif event.terminal:
            self.ended[event.run] = self._now()
            if session is not None and self._active.get(session) == event.run:
                del self._active[session]
