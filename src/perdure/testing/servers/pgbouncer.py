"""What does a pooler between a node and its database do to us? PgBouncer in transaction mode, before a server of tests.

Whatever belongs to a session (prepared statements, `set`, `listen`, advisory locks) does not survive a transaction here.
"""

from __future__ import annotations

import shutil
import signal
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Self
from urllib.parse import quote

from perdure.errors import StoreError
from perdure.testing.servers.cluster import USER
from perdure.testing.servers.ports import HOST, Port
from perdure.testing.servers.postgres import PostgresServer
from perdure.testing.servers.process import ServerProcess, temporary_directory, unprivileged_account
from perdure.testing.servers.programs import find_pgbouncer

START_SECONDS_MAX = 20.0

_POLL_SECONDS = 0.01


class PgBouncer:
    """A PgBouncer before all databases of `server`. `settings` are lines of its section [pgbouncer].

    Everybody is let in and becomes the superuser. Raises NotFound where there is no PgBouncer, StoreError when it does
    not start.
    """

    def __init__(self, server: PostgresServer, *, settings: Mapping[str, str] | None = None) -> None:
        self._program = find_pgbouncer()
        self._account = unprivileged_account()
        self._port = Port()
        self._directory = temporary_directory("pgbouncer", self._account)
        self._ini = self._directory / "pgbouncer.ini"
        self._process: ServerProcess | None = None
        ours = {
            "listen_addr": HOST,
            "listen_port": str(self.port),
            "unix_socket_dir": "",
            "auth_type": "any",
            "admin_users": USER,
            "pool_mode": "transaction",
        }
        lines = [f"{name} = {value}" for name, value in (ours | dict(settings or {})).items()]
        target = f"* = host={HOST} port={server.port} user={USER}"
        self._ini.write_text("\n".join(["[databases]", target, "[pgbouncer]", *lines, ""]))

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

    def url(self, database: str = "postgres") -> str:
        """That database of the server, through the pooler; `pgbouncer` is its own console (`show pools`)."""
        return f"postgresql://{USER}@{HOST}:{self.port}/{quote(database, safe='')}"

    def start(self) -> None:
        """Start it and wait until it takes connections; nothing if it runs."""
        if self._process and self._process.alive:
            return
        log = self._directory / "log"
        self._process = ServerProcess([self._program, self._ini], log, self._account, signal.SIGKILL, self._directory)
        deadline = time.monotonic() + START_SECONDS_MAX
        while not self._listens():
            if self._process.ends_within(_POLL_SECONDS) or time.monotonic() > deadline:
                self.kill()
                raise StoreError(f"pgbouncer did not start: {log.read_text(errors='replace').strip()[-2000:]}")

    def kill(self) -> None:
        """SIGKILL: all connections through it break."""
        if self._process:
            self._process.kill()

    def close(self) -> None:
        """End it for good."""
        self.kill()
        self._port.release()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _listens(self) -> bool:
        with suppress(ConnectionRefusedError):
            socket.create_connection((HOST, self.port)).close()
            return True
        return False
