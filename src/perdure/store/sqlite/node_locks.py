"""Does a node's process still live? Each holds a lock on its own file beside the store; the system drops it at death.

Says nothing about nodes of other machines, and nothing where the system has no `flock`: there leases decide alone.
"""

from __future__ import annotations

import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None  # type: ignore[assignment]


class NodeLocks:
    """The lock files of one store: `<store>.nodes/<node>.lock`."""

    def __init__(self, store_path: str) -> None:
        self._directory = Path(f"{store_path}.nodes")
        self._held: dict[str, int] = {}

    def hold(self, node: str) -> None:
        """Show that `node` lives, until `drop` or the end of this process. Raises OSError."""
        if node in self._held or fcntl is None:
            return
        self._directory.mkdir(mode=0o700, exist_ok=True)
        file = os.open(self._path(node), os.O_CREAT | os.O_RDWR, 0o600)
        # Nobody can hold it: a node's name is its own, and shards carry the name only after this.
        fcntl.flock(file, fcntl.LOCK_EX)
        self._held[node] = file

    def dead(self, node: str) -> bool:
        """True when the process of `node` is known to be gone; its file is cleared away."""
        if node in self._held or fcntl is None:
            return False
        try:
            file = os.open(self._path(node), os.O_RDWR)
        except FileNotFoundError:
            return True
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        else:
            self._path(node).unlink(missing_ok=True)
            return True
        finally:
            os.close(file)

    def drop(self) -> None:
        """Let go of all that this process holds."""
        for node, file in self._held.items():
            self._path(node).unlink(missing_ok=True)
            os.close(file)
        self._held.clear()

    def _path(self, node: str) -> Path:
        return self._directory / f"{node.replace(os.sep, '_')}.lock"
