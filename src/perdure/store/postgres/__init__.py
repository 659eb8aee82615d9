"""The store in a PostgreSQL database: what many nodes share."""

from perdure.store.postgres.store import PostgresStore

__all__ = ["PostgresStore"]
