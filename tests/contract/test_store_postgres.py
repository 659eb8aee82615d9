"""The store in a PostgreSQL database keeps the contract."""

from __future__ import annotations

import pytest

from perdure.store.postgres import PostgresStore
from perdure.testing.store_conformance import StoreConformance


class TestPostgresStore(StoreConformance):
    """A second process, perhaps of another machine, opens the same database."""

    @pytest.fixture(autouse=True)
    def _database(self, postgres_url):
        self.url = postgres_url

    def make_store(self, path, clock):
        return PostgresStore(self.url, clock=clock)
