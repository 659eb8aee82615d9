"""What does an error of the driver mean? A lost connection, a busy or full server, a refusal, or our own mistake.

SQLSTATE codes: https://www.postgresql.org/docs/current/errcodes-appendix.html. Ours begin with PD (sql/postgres/).
"""

from __future__ import annotations

import re

import psycopg

from perdure.errors import StoreBusy, StoreCorrupt, StoreError, StoreFull, StoreReadOnly

#: Our functions' own refusals.
FENCED, ASK_CLOSED, SIGNAL_GONE, RUN_ENDED = "PD001", "PD002", "PD003", "PD004"
SHARD_MOVED, NOTE_CHANGED, PARCEL_GONE = "PD005", "PD006", "PD007"
REFUSALS = frozenset({FENCED, ASK_CLOSED, SIGNAL_GONE, RUN_ENDED, SHARD_MOVED, NOTE_CHANGED, PARCEL_GONE})
#: Another try of the same batch has been committed: to be looked up.
COMMITTED_BEFORE = "PD000"

#: A time limit, or somebody, has ended a statement.
CANCELLED = "57014"
NOT_ALLOWED = "42501"
_UNIQUE_VIOLATION = "23505"
#: A value does not fit, a row collides, too much at once: a transaction by itself is at fault.
_AT_FAULT = frozenset({"22", "23", "54"})
#: Two nodes waited for each other: one of them was undone and may simply try again.
_TRY_AGAIN = frozenset({"40001", "40P01", COMMITTED_BEFORE})
#: Shut down, crashed or starting up; a standby; too many connections; cancelled by a time limit.
_AWAY = frozenset({"57P01", "57P02", "57P03", "57P05", "25006", "25P03", "25P04", "53300", CANCELLED, "55P03"})
_DISK_FULL, _IO_ERROR = "53100", "58030"
_DISK = frozenset({_DISK_FULL, _IO_ERROR})

# While a connection is being made there is no code, only what the server (or PgBouncer) says, in English by default.
_NO_DATABASE = re.compile(r'database ".*" does not exist|no such database')
_NOT_LET_IN = re.compile(
    r"authentication failed|no password supplied|pg_hba\.conf|role \".*\" does not exist|no such user|"
    r"not permitted to log in|permission denied for database"
)


def is_collision(error: psycopg.Error) -> bool:
    """A row with that key is there already."""
    return error.sqlstate == _UNIQUE_VIOLATION


def is_refusal(error: psycopg.Error) -> bool:
    """One of the transactions cannot be accepted; the others may."""
    code = error.sqlstate
    if code is None:  # the driver's own word, before anything was sent
        return isinstance(error, (psycopg.DataError, psycopg.ProgrammingError))
    return code in REFUSALS or code[:2] in _AT_FAULT


def is_undone(error: BaseException) -> bool:
    """Nothing happened by this try, and nothing speaks against another at once."""
    return isinstance(error, psycopg.Error) and error.sqlstate in _TRY_AGAIN


def is_away(error: BaseException) -> bool:
    """The server, or the way to it, is not there at the moment."""
    if isinstance(error, (TimeoutError, OSError)):
        return True
    if not isinstance(error, psycopg.Error):
        return False
    if error.sqlstate is None:
        said = str(error)
        return isinstance(error, psycopg.OperationalError) and not (
            _NOT_LET_IN.search(said) or _NO_DATABASE.search(said)
        )
    return error.sqlstate in _AWAY or error.sqlstate[:2] == "08"


def is_servers(error: psycopg.Error) -> bool:
    """Not of a statement's making."""
    return is_away(error) or is_undone(error) or error.sqlstate in _DISK


def store_error(error: BaseException, place: str) -> StoreError:
    """What to tell of a failure, in one line; `place` names the database without its password."""
    code = getattr(error, "sqlstate", None) or ""
    said = _said(error)
    if is_away(error):
        return StoreBusy(f"{place} cannot be reached: {said}. Work goes on by itself once it is back.")
    if is_undone(error):
        return StoreBusy(f"{place}: others were in the way ({said}). Work goes on by itself.")
    if code == _DISK_FULL:
        return StoreFull(f"{place}: its disk is full ({said}). Work goes on by itself once there is room.")
    if code[:2] == "XX":
        return StoreCorrupt(f"{place}: the database is damaged: {said}. Restore it from a backup (docs/cluster.md).")
    if code == NOT_ALLOWED:
        return StoreReadOnly(f'{place}: {said}. Give the role what docs/cluster.md lists ("Roles").')
    if not code and _NO_DATABASE.search(said):
        return StoreError(f"{place}: {said}. Create it: createdb NAME.")
    if not code and _NOT_LET_IN.search(said):
        return StoreError(f"{place}: {said}. Check user and password in --store or PERDURE_STORE.")
    return StoreError(f"{place}: {type(error).__name__}: {said}")


def _said(error: BaseException) -> str:
    """The first line, without what the driver says around the server's own words."""
    line = str(error).strip().partition("\n")[0] or type(error).__name__
    return line.rpartition("FATAL:")[2].strip().removeprefix("connection failed: ").rstrip(".")
