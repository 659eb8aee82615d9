"""The shared server of these tests."""

from __future__ import annotations

from tests.postgres import pooler, postgres_databases, postgres_server, postgres_url

__all__ = ["pooler", "postgres_databases", "postgres_server", "postgres_url"]
