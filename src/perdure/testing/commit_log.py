"""What did the store accept, in which order, from whom? Its own record, kept while it happens.

A checker that asks the store afterwards sees only what the store kept. This log saw every accepted event and every
claim as it went by, so what was lost, changed, or accepted from somebody who had no right to write is found.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from perdure.store.contract import Lease, Store, Transaction
from perdure.values.events import Event


class CommitLog:
    """All accepted writes of a test, over all nodes."""

    def __init__(self) -> None:
        #: every accepted event, in order of commit
        self.events: list[Event] = []
        self.violations: list[str] = []
        self._epochs: dict[str, int] = {}
        self._ended: set[str] = set()

    async def commit(self, store: Store, batch: Sequence[Transaction]) -> list[Exception | list[int] | None]:
        """Commit `batch` and note what was accepted."""
        verdicts = await store.commit(batch)
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
        return leases

    def _note(self, transaction: Transaction) -> None:
        fence = transaction.fence
        if fence is not None and fence.epoch != self._epochs.get(fence.shard):
            self.violations.append(f"{fence.shard}: a write of epoch {fence.epoch} was accepted in a later one")
        for new in transaction.create:
            self.events += new.events
        for event in transaction.events:
            if event.run in self._ended:
                self.violations.append(f"{event.run}: {event.type} was accepted after its end")
            self.events.append(event)
            if event.terminal:
                self._ended.add(event.run)
        for run, update in transaction.updates.items():
            if run in self._ended and not update.status.terminal:
                self.violations.append(f"{run}: has ended, and became {update.status}")
