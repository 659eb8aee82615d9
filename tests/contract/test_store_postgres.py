"""The store in a PostgreSQL database keeps the contract."""

from __future__ import annotations

from itertools import count

import pytest

from perdure.errors import NotFound
from perdure.store.postgres import PostgresStore
from perdure.testing.servers.postgres import PostgresServer
from perdure.testing.store_conformance import StoreConformance
from tests.postgres import UNSYNCED


class PostgresConformance(StoreConformance):
    """A second process, perhaps of another machine, opens the same database."""

    url: str

    def make_store(self, path, clock):
        return PostgresStore(self.url, clock=clock)


class TestPostgresStore(PostgresConformance):
    """On the server that is there."""

    @pytest.fixture(autouse=True)
    def _database(self, postgres_url):
        self.url = postgres_url


@pytest.mark.slow
class TestThroughAPooler(PostgresConformance):
    """Every transaction has another connection of PgBouncer's, of which there are two."""

    @pytest.fixture(autouse=True)
    def _database(self, postgres_url, pooler):
        self.url = pooler.url(postgres_url.rpartition("/")[2])


@pytest.mark.slow
@pytest.mark.parametrize("server", [14, 16, 17, 18], indirect=True)
class TestOtherVersions(PostgresConformance):
    """On those that are installed: the wheel of the test group brings 16 and 18."""

    numbers = count(1)

    @pytest.fixture(scope="class")
    def server(self, request):
        """A server of that version."""
        try:
            server = PostgresServer(version=request.param, settings=UNSYNCED)
        except NotFound as missing:
            pytest.skip(str(missing))
        with server:
            yield server

    @pytest.fixture(autouse=True)
    def _database(self, server):
        name = f"test_{next(self.numbers)}"
        self.url = server.create_database(name)
        yield
        server.drop_database(name)
