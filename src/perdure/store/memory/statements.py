"""Where do a user's SQL statements run when the store is in memory? In a SQLite of their own, made on first use."""

from __future__ import annotations

from collections.abc import Sequence

import apsw

from perdure.store.contract import Statement
from perdure.store.sqlite.statements import UserStatements


class MemorySql:
    """Users' tables, in memory."""

    def __init__(self) -> None:
        self._db: apsw.Connection | None = None

    @property
    def db(self) -> apsw.Connection:
        """The database of users' tables; tests look into it."""
        if self._db is None:
            self._db = apsw.Connection(":memory:")
            self._guarded = UserStatements(self._db)
        return self._db

    def run(self, statements: Sequence[Statement]) -> None:
        """All of them, or StatementFailed and none."""
        db = self.db
        db.execute("begin")
        try:
            for statement in statements:
                self._guarded.run(statement)
        except BaseException:
            if db.in_transaction:
                db.execute("rollback")
            raise
        db.execute("commit")
