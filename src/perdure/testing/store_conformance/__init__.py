"""What must any store do? A pytest suite for implementations of `perdure.store.contract.Store`, ours and yours.

    class TestMyStore(StoreConformance):
        def make_store(self, path: Path, clock: Clock) -> Store:
            return MyStore(path / "runs.db", clock=clock)

Every test makes a store of its own in a fresh directory.
"""

from __future__ import annotations

from perdure.testing.store_conformance.asks import AskTests
from perdure.testing.store_conformance.batches import BatchTests
from perdure.testing.store_conformance.documents import DocumentTests
from perdure.testing.store_conformance.forks import ForkTests
from perdure.testing.store_conformance.journals import JournalTests
from perdure.testing.store_conformance.nodes import NodeTests
from perdure.testing.store_conformance.queues import QueueTests
from perdure.testing.store_conformance.quotas import QuotaTests
from perdure.testing.store_conformance.rates import RateTests
from perdure.testing.store_conformance.runs import RunTests
from perdure.testing.store_conformance.session_lists import SessionListTests
from perdure.testing.store_conformance.sessions import SessionTests
from perdure.testing.store_conformance.shards import ShardTests
from perdure.testing.store_conformance.signals import SignalTests
from perdure.testing.store_conformance.statements import StatementTests

__all__ = ["StoreConformance"]


class StoreConformance(
    JournalTests,
    BatchTests,
    RunTests,
    ForkTests,
    SessionTests,
    SessionListTests,
    QueueTests,
    SignalTests,
    AskTests,
    ShardTests,
    NodeTests,
    QuotaTests,
    RateTests,
    DocumentTests,
    StatementTests,
):
    """All of it. Give `make_store`, and `beside` if a second store cannot be opened the same way."""
