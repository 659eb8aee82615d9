"""What does a failure of SQLite mean for whoever uses the store? The one place that knows the driver's errors.

Every error becomes a StoreError that names the file and the remedy; none of the driver's own gets out.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import apsw

from perdure.errors import StoreBroken, StoreBusy, StoreCorrupt, StoreError, StoreFull, StoreReadOnly

_BUSY = (
    "another process kept the store locked for too long. Try again; if it stays so, `perdure doctor` shows who "
    "works on it."
)
_FULL = "the disk is full. Free some room: work goes on by itself, and nothing acknowledged is lost."
_READ_ONLY = (
    "the store cannot be opened for writing. Check that its directory exists and that this user may write it and the "
    "file, or choose another place with --store."
)
_BROKEN = (
    "the disk failed ({found}). Stop this process, check the disk, and start again: what was acknowledged is in the "
    "store's files."
)
_CORRUPT = (
    "damaged, or not a Perdure store ({found}). Nothing was changed. `perdure db check` tells the details; restore a "
    "backup made with `perdure db backup` if it is damaged."
)
_UNKNOWN = "the store failed ({found}). Nothing of this call was written. `perdure db check` may tell more."

_MEANINGS: tuple[tuple[tuple[type[apsw.Error], ...], type[StoreError], str], ...] = (
    ((apsw.BusyError, apsw.LockedError, apsw.ProtocolError), StoreBusy, _BUSY),
    ((apsw.FullError,), StoreFull, _FULL),
    ((apsw.IOError,), StoreBroken, _BROKEN),
    ((apsw.ReadOnlyError, apsw.PermissionsError, apsw.CantOpenError), StoreReadOnly, _READ_ONLY),
    ((apsw.NotADBError, apsw.CorruptError), StoreCorrupt, _CORRUPT),
    ((apsw.Error,), StoreError, _UNKNOWN),
)


@contextmanager
def named_failures(path: str) -> Iterator[None]:
    """Errors of SQLite and of the file system that occur inside leave as StoreError."""
    try:
        yield
    except (apsw.Error, OSError) as error:
        raise store_error(error, path) from error


def store_error(error: apsw.Error | OSError, path: str) -> StoreError:
    """The StoreError that says what `error` means for the store at `path`."""
    if isinstance(error, OSError):
        return _file_system_error(error, path)
    if getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_SHMSIZE:
        # The index of the log could not grow: nothing that was to last was written.
        return StoreFull(f"{path}: {_FULL}")
    found = f"{type(error).__name__}: {error}"
    kind, text = next((kind, text) for drivers, kind, text in _MEANINGS if isinstance(error, drivers))
    return kind(f"{path}: {text.format(found=found)}")


def corrupt(path: str, found: str) -> StoreCorrupt:
    """The error for a file that is not what it should be."""
    return StoreCorrupt(f"{path}: {_CORRUPT.format(found=found)}")


def _file_system_error(error: OSError, path: str) -> StoreError:
    found = f"{error.filename or path}: {error.strerror}"
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return StoreFull(f"{found}: {_FULL}")
    if error.errno == errno.EIO:
        return StoreBroken(f"{path}: {_BROKEN.format(found=found)}")
    return StoreReadOnly(f"{found}: {_READ_ONLY}")
