"""Where does a PostgreSQL with its default settings come from? From the system's binaries, in a directory of our own.

PostgreSQL refuses to run as root, so root lends it the account of an unprivileged user. Nothing is tuned: fsync,
synchronous_commit and shared_buffers stay as PostgreSQL ships them.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from measure import family, pss_bytes

START_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 20.0
USERS = ("postgres", "nobody")


@dataclass(frozen=True)
class Postgres:
    """A running server: how to reach it, and what it weighs."""

    url: str
    pid: int

    def pss_bytes(self) -> int:
        """Memory of all its processes, shared pages counted once."""
        return pss_bytes(family(self.pid))

    def disk_bytes(self) -> int:
        """Size of its database, without the write-ahead log."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("checkpoint")
            row = connection.execute("select pg_database_size(current_database())").fetchone()
        assert row is not None
        return int(row[0])


@contextmanager
def temporary_postgres(directory: Path) -> Iterator[Postgres]:
    """A new, empty server in `directory`, stopped when the block ends. Raises RuntimeError when it cannot start."""
    account = unprivileged_account()
    directory.mkdir(parents=True)
    if account:
        os.chown(directory, account["user"], account["group"])
    create_cluster(directory, account)
    port, log = free_port(), directory.with_suffix(".log")
    command = [binary("postgres"), "-D", str(directory), "-p", str(port), "-h", "127.0.0.1", "-k", ""]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=directory, **account
        )
    try:
        url = f"postgresql://bench@127.0.0.1:{port}/postgres"
        wait_until_ready(url, process, log)
        yield Postgres(url, process.pid)
    finally:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS_MAX)
        process.kill()
        process.wait()


def create_cluster(directory: Path, account: dict[str, Any]) -> None:
    command = [binary("initdb"), "-D", str(directory), "-U", "bench", "-A", "trust", "-E", "UTF8", "--no-locale"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=directory.parent, **account)
    if done.returncode:
        raise RuntimeError(
            f"initdb failed in {directory}: {done.stderr.strip()}. If the directory is out of reach for the user "
            "that PostgreSQL runs as, choose another one with --data"
        )


def wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"postgres ended with code {process.returncode} while starting: {log.read_text()}")
        with suppress(psycopg.OperationalError):
            psycopg.connect(url).close()
            return
        time.sleep(0.05)
    raise RuntimeError(f"postgres was not ready within {START_SECONDS_MAX:g} s")


def postgres_version() -> str:
    """What `postgres --version` says, without its name."""
    done = subprocess.run([binary("postgres"), "--version"], check=True, capture_output=True, text=True)
    return done.stdout.split(")", 1)[-1].split()[0]


def unprivileged_account() -> dict[str, Any]:
    """How to start a process as somebody else, when we are root; nothing otherwise."""
    if os.geteuid() != 0:
        return {}
    for name in USERS:
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise RuntimeError(f"PostgreSQL does not run as root and none of the users {USERS} exists; run as another user")


def binary(name: str) -> str:
    """A PostgreSQL program: from PATH, or the newest one where Debian keeps them."""
    if found := shutil.which(name):
        return found
    candidates = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    if not candidates:
        raise RuntimeError(f"no {name} found: install the PostgreSQL server package, or put its bin directory on PATH")
    return str(candidates[-1])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
