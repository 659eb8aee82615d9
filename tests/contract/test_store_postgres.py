"""The store in a PostgreSQL database keeps the contract."""

from __future__ import annotations

import pytest

from perdure.errors import NotFound
from perdure.store.postgres import PostgresStore
from perdure.testing.servers.postgres import PostgresServer
from perdure.testing.store_conformance import StoreConformance
from tests.postgres import UNSYNCED, Databases


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


@pytest.fixture(scope="module")
def other_databases(request):
    """Those of a server of the version that is asked for."""
    try:
        server = PostgresServer(version=request.param, settings=UNSYNCED)
    except NotFound as missing:
        pytest.skip(str(missing))
    with server:
        yield Databases(server)


@pytest.mark.slow
@pytest.mark.parametrize("other_databases", [16, 18], indirect=True)
class TestOtherVersions(PostgresConformance):
    """Those that the wheel of the test group brings."""

    @pytest.fixture(autouse=True)
    def _database(self, other_databases):
        with other_databases.lend() as take:
            self.url = take()
            yield
