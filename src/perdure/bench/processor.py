"""How much CPU have processes used, as Linux tells? A server's are its postmaster and all that it started, ended or not."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psycopg

_PARENT, _OWN, _CHILDREN = 1, slice(11, 13), slice(13, 15)


def cpu_seconds(process: int) -> float:
    """Seconds of CPU of one process, its threads included. Raises OSError when there is no such process."""
    return _seconds(_stat(process)[_OWN])


def servers_cpu_seconds(postmasters: Iterable[int]) -> float:
    """Seconds of CPU of servers with all their processes."""
    return sum(map(_server_cpu_seconds, postmasters))


def find_postmaster(url: str) -> int | None:
    """The first process of the server of this database; None when it is on another machine, or none that tells."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(
            "select pg_backend_pid(), inet_server_addr() is not distinct from inet_client_addr()"
        ).fetchone()
        assert row is not None
        backend, is_here = row
        with suppress(OSError):
            return int(_stat(backend)[_PARENT]) if is_here else None
    return None


def _server_cpu_seconds(postmaster: int) -> float:
    # Those that have ended count for the postmaster, which waited for them.
    total = _seconds(_stat(postmaster)[_OWN]) + _seconds(_stat(postmaster)[_CHILDREN])
    for directory in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            stat = _stat(int(directory.name))
            if int(stat[_PARENT]) == postmaster:
                total += _seconds(stat[_OWN])
    return total


def _stat(process: int) -> list[str]:
    # "PID (NAME) STATE PARENT ...", where NAME may hold anything
    return Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()


def _seconds(ticks: Iterable[str]) -> float:
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
