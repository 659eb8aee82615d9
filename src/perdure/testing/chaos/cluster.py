"""Which faults does a cluster meet, and in which databases?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from perdure.testing.chaos.clocks import Clocks
from perdure.testing.chaos.commits import Commits
from perdure.testing.chaos.failovers import Failovers
from perdure.testing.chaos.fault import Fault
from perdure.testing.chaos.kills import Kills
from perdure.testing.chaos.namespaces import Namespaces
from perdure.testing.chaos.partitions import Partitions
from perdure.testing.chaos.restarts import Restarts
from perdure.testing.chaos.zombies import Zombies
from perdure.testing.servers.postgres import PostgresServer

FAULTS: dict[str, type[Fault]] = {
    fault.__name__.lower(): fault
    for fault in (Kills, Zombies, Commits, Restarts, Partitions, Namespaces, Failovers, Clocks)
}

#: What to give as a store where there is none.
_OWN = "postgresql://"


@contextmanager
def cluster(store: str) -> Iterator[str]:
    """The URL of a PostgreSQL where databases can be made: `store` itself, or that of a server of our own."""
    if store != _OWN:
        yield store
        return
    with PostgresServer() as server:
        yield server.url()


@contextmanager
def fault_in(url: str, fault: type[Fault], database: str) -> Iterator[Fault]:
    """`fault`, in a new database beside that of `url`; it is removed unless there is reason to look at it."""
    _execute(url, "drop database if exists {} with (force)", database)  # of an earlier campaign with this seed
    _execute(url, "create database {}", database)
    with closing(fault(urlunsplit(urlsplit(url)._replace(path=f"/{database}")))) as ready:
        yield ready
    _execute(url, "drop database {} with (force)", database)


def _execute(url: str, statement: str, name: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(sql.Identifier(name)))
