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
        """Add to `transaction` the runs that tell of its events; gives them."""
        told = [
            self._kernel.new_run(
                notice.agent, notice.input_json, id=notice.run, session=None, concurrency_key=notice.concurrency_key,
                near=shard,
            )
            for agent, shard, event in _events(transaction)
            for notice in self._subscriptions.notices(agent, event)
        ]  # fmt: skip
        if told:
            transaction.create = [*transaction.create, *told]
        return told

    def settle(self, told: list[NewRun], *, accepted: bool) -> None:
        """What became of a transaction that `told` was enclosed in."""
        for new in told:
            if accepted:
                self._kernel.run_written(new.run, new.events)
            else:
                self._kernel.not_written(new)


def _events(transaction: Transaction) -> Iterator[tuple[str, str, Event]]:
    """What happens with this transaction, each event with its agent and shard."""
    if transaction.fence is not None:
        shard = transaction.fence.shard
        agent = shard.rpartition(":")[0]
        for event in transaction.events:
            yield agent, shard, event
    for new in transaction.create:
        if new.run.status in _NEW:
            for event in new.events:
                if event.type in _BEGINNINGS:
                    yield new.run.agent, new.run.shard, event
