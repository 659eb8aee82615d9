"""Who is told of an event? Whoever subscribed: the run that tells him is created in the very commit of the event.

So nothing is told that did not happen, and nothing that happened is forgotten, whenever this node dies. Told are events as
they come about: what an import or a fork brings along of an older journal happened before, and elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from perdure.kernel.contract import Subscriptions
from perdure.store.contract import NewRun, Transaction
from perdure.values.events import Event
from perdure.values.runs import RunStatus

if TYPE_CHECKING:
    from perdure.kernel.kernel import Kernel

#: How a run comes about here; an imported one has another status.
_NEW = (RunStatus.QUEUED, RunStatus.RUNNING)
#: Of a run that is created, what happens just now: a fork carries events of its original too.
_BEGINNINGS = ("run.queued", "run.started", "run.forked")


class Outbox:
    """Encloses in each transaction what tells of it."""

    def __init__(self, kernel: Kernel, subscriptions: Subscriptions) -> None:
        self._kernel = kernel
        self._subscriptions = subscriptions

    def enclose(self, transaction: Transaction) -> list[NewRun]:
        """Add to `transaction` the runs that tell of its events; gives them.

        The store may drop those that tell of a new run's beginning, and have it begin later: they are never born running.
        """
        home, sure = self._home(transaction)
        created = {new.run.id for new in transaction.create}
        told = [
            self._kernel.new_run(
                notice.agent, notice.input_json, id=notice.run, session=None, concurrency_key=notice.concurrency_key,
                near=home, begin=sure and (event.seq == 1 or event.run not in created),
            )
            for agent, event in _events(transaction)
            for notice in self._subscriptions.notices(agent, event)
        ]  # fmt: skip
        if told:
            transaction.create = [*transaction.create, *told]
        return told

    async def skip_known(self, transaction: Transaction, told: list[NewRun]) -> bool:
        """Take what exists already out of a transaction that was refused, and out of `told`; whether there was any.

        Told twice is told once: that is no reason to refuse the events, whose author would try for ever.
        """
        known = [new for new in told if await self._kernel.store.run(new.run.id) is not None]
        for new in known:
            told.remove(new)
            if new.run.status is RunStatus.RUNNING:  # else the place that it may have is that of the earlier one
                self._kernel.not_written(new)
        transaction.create = [new for new in transaction.create if new not in known]
        return bool(known)

    def settle(self, told: list[NewRun], *, accepted: bool) -> None:
        """What became of a transaction that `told` was enclosed in."""
        for new in told:
            if accepted:
                self._kernel.run_written(new.run, new.events)
            else:
                self._kernel.not_written(new)

    def _home(self, transaction: Transaction) -> tuple[str | None, bool]:
        """A shard of the database that the transaction is committed in, where a store has several.

        And whether that is all: a run whose key lives there, and whose session elsewhere, may still be refused over there.
        """
        for new in transaction.create:
            if new.run.idempotency_key is not None:
                home = self._kernel.shard_of(new.run.agent, None, new.run.idempotency_key)
                return home, self._kernel.store.together(home, new.run.shard)
        if transaction.fence is not None:
            return transaction.fence.shard, True
        return (transaction.create[0].run.shard if transaction.create else None), True


def _events(transaction: Transaction) -> Iterator[tuple[str, Event]]:
    """What happens with this transaction, each event with its agent."""
    if transaction.fence is not None:
        agent = transaction.fence.shard.rpartition(":")[0]
        for event in transaction.events:
            yield agent, event
    for new in transaction.create:
        if new.run.status in _NEW:
            for event in new.events:
                if event.type in _BEGINNINGS:
                    yield new.run.agent, event
