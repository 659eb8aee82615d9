"""Is this file a Perdure store of our version? Opens it, makes it, or brings it up to date; refuses the rest by name.

`application_id` says that a file is ours, `user_version` says which migration it has.
"""

from __future__ import annotations

from pathlib import Path

import apsw

from perdure.errors import StoreNewer
from perdure.store.queries import load_migrations
from perdure.store.sqlite.failures import corrupt
from perdure.store.sqlite.files import make_file

#: "Prdr" in ASCII, in the header of every store
APPLICATION_ID = 0x50726472


def open_database(path: str, *, slots: int, patience_ms: int, vfs: str | None = None) -> apsw.Connection:
    """A connection to the store at `path`, which is made (mode 0600) or migrated when needed.

    Raises StoreNewer, StoreCorrupt, StoreReadOnly, and the driver's own errors.
    """
    make_file(Path(path))
    db = connect(path, patience_ms=patience_ms, vfs=vfs)
    try:
        refuse_foreign(db, path)
        # Of 4 KiB pages with results of 1 KiB an eighth stays empty, of these half as much, for 8 µs more a commit.
        pragma(db, "page_size = 8192")
        # Before the first migration: an interrupted set-up leaves an empty file, which is as good as none.
        pragma(db, "journal_mode = wal")
        migrate(db, path, slots)
    except BaseException:
        db.close()
        raise
    return db


def connect(path: str, *, patience_ms: int, vfs: str | None = None) -> apsw.Connection:
    """A connection with our settings; the file must exist."""
    db = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs, statementcachesize=200)
    db.set_busy_timeout(patience_ms)
    # NORMAL would lose acknowledged commits with the power. EXTRA is FULL, and also keeps the rollback journal of
    # the set-up from coming back after a power cut and undoing it.
    pragma(db, "synchronous = extra")
    # Savepoints journal to memory: no file that could fill the disk or slow the commit down.
    pragma(db, "temp_store = memory")
    # A burst may leave a long log: it shrinks back when it begins anew.
    pragma(db, "journal_size_limit = 16777216")
    # The store checkpoints by itself, to hear of failed writes: SQLite's own checkpoint would keep them quiet.
    db.wal_autocheckpoint(0)
    return db


def migrate(db: apsw.Connection, path: str, slots: int) -> None:
    """Apply the migrations the file does not have yet, each in a transaction of its own."""
    migrations = load_migrations("sqlite")
    newest = migrations[-1][0]
    if pragma(db, "user_version") > newest:
        raise StoreNewer(
            f"{path}: the store has version {pragma(db, 'user_version')}, this Perdure knows {newest}. "
            f"Upgrade it with `pip install --upgrade perdure`; nothing was changed."
        )
    for version, script in migrations:
        if pragma(db, "user_version") >= version:
            continue
        db.execute("begin immediate")
        try:
            # Another process may have done it while this one waited for the lock.
            if pragma(db, "user_version") < version:
                for _ in db.execute(script):
                    pass
                db.execute("insert or ignore into perdure_meta (name, value) values ('slots', ?)", (str(slots),))
                pragma(db, f"application_id = {APPLICATION_ID}")
                pragma(db, f"user_version = {version}")
            db.execute("commit")
        except BaseException:
            if db.in_transaction:
                db.execute("rollback")
            raise


def pragma(db: apsw.Connection, text: str) -> int:
    """Run a pragma and return its number (0 when it has none)."""
    value = db.execute(f"pragma {text}").get
    return value if isinstance(value, int) else 0


def refuse_foreign(db: apsw.Connection, path: str) -> None:
    """Raise StoreCorrupt for a database of something else; an empty one may become ours."""
    found = pragma(db, "application_id")
    if found == APPLICATION_ID:
        return
    if found or pragma(db, "user_version") or db.execute("select count(*) from sqlite_schema").get:
        raise corrupt(path, f"its application id is {found:#x}, not {APPLICATION_ID:#x}")
