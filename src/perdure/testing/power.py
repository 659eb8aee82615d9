"""What may a disk hold after the power failed? Records what a store writes, then cuts the power at any moment of it.

A disk keeps what was synced. Of what was written since, each sector of 512 bytes may be there, missing or torn, in any
combination; so may a new length, a new file and a removed one. `blackouts` plays a recording up to every moment
and yields what a disk might then hold. Nothing here knows what the files mean.

    with Recorder() as recorder:
        store = SqliteStore(path, vfs=recorder.vfs)
        ...
        recorder.mark(what_is_acknowledged)
    for blackout in blackouts(recorder.log, Random(7)):
        blackout.write_to(directory)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, Self

import apsw

SECTOR = 512

_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes at a place of a file, not safe until a sync."""

    file: str
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Resize:
    """A new length; safe at once when it was made beside SQLite, by somebody who synced it."""

    file: str
    size: int
    safe: bool = False


@dataclass(frozen=True, slots=True)
class Sync:
    """From here on the file is safe as it is."""

    file: str


@dataclass(frozen=True, slots=True)
class Remove:
    """The file is gone; surely so only when the directory was synced."""

    file: str
    safe: bool


@dataclass(frozen=True, slots=True)
class Mark:
    """Something the writer has told the world."""

    told: Any


Action = Write | Resize | Sync | Remove | Mark


class Recorder:
    """A VFS for SQLite that works on real files and records every change of them."""

    def __init__(self) -> None:
        self.log: list[Action] = []
        self.vfs = f"recorder-{next(_numbers)}"
        self._registered = _RecordingVfs(self.vfs, self.log)

    def mark(self, told: Any) -> None:
        """Record that `told` was acknowledged by now."""
        self.log.append(Mark(told))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._registered.unregister()


class _RecordingVfs(apsw.VFS):
    def __init__(self, name: str, log: list[Action]) -> None:
        super().__init__(name, "")
        self._log = log

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        return _RecordingFile(name, flags, self._log)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        super().xDelete(filename, syncdir)
        self._log.append(Remove(Path(filename).name, syncdir))


class _RecordingFile(apsw.VFSFile):
    def __init__(self, name: str | apsw.URIFilename | None, flags: list[int], log: list[Action]) -> None:
        super().__init__("", name, flags)
        full = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._path = None if full is None else Path(full)
        self._log = log
        self._size = self._real_size()

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._note_growth()
        super().xWrite(data, offset)
        self._record(Write(self._name, offset, bytes(data)))

    def xTruncate(self, size: int) -> None:  # noqa: N802
        self._note_growth()
        super().xTruncate(size)
        self._record(Resize(self._name, size))

    def xSync(self, flags: int) -> None:  # noqa: N802
        super().xSync(flags)
        self._record(Sync(self._name))

    @property
    def _name(self) -> str:
        return "" if self._path is None else self._path.name

    def _note_growth(self) -> None:
        if self._real_size() > self._size:
            self._record(Resize(self._name, self._real_size(), safe=True))

    def _record(self, action: Action) -> None:
        if self._path is not None:
            self._log.append(action)
            self._size = self._real_size()

    def _real_size(self) -> int:
        return 0 if self._path is None or not self._path.exists() else self._path.stat().st_size


@dataclass(slots=True)
class _File:
    """One file on the disk: what is safe, and what has happened since."""

    #: None: the directory does not surely name it
    safe: bytearray | None = None
    pending: list[Write | Resize] = field(default_factory=list)

    def settle(self) -> None:
        """Everything becomes safe."""
        image = self.safe if self.safe is not None else bytearray()
        for change in self.pending:
            _apply(image, change)
        self.safe = image
        self.pending.clear()


@dataclass(frozen=True, slots=True)
class Blackout:
    """One thing the disk may hold when the power comes back."""

    #: how many actions had happened
    moment: int
    #: the last mark before it
    told: Any
    files: dict[str, bytes]

    def write_to(self, directory: Path) -> None:
        """Make `directory` hold these files and no others."""
        for path in directory.iterdir():
            if path.is_file():
                path.unlink()
        for name, image in self.files.items():
            (directory / name).write_bytes(image)


def blackouts(log: list[Action], dice: Random, before: dict[str, bytes] | None = None) -> Iterator[Blackout]:
    """For every moment of a recording, one thing the disk may hold; `before` is what it held at the start."""
    files = {name: _File(bytearray(image)) for name, image in (before or {}).items()}
    told: Any = None
    for moment, action in enumerate(log, 1):
        if isinstance(action, Mark):
            told = action.told
        else:
            _play(files, action, dice)
        yield Blackout(moment, told, _survivors(files, dice))


def _play(files: dict[str, _File], action: Write | Resize | Sync | Remove, dice: Random) -> None:
    if isinstance(action, Remove):
        file = files.pop(action.file, None)
        # Without a sync of the directory the file may come back, as it was safe.
        if file is not None and file.safe is not None and not action.safe and dice.random() < 1 / 2:
            files[action.file] = _File(file.safe)
        return
    file = files.setdefault(action.file, _File())
    if isinstance(action, Sync):
        file.settle()
    elif isinstance(action, Resize) and action.safe:
        file.settle()
        file.pending.append(action)
        file.settle()
    else:
        file.pending.append(action)


def _survivors(files: dict[str, _File], dice: Random) -> dict[str, bytes]:
    return {
        name: bytes(_survivor(file, dice))
        for name, file in files.items()
        if file.safe is not None or dice.random() < 1 / 2
    }


def _survivor(file: _File, dice: Random) -> bytearray:
    """What is safe, with none, all, the first few or a random half of the changes since."""
    image = bytearray() if file.safe is None else bytearray(file.safe)
    fate = dice.choice(["none", "all", "first", "half", "half"])
    if fate == "none":
        return image
    changes = file.pending if fate != "first" else file.pending[: dice.randint(0, len(file.pending))]
    for change in changes:
        if isinstance(change, Write) and fate == "half":
            for sector in _sectors(change):
                _tear(image, sector, dice)
        elif isinstance(change, Write) or fate != "half" or dice.random() < 1 / 2:
            _apply(image, change)
    return image


def _sectors(write: Write) -> Iterator[Write]:
    """A write cut at the borders of sectors."""
    start, end = write.offset, write.offset + len(write.data)
    while start < end:
        border = min(end, (start // SECTOR + 1) * SECTOR)
        yield Write(write.file, start, write.data[start - write.offset : border - write.offset])
        start = border


def _tear(image: bytearray, sector: Write, dice: Random) -> None:
    chance = dice.random()
    if chance < 0.45:
        _apply(image, sector)
    elif chance < 0.55:
        _apply(image, Write(sector.file, sector.offset, sector.data[: dice.randrange(len(sector.data))]))


def _apply(image: bytearray, change: Write | Resize) -> None:
    if isinstance(change, Resize):
        image[change.size :] = bytes(max(0, change.size - len(image)))
        return
    if len(image) < change.offset:
        image.extend(bytes(change.offset - len(image)))
    image[change.offset : change.offset + len(change.data)] = change.data
