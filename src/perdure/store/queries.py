"""Where is the SQL? In sql/<dialect>/*.sql, as named queries; this loads them. It does not build or change any."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

_SQL = Path(__file__).parent / "sql"
_QUERY = re.compile(r"^-- name: (?P<name>\w+)\n(?:--.*\n)*(?P<sql>[^;]+);", re.MULTILINE)


@cache
def load_queries(dialect: str, file: str) -> dict[str, str]:
    """The queries of sql/<dialect>/<file>.sql by name, each on one line."""
    text = (_SQL / dialect / f"{file}.sql").read_text(encoding="utf-8")
    return {found["name"]: " ".join(found["sql"].split()) for found in _QUERY.finditer(text)}


@cache
def load_migrations(dialect: str) -> list[tuple[int, str]]:
    """All migrations as (version, script), oldest first; the number in front of a file's name is its version."""
    files = sorted((_SQL / dialect / "migrations").glob("[0-9]*.sql"))
    return [(int(file.name.partition("_")[0]), file.read_text(encoding="utf-8")) for file in files]
