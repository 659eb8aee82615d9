"""Where do commits go first, and how does the write-ahead log stay quick and bounded?

SQLite can copy the log into the database by itself, but keeps quiet about a disk that fails meanwhile. So it is done
here, and the caller hears of it.
"""

from __future__ import annotations

import os
from contextlib import suppress

import apsw

#: Pages of 8 KiB in the log from which on it is copied after a commit.
_PAGES_MAX = 600
#: Bytes a log takes until then, and for a large batch on top.
_ROOM = 6 * 1024 * 1024


class Log:
    """The write-ahead log, as the connection that writes sees it."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._pages = 0
        db.set_wal_hook(self._note_pages)

    @property
    def full(self) -> bool:
        """True when it is time to empty it."""
        return self._pages >= _PAGES_MAX

    def empty(self) -> None:
        """Copy it into the database, so that the next commit may begin it anew. Raises the driver's errors."""
        self._pages = 0
        # What could not be copied stays in the log, where it is as safe; later there is another chance.
        with suppress(apsw.BusyError, apsw.LockedError, apsw.FullError):
            self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    def make_room(self) -> None:
        """Write the log's room beforehand: a commit that makes the file longer takes twice as long.

        Zeros after the last frame mean nothing to SQLite. Does what it can; a full disk is not told here.
        """
        # With the lock, so that nobody adds a frame where the zeros go.
        self._db.execute("begin immediate")
        try:
            with suppress(OSError):
                _lengthen(self._db.filename_wal, _ROOM)
        finally:
            self._db.execute("rollback")

    def _note_pages(self, _db: apsw.Connection, _name: str, pages: int) -> int:
        self._pages = pages
        return apsw.SQLITE_OK


def _lengthen(path: str, size: int) -> None:
    file = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        missing = size - os.fstat(file).st_size
        if missing > 0:
            os.write(file, bytes(missing))
            os.fsync(file)
    finally:
        os.close(file)
