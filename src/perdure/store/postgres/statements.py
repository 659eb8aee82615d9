"""How does a user's SQL run in our transaction without reaching our tables? It is read, and translated, first.

It may use its own tables and make new ones. It may not name anything of ours (what begins with `perdure`), end the
transaction, change settings or run code that could. Parameters are written as everywhere in Perdure, `?` or `:name`, so
that the same agent runs on every store; a question mark that is an operator is written `??`.

This keeps tools from mistakes. Against SQL that means harm use a role without rights on the schema (docs/cluster.md).
"""

from __future__ import annotations

import re
from typing import Any

import psycopg
from psycopg.types.json import Json

from perdure.errors import StatementFailed
from perdure.store.contract import Statement
from perdure.store.postgres.connections import Connection
from perdure.store.postgres.failures import is_away, is_undone

#: What may begin a statement; the rest ends transactions, changes settings, or runs code that might.
_ALLOWED = frozenset(
    {"select", "insert", "update", "delete", "merge", "with", "values", "table", "create", "alter", "drop", "truncate",
     "comment"}
)  # fmt: skip
_TOKEN = re.compile(
    r"""(?P<text>  [eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | (?P<tag>\$\w*\$).*?(?P=tag) )
      | (?P<name>  "(?:[^"]|"")*" | [^\W\d]\w* )
      | (?P<mark>  \?\? | \?\d* | ::? (?:[^\W\d]\w*)? )
      | (?P<note>  --[^\n]* | /\*.*?\*/ )
      | (?P<other> \$\d+ | \d\w* | . )""",
    re.VERBOSE | re.DOTALL,
)
#: Ways around what is read here.
_FORBIDDEN_NAMES = frozenset({"set_config", "dblink", "query_to_xml", "pg_read_file", "pg_terminate_backend"})


async def run_statement(connection: Connection, statement: Statement) -> None:
    """Run it to its end. Raises StatementFailed, or the driver's error when the database itself failed."""
    try:
        sql, values = translate(statement)
        # Binary: the protocol that takes one statement only.
        await connection.execute(sql, values, prepare=False, binary=True)
    except psycopg.Error as error:
        if is_away(error) or is_undone(error):
            raise
        raise StatementFailed(f"{error.__class__.__name__}: {error}. The statement was: {statement.sql[:200]}") from error
    if connection.info.transaction_status != psycopg.pq.TransactionStatus.INTRANS:
        raise psycopg.OperationalError("a statement has ended the transaction")


def translate(statement: Statement) -> tuple[str, dict[str, Any]]:
    """The statement in the driver's words. Raises StatementFailed for what it may not do."""
    first = ""
    positions = 0
    parts = []
    for token in _TOKEN.finditer(statement.sql):
        text = token[0]
        if token["name"]:
            first = first or text.casefold()
            _check_name(text, statement)
        elif token["mark"] and text[0] == "?" and text != "??":
            positions = int(text[1:] or positions + 1)
            text = f"%(p{positions})s"
        elif token["mark"] and text[0] == ":" and text[1:2] not in {"", ":"}:
            text = f"%({text[1:]})s"
        else:
            text = ("?" if text == "??" else text).replace("%", "%%")
        parts.append(text)
    if first not in _ALLOWED:
        raise _refused(f"a step may not use {first.upper() or 'nothing'}", statement)
    return "".join(parts), _values(statement)


def _check_name(text: str, statement: Statement) -> None:
    name = text.strip('"').casefold()
    if name.startswith("perdure"):
        raise _refused(f"{text} belongs to Perdure", statement)
    if name in _FORBIDDEN_NAMES:
        raise _refused(f"a step may not use {text}", statement)


def _values(statement: Statement) -> dict[str, Any]:
    params = statement.params
    named = params if isinstance(params, dict) else {f"p{number}": value for number, value in enumerate(params, 1)}
    return {name: Json(value) if isinstance(value, (dict, list)) else value for name, value in named.items()}


def _refused(reason: str, statement: Statement) -> StatementFailed:
    return StatementFailed(f"{reason}. The statement was: {statement.sql[:200]}")
