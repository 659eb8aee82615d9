"""What does an error of the driver mean? A lost connection, a busy or full server, a refusal, or our own mistake.

SQLSTATE codes: https://www.postgresql.org/docs/current/errcodes-appendix.html. Ours begin with PD (sql/postgres/).
"""

from __future__ import annotations

import psycopg

from perdure.errors import StoreBusy, StoreCorrupt, StoreError, StoreFull, StoreReadOnly

#: Our functions' own refusals.
FENCED, ASK_CLOSED, SIGNAL_GONE, RUN_ENDED = "PD001", "PD002", "PD003", "PD004"
COMMITTED_BEFORE = "PD000"
REFUSALS = frozenset({FENCED, ASK_CLOSED, SIGNAL_GONE, RUN_ENDED})

#: A row collides, or a value does not fit: a transaction by itself is at fault.
_UNIQUE_VIOLATION = "23505"
#: Two nodes waited for each other: one of them was undone and may simply try again.
_TRY_AGAIN = frozenset({"40001", "40P01"})
#: Shut down, crashed or starting up; a standby; too many connections; cancelled by a time limit.
_AWAY = frozenset({"57P01", "57P02", "57P03", "57P05", "25006", "25P03", "25P04", "53300", "57014", "55P03"})


def is_collision(error: psycopg.Error) -> bool:
    """A row with that key is there already."""
    return error.sqlstate == _UNIQUE_VIOLATION


def is_refusal(error: psycopg.Error) -> bool:
    """One of the transactions cannot be accepted; the others may."""
    code = error.sqlstate or ""
    return code in REFUSALS or code[:2] in {"22", "23"} or isinstance(error, psycopg.DataError)


def is_undone(error: psycopg.Error) -> bool:
    """Nothing happened, and nothing speaks against trying again at once."""
    return error.sqlstate in _TRY_AGAIN


def is_away(error: BaseException) -> bool:
    """The server, or the way to it, is not there at the moment."""
    if isinstance(error, (TimeoutError, OSError)):
        return True
    if not isinstance(error, psycopg.Error):
        return False
    code = error.sqlstate
    return isinstance(error, psycopg.OperationalError) and code is None or code in _AWAY or (code or "")[:2] == "08"


def store_error(error: BaseException, place: str) -> StoreError:
    """What to tell of a failure; `place` names the database without its password."""
    code = getattr(error, "sqlstate", None) or ""
    said = _first_line(error)
    if is_away(error):
        return StoreBusy(f"{place} cannot be reached: {said}. Work goes on by itself once it is back.")
    if code == "53100":
        return StoreFull(f"{place}: its disk is full ({said}). Work goes on by itself once there is room.")
    if code[:2] == "XX":
        return StoreCorrupt(f"{place}: the database is damaged: {said}. Restore it from a backup (docs/cluster.md).")
    if code == "42501":
        return StoreReadOnly(f"{place}: {said}. Give the role what docs/cluster.md lists (\"Roles\").")
    if code in {"28P01", "28000"}:
        return StoreError(f"{place}: {said}. Check user and password in --store or PERDURE_STORE.")
    if code == "3D000":
        return StoreError(f"{place}: {said}. Create it: createdb NAME.")
    return StoreError(f"{place}: {type(error).__name__}: {said}")


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
