"""How does a user's SQL run in our transaction without reaching our tables? Behind an authorizer.

It may use its own tables and make new ones. It may not touch names that begin with `perdure_`, attach files,
change settings or end the transaction.
"""

from __future__ import annotations

import apsw

from perdure.errors import StatementFailed
from perdure.store.contract import Statement

#: The disk or the file failed: that is the store's trouble, not the statement's.
_STORE_FAILURES = (apsw.FullError, apsw.IOError, apsw.CorruptError, apsw.ReadOnlyError, apsw.BusyError)

_FORBIDDEN = {
    apsw.SQLITE_ATTACH: "ATTACH",
    apsw.SQLITE_DETACH: "DETACH",
    apsw.SQLITE_PRAGMA: "PRAGMA",
    apsw.SQLITE_TRANSACTION: "transaction control",
    apsw.SQLITE_SAVEPOINT: "transaction control",
}
#: These name a column second, which users may call what they like.
_TABLE_FIRST = {apsw.SQLITE_READ, apsw.SQLITE_UPDATE}


class UserStatements:
    """Runs users' statements on a connection that is also ours.

    The authorizer stays on the connection, since setting one makes SQLite prepare every statement anew.
    """

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._guarding = False
        self._refused = ""
        db.authorizer = self._authorize

    def run(self, statement: Statement) -> None:
        """Run it to its end. Raises StatementFailed, or the driver's error when the store itself failed."""
        self._guarding, self._refused = True, ""
        try:
            # Not from the cache: a text of ours, prepared without the guard, must not serve a user.
            for _ in self._db.execute(statement.sql, statement.params, can_cache=False):
                pass
        except _STORE_FAILURES:
            raise
        except (apsw.Error, TypeError, ValueError, OverflowError) as error:
            reason = self._refused or f"{type(error).__name__}: {error}"
            raise StatementFailed(f"{reason}. The statement was: {statement.sql[:200]}") from error
        finally:
            self._guarding = False

    def _authorize(
        self, action: int, first: str | None, second: str | None, _database: str | None, _inner: str | None
    ) -> int:
        if not self._guarding:
            return apsw.SQLITE_OK
        if action in _FORBIDDEN:
            self._refused = f"a step may not use {_FORBIDDEN[action]}"
            return apsw.SQLITE_DENY
        names = (first,) if action in _TABLE_FIRST else (first, second)
        ours = [name for name in names if name and name.casefold().startswith("perdure_")]
        if not ours or action == apsw.SQLITE_FUNCTION:
            return apsw.SQLITE_OK
        self._refused = f"{ours[0]} belongs to Perdure"
        return apsw.SQLITE_DENY
