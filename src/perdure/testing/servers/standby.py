"""What stands in when a PostgreSQL server is lost? A standby: a copy that follows its primary until it is promoted.

with PostgresServer() as primary, Standby(primary) as standby:
    standby.make_synchronous()
    ...
    primary.kill()
    standby.promote()
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import psycopg
from psycopg import conninfo, sql

from perdure.errors import StoreError
from perdure.testing.servers.cluster import USER, run_as
from perdure.testing.servers.ports import HOST
from perdure.testing.servers.postgres import PostgresServer

FOLLOW_SECONDS_MAX = 30.0
PROMOTE_SECONDS_MAX = 60

_STATE = "select (select sync_state from pg_stat_replication where application_name = %s), pg_sleep(0.01)"


class Standby(PostgresServer):
    """A hot standby of a running `primary`, with a port and a directory of its own. Asynchronous at first.

    `name` is how the primary knows it, so no two standbys of a primary share one.
    """

    def __init__(self, primary: PostgresServer, directory: Path | None = None, *, name: str = "standby") -> None:
        super().__init__(directory)
        self.programs = primary.programs
        self.name = name
        self._primary = primary

    def make_synchronous(self) -> None:
        """From here on the primary acknowledges only what this standby has on its disk; if it is gone, nothing."""
        names = sql.Literal(f'FIRST 1 ("{self.name}")')
        with psycopg.connect(self._primary.url(), autocommit=True) as connection:
            connection.execute(sql.SQL("alter system set synchronous_standby_names = {}").format(names))
            connection.execute("select pg_reload_conf()")
            self._await_synchronous(connection)

    def promote(self) -> None:
        """It takes writes when this returns. Make sure that the primary is gone: nothing here keeps the two apart."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            row = connection.execute("select pg_promote(true, %s)", [PROMOTE_SECONDS_MAX]).fetchone()
        if row != (True,):
            raise StoreError(
                f"the standby {self.name!r} was not promoted within {PROMOTE_SECONDS_MAX} s: see {self.log}"
            )

    def _create(self) -> None:
        self.directory.mkdir(mode=0o700)
        if self.account:
            os.chown(self.directory, *self.account)
        # The name must be part of the connection that -R writes down: what postgresql.conf says beside it is not read.
        source = conninfo.make_conninfo(host=HOST, port=self._primary.port, user=USER, application_name=self.name)
        options = ["-R", "-X", "stream", "-c", "fast", "--no-sync", "-d", source]
        run_as(self.account, self.programs / "pg_basebackup", "-D", self.directory, *options)
        # Inherited from a primary that waits for standbys, it would let nobody commit after a promotion.
        self._configure("postgresql.auto.conf", {"synchronous_standby_names": ""})

    def _await_synchronous(self, connection: psycopg.Connection) -> None:
        deadline = time.monotonic() + FOLLOW_SECONDS_MAX
        while True:
            row = connection.execute(_STATE, [self.name]).fetchone()
            if row and row[0] == "sync":
                return
            if time.monotonic() > deadline:
                raise StoreError(
                    f"the standby {self.name!r} did not follow within {FOLLOW_SECONDS_MAX:g} s: see {self.log}"
                )
