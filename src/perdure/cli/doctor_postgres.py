"""What does `doctor` look at in a PostgreSQL database? What loses data, what stops nodes, what makes them slow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from perdure.cli.finding import UPGRADE, Finding, size
from perdure.cli.options import execute
from perdure.cli.output import span
from perdure.errors import PerdureError

if TYPE_CHECKING:
    from perdure.store.postgres.facts import ServerFacts

_VERSION_LEAST = 14
_SLOW_SECONDS = 0.005
#: Wall clocks apart by more than this make timers visibly early or late.
_AHEAD_SECONDS_MOST = 1.0
#: How many connections should be free: what a few more nodes need.
_FREE_LEAST = 20
#: How a commit must end before it is acknowledged, from the weakest on.
_SYNCHRONOUS = ("on", "remote_apply")


def examine(url: str) -> Iterator[Finding]:
    """Everything about the database at `url`, which is not changed."""
    from perdure.store.postgres.facts import read_facts

    try:
        facts = execute(read_facts(url))
    except PerdureError as error:
        yield Finding("store", "fail", str(error))
        return
    yield _store(facts)
    yield _server(facts)
    yield _durability(facts)
    yield _role(facts)
    yield _connections(facts)
    slow = facts.round_trip_seconds > _SLOW_SECONDS
    remedy = "every step waits for one: bring the nodes nearer to the database" if slow else None
    yield Finding("distance", "warn" if slow else "ok", f"one question takes {_ms(facts.round_trip_seconds)}", remedy)
    yield _clock(facts)


def _store(facts: ServerFacts) -> Finding:
    match facts.state:
        case "nothing":
            return Finding("store", "ok", f"none in {facts.place} yet; `perdure run FILE.py:AGENT` makes it")
        case "unreadable":
            remedy = f"give {facts.role} what docs/cluster.md lists (Roles)"
            return Finding("store", "fail", f"{facts.place}: {facts.role} may not read the schema `perdure`", remedy)
        case "foreign":
            found = f"{facts.place}: its schema `perdure` is of something else"
            return Finding("store", "fail", found, "name another database: --store URL")
    found = f"{facts.place}: schema {facts.schema}, {size(facts.size)}"
    if facts.schema > facts.schema_newest:
        return Finding("store", "fail", f"{found}; this Perdure knows schema {facts.schema_newest}", UPGRADE)
    if facts.schema < facts.schema_newest:
        return Finding("store", "warn", found, "perdure db migrate (any node does it by itself)")
    return Finding("store", "ok", found)


def _server(facts: ServerFacts) -> Finding:
    fit = int(facts.version.partition(".")[0]) >= _VERSION_LEAST
    remedy = None if fit else f"Perdure needs PostgreSQL {_VERSION_LEAST} or newer"
    return Finding("postgres", "ok" if fit else "fail", facts.version, remedy)


def _durability(facts: ServerFacts) -> Finding:
    """Does what was acknowledged survive a power cut, and a failover?"""
    settings, standbys = facts.settings, facts.settings.get("synchronous_standby_names", "")
    off = [name for name in ("fsync", "full_page_writes") if settings.get(name) != "on"]
    commit = settings.get("synchronous_commit", "on")
    if commit == "off":
        off.append("synchronous_commit")
    if off:
        remedy = f"postgresql.conf: {', '.join(f'{name} = on' for name in off)}"
        return Finding("durability", "fail", f"{', '.join(off)} off: a crash loses what was acknowledged", remedy)
    if standbys and commit not in _SYNCHRONOUS:
        found = f"synchronous_commit = {commit}: a failover loses what was acknowledged"
        return Finding("durability", "warn", found, "postgresql.conf: synchronous_commit = on")
    kept = f"synchronous with {standbys}" if standbys else "no synchronous standby: a lost disk loses the last commits"
    return Finding("durability", "ok", f"fsync, full_page_writes and synchronous_commit are on; {kept}")


def _role(facts: ServerFacts) -> Finding:
    if facts.superuser:
        remedy = "a role of its own is enough: docs/cluster.md (Roles)"
        return Finding("role", "warn", f"{facts.role} is a superuser", remedy)
    if facts.lacking:
        some = ", ".join(facts.lacking[:4]) + (", ..." if len(facts.lacking) > 4 else "")
        return Finding("role", "fail", f"{facts.role} lacks {some}", "docs/cluster.md (Roles) has the lines")
    if facts.state == "nothing" and not facts.creates:
        found = f"{facts.role} may not create a schema in this database"
        return Finding("role", "fail", found, "perdure db migrate, once, as a role that may: docs/cluster.md (Roles)")
    return Finding("role", "ok", facts.role)


def _connections(facts: ServerFacts) -> Finding:
    found = f"{facts.connections} of {facts.connections_most} in use" + (", through a pooler" if facts.pooled else "")
    few = facts.connections_most - facts.connections < _FREE_LEAST
    remedy = "raise max_connections, or put PgBouncer in between: docs/cluster.md (Pooler)" if few else None
    return Finding("connections", "warn" if few else "ok", found, remedy)


def _clock(facts: ServerFacts) -> Finding:
    ahead = facts.ahead_seconds
    if abs(ahead) > _AHEAD_SECONDS_MOST:
        found = f"the server's clock is {span(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'} this one"
        return Finding(
            "clock", "warn", found, "set both by NTP: timers go by the nodes' clocks, leases by the server's"
        )
    return Finding("clock", "ok", f"within {_ms(abs(ahead))} of the server's")


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.2f} ms"
