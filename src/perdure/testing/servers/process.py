"""How is a server's process started, signalled and awaited? As an account that may run it, on a leash (leash.py).

Knows nothing of what the process serves.
"""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from perdure.errors import StoreError

END_SECONDS_MAX = 30.0

_USERS = ("postgres", "nobody")
_LEASH = Path(__file__).with_name("leash.py")


class Account(NamedTuple):
    """The user and group that a process runs as."""

    user: int
    group: int


def unprivileged_account() -> Account | None:
    """Whom a server runs as when we are root, which databases refuse; None for ourselves. Raises StoreError for nobody."""
    if os.geteuid() != 0:
        return None
    for name in _USERS:
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(entry.pw_uid, entry.pw_gid)
    raise StoreError(f"a database server does not run as root, and no user of {_USERS} exists: run as another user")


def temporary_directory(server: str, account: Account | None) -> Path:
    """A new directory that belongs to the account. Not below pytest's own, which nobody else may enter."""
    directory = tempfile.mkdtemp(prefix=f"perdure-{server}-")
    if account:
        os.chown(directory, *account)
    return Path(directory)


class ServerProcess:
    """A running server that ends no later than the process that made this object.

    `ending` is the signal it gets then; `directory`, if given, is removed after that. Output goes to the end of `log`.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        account: Account | None,
        ending: signal.Signals,
        directory: Path | None = None,
    ) -> None:
        user, group = account or ("", "")
        leash = [sys.executable, "-I", "-S", str(_LEASH), ending.name, str(user), str(group), str(directory or "")]
        with log.open("ab") as output:
            # In a session of its own, so that Ctrl-C reaches the tests and not what they stand on.
            self._leash = subprocess.Popen(
                [*leash, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=output, start_new_session=True
            )
        assert self._leash.stdout is not None
        with self._leash.stdout as told:
            self.pid = int(told.readline())

    @property
    def alive(self) -> bool:
        """False once it and all its children have ended."""
        return self._leash.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; nothing if it has ended."""
        if self.alive:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def ends_within(self, seconds: float) -> bool:
        """Wait until it has ended; False if it runs on."""
        try:
            self._leash.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        assert self._leash.stdin is not None
        self._leash.stdin.close()
        return True

    def kill(self) -> None:
        """SIGKILL to it and its children at once; returns when all are gone."""
        self.signal(signal.SIGSTOP)  # it forks no more, so the list of its children is complete
        for child in _children(self.pid) if self.alive else ():
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        self.signal(signal.SIGKILL)
        if not self.ends_within(END_SECONDS_MAX):
            raise StoreError(f"process {self.pid} outlived SIGKILL by {END_SECONDS_MAX:g} s: is its disk hanging?")


def _children(parent: int) -> list[int]:
    """The processes whose parent it is, as Linux tells; none elsewhere."""
    children = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # "PID (NAME) STATE PARENT ...", where NAME may hold anything
            if int(stat.read_text(errors="replace").rpartition(")")[2].split()[1]) == parent:
                children.append(int(stat.parent.name))
    return children
