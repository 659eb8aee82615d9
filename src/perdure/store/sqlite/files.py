"""How does a file come to be so that a power cut cannot take it back? By syncing the directories that name it, too."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from perdure.errors import StoreReadOnly


def make_file(path: Path) -> None:
    """See that a file is there, empty if it was not. A relative path's directories are made; an absolute one's must be.

    Raises StoreReadOnly, OSError.
    """
    directory = path.parent
    if not directory.is_absolute():
        _make_directory(directory)
    if not directory.is_dir():
        raise StoreReadOnly(f"{path}: there is no directory {directory}. Make it, or choose another --store.")
    with suppress(FileExistsError):
        # Journals hold what users said and tools returned: nobody else on this machine may read them.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        sync(directory)


def publish(part: Path, target: Path) -> None:
    """Give a finished file its name. Raises FileExistsError when the name is taken."""
    sync(part)
    # A link, not a rename: it never replaces what is there.
    target.hardlink_to(part)
    sync(target.absolute().parent)


def sync(path: Path) -> None:
    """Make a file's content, or a directory's entries, safe from a power cut."""
    if path.is_dir() and not hasattr(os, "O_DIRECTORY"):
        return  # Windows keeps directories by itself, and does not open them
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _make_directory(directory: Path) -> None:
    if not directory.is_dir():
        _make_directory(directory.parent)
        directory.mkdir(exist_ok=True)
        sync(directory.parent)
