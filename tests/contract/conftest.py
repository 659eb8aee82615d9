"""What stands between a store and its server."""

from __future__ import annotations

from tests.postgres import pooler, postgres_databases, postgres_server, postgres_url

__all__ = ["pooler", "postgres_databases", "postgres_server", "postgres_url"]
