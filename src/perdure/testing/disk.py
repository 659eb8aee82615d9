"""What if the disk is full, or fails? A VFS for SQLite that says so at any one write or sync, on real files.

A full disk stays full until `free`; what did not fit is cut off in the middle. A failed write or sync fails once:
the next one succeeds, as an operating system reports a lost page only once.
"""

from __future__ import annotations

from itertools import count
from types import TracebackType
from typing import Self

import apsw

_numbers = count(1)


class BadDisk:
    """A disk that is good until `fill_at` or `fail_at` has named the action that is the last good one."""

    def __init__(self) -> None:
        self.vfs = f"bad-disk-{next(_numbers)}"
        #: writes, truncations and syncs so far
        self.actions = 0
        self._full_after: int | None = None
        self._fails_at: int | None = None
        self._registered = _BadVfs(self.vfs, self)

    def fill_at(self, action: int) -> None:
        """No room from the given action on."""
        self._full_after = action

    def fail_at(self, action: int) -> None:
        """An I/O error at the given action."""
        self._fails_at = action

    def free(self) -> None:
        """There is room again."""
        self._full_after = None

    @property
    def full(self) -> bool:
        """True while there is no room."""
        return self._full_after is not None and self.actions >= self._full_after

    def act(self, error: int) -> None:
        """Count one action; raises when it is the one that fails, with the given result code of SQLite."""
        self.actions += 1
        if self.actions == self._fails_at:
            failure = apsw.IOError("simulated: the disk failed")
            failure.extendedresult = error  # type: ignore[attr-defined]
            raise failure

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._registered.unregister()


class _BadVfs(apsw.VFS):
    def __init__(self, name: str, disk: BadDisk) -> None:
        super().__init__(name, "")
        self._disk = disk

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        return _BadFile(name, flags, self._disk)


class _BadFile(apsw.VFSFile):
    def __init__(self, name: str | apsw.URIFilename | None, flags: list[int], disk: BadDisk) -> None:
        super().__init__("", name, flags)
        self._disk = disk

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._disk.act(apsw.SQLITE_IOERR_WRITE)
        if self._disk.full:
            super().xWrite(bytes(data)[: len(data) // 2], offset)
            raise apsw.FullError("simulated: the disk is full")
        super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:  # noqa: N802
        self._disk.act(apsw.SQLITE_IOERR_TRUNCATE)
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._disk.act(apsw.SQLITE_IOERR_FSYNC)
        super().xSync(flags)
