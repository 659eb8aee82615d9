"""How are a few small writes made together? In a transaction that has the write lock from its beginning."""

from __future__ import annotations

import apsw


class Writing:
    """A transaction: committed at its end, undone by an error."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("begin immediate")

    def __exit__(self, kind: object, *_: object) -> None:
        if self._db.in_transaction:
            self._db.execute("commit" if kind is None else "rollback")
