"""What does a failure of SQLite mean for whoever uses the store? The one place that knows the driver's errors.

Every error becomes a StoreError that names the file and the remedy; none of the driver's own gets out.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import apsw

from perdure.errors import StoreBroken, StoreBusy, StoreCorrupt, StoreError, StoreFull, StoreReadOnly


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
    match error:
        case apsw.BusyError() | apsw.LockedError() | apsw.ProtocolError():
            return StoreBusy(
                f"{path}: another process kept the store locked for too long. Try again; if it stays so, find the "
                f"process that holds it with `perdure doctor`."
            )
        case apsw.FullError():
            return StoreFull(f"{path}: the disk is full. Free some room; nothing acknowledged is lost.")
        case apsw.IOError():
            return broken(path, str(error))
        case apsw.ReadOnlyError() | apsw.PermissionsError() | apsw.AuthError():
            return StoreReadOnly(f"{path}: the store cannot be written. Check who owns the file and its directory.")
        case apsw.CantOpenError():
            return StoreReadOnly(
                f"{path}: the store cannot be opened or made. Check that its directory exists and may be written, "
                f"or choose another place with --store."
            )
        case apsw.NotADBError() | apsw.CorruptError():
            return corrupt(path, str(error))
    return StoreError(f"{path}: the store failed: {type(error).__name__}: {error}. Run `perdure db check`.")


def corrupt(path: str, found: str) -> StoreCorrupt:
    """The error for a file that cannot be trusted."""
    return StoreCorrupt(
        f"{path}: damaged, or not a Perdure store ({found}). Run `perdure db check` for the details, and restore a "
        f"backup made with `perdure db backup` if it is damaged; nothing was changed."
    )


def broken(path: str, found: str) -> StoreBroken:
    """The error for a disk that failed: after a failed sync nobody knows what the disk kept."""
    return StoreBroken(
        f"{path}: the disk failed ({found}). Stop this process, check the disk, and start again: what was "
        f"acknowledged is in the store's files."
    )


def _file_system_error(error: OSError, path: str) -> StoreError:
    reason = f"{error.filename or path}: {error.strerror}"
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return StoreFull(f"{reason}. Free some room; nothing acknowledged is lost.")
    if error.errno == errno.EIO:
        return broken(path, reason)
    return StoreReadOnly(f"{reason}. Check the directory and its permissions, or choose another place with --store.")
