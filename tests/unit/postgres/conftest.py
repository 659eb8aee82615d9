"""The shared server of these tests, and what stands between."""

from __future__ import annotations

import pytest

from perdure.testing.servers.proxy import FaultProxy
from tests.postgres import pooler, postgres_databases, postgres_server, postgres_url

__all__ = ["pooler", "postgres_databases", "postgres_server", "postgres_url"]


@pytest.fixture
def proxy(postgres_server):
    """A proxy before the shared server that knows our commits: the usual way's function, and the careful way's word."""
    with FaultProxy("127.0.0.1", postgres_server.port, marker=b"commit") as proxy:
        yield proxy
