"""How do tests get a real PostgreSQL of their own? A server in a directory, started, stopped and killed at will.

    with PostgresServer() as server:
        url = server.create_database("shop")
        server.kill()
        server.start()

Nothing is tuned unless `settings` say so: fsync is on. Standbys are in standby.py.
"""

from __future__ import annotations

import ctypes
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self
from urllib.parse import quote

import psycopg
from psycopg import sql

from perdure.errors import StoreError
from perdure.testing.servers.cluster import USER, create_cluster
from perdure.testing.servers.ports import HOST, Port
from perdure.testing.servers.process import END_SECONDS_MAX, ServerProcess, temporary_directory, unprivileged_account
from perdure.testing.servers.programs import find_postgres

START_SECONDS_MAX = 60.0

_POLL_SECONDS = 0.01
_STOPS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
_IPC_RMID = 0


class PostgresServer:
    """A PostgreSQL server on 127.0.0.1, with a port that is its own until `close`.

    `directory` becomes its data directory, or is used as it is if it holds one; without it the server has a temporary
    one, removed at the end. `settings` are lines of postgresql.conf. Raises NotFound where there is no PostgreSQL (of
    that major `version`), StoreError when it does not start.
    """

    def __init__(
        self, directory: Path | None = None, *, version: int | None = None, settings: Mapping[str, str] | None = None
    ) -> None:
        self.programs = find_postgres(version)
        self.account = unprivileged_account()
        self._temporary = temporary_directory("postgres", self.account) if directory is None else None
        self.directory = directory or self._temporary / "data"  # type: ignore[operator]
        self.log = self.directory.with_name(f"{self.directory.name}.log")
        self._settings = {"dynamic_shared_memory_type": "mmap", **(settings or {})}  # goes when the directory goes
        self._port = Port()
        self._process: ServerProcess | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def port(self) -> int:
        """Where it listens; the same after every start."""
        return self._port.number

    @property
    def pid(self) -> int | None:
        """The process id of its postmaster; None while it is down."""
        return self._process.pid if self._process and self._process.alive else None

    def url(self, database: str = "postgres") -> str:
        """A superuser's way in."""
        return f"postgresql://{USER}@{HOST}:{self.port}/{quote(database, safe='')}"

    def start(self) -> None:
        """Start it and wait until it takes connections; nothing if it runs."""
        if self.pid:
            return
        if not (self.directory / "PG_VERSION").exists():
            self._create()
        command = [self.programs / "postgres", "-D", self.directory, "-h", HOST, "-p", str(self.port), "-k", ""]
        said_before = self.log.stat().st_size if self.log.exists() else 0
        self._process = ServerProcess(command, self.log, self.account, signal.SIGQUIT, self._temporary)
        self._await_ready(self._process, said_before)

    def stop(self, mode: str = "fast") -> None:
        """`fast`: orderly, once its transactions are broken off. `immediate`: as by a crash. `smart`: when all have left."""
        if self._process:
            self._process.signal(_STOPS[mode])
            if not self._process.ends_within(END_SECONDS_MAX):
                self._process.kill()
                raise StoreError(f"the server in {self.directory} did not stop within {END_SECONDS_MAX:g} s: killed")

    def restart(self, mode: str = "fast") -> None:
        """Stop and start."""
        self.stop(mode)
        self.start()

    def kill(self) -> None:
        """SIGKILL to the postmaster and all its children; returns when they are gone."""
        if self._process:
            self._process.kill()

    def close(self) -> None:
        """End it for good and give back its port and, if it is temporary, its directory."""
        self.stop("immediate" if self._temporary else "fast")
        self._free_memory()
        self._port.release()
        if self._temporary:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def create_database(self, name: str, template: str = "template1") -> str:
        """A new database, a copy of `template`; its URL."""
        self._execute("create database {} template {}", name, template)
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Remove it, whoever is still connected to it."""
        self._execute("drop database if exists {} with (force)", name)

    def _execute(self, statement: str, *names: str) -> None:
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

    def _create(self) -> None:
        create_cluster(self.directory, self.programs, self.account)
        self._configure("postgresql.conf", self._settings)

    def _configure(self, file: str, settings: Mapping[str, str]) -> None:
        """Add settings to a file of settings; the last of a name counts."""
        with (self.directory / file).open("a") as configuration:
            for name, value in settings.items():
                quoted = value.replace("'", "''")
                configuration.write(f"\n{name} = '{quoted}'\n")

    def _await_ready(self, process: ServerProcess, said_before: int) -> None:
        deadline = time.monotonic() + START_SECONDS_MAX
        while not self._ready(process.pid):
            ended = process.ends_within(_POLL_SECONDS)
            if ended or time.monotonic() > deadline:
                self.kill()
                said = self.log.read_bytes()[said_before:].decode(errors="replace").strip()
                raise StoreError(
                    f"the server in {self.directory} {'ended' if ended else 'was not ready in time'}: {said[-2000:]}"
                )

    def _ready(self, pid: int) -> bool:
        """Does it say so in its own file, as pg_ctl asks?"""
        lines = self._pid_file()
        return len(lines) > 7 and int(lines[0]) == pid and lines[7].strip() == "ready"

    def _pid_file(self) -> list[str]:
        with suppress(FileNotFoundError):
            return (self.directory / "postmaster.pid").read_text().splitlines()
        return []

    def _free_memory(self) -> None:
        """Remove the shared memory segment that a killed server left; there are 4096 of them to a machine."""
        lines = self._pid_file()
        if sys.platform == "linux" and len(lines) > 6:
            ctypes.CDLL(None).shmctl(int(lines[6].split()[1]), _IPC_RMID, None)
