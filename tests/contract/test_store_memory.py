"""The store in memory keeps the contract."""

from __future__ import annotations

from perdure.store import MemoryStore
from perdure.testing.store_conformance import StoreConformance


class TestMemoryStore(StoreConformance):
    """Several kernels share one object."""

    def make_store(self, path, clock):
        return MemoryStore(clock=clock)

    def beside(self, store, path, clock):
        return store
