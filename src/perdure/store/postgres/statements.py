"""How does a user's SQL run in our transaction without reaching our tables? It is read, and translated, first.

It may use its own tables and make new ones. It may not name anything of ours (what begins with `perdure`), end the
transaction, change settings, outstay its time, or make or call code that could. What cannot be read beyond doubt is
refused. Parameters are written as everywhere in Perdure, `?` or `:name`, so that the same agent runs on every store; a
question mark that is an operator is written `??`.

This keeps tools from mistakes. Against SQL that means harm use a role without rights on the schema (docs/cluster.md).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Sequence
from typing import Any

import psycopg
from psycopg.types.json import Json

from perdure.errors import StatementFailed
from perdure.store.contract import Statement
from perdure.store.postgres import failures
from perdure.store.postgres.connections import REQUEST_SECONDS, Connection

#: How long a step's statements may run or wait for locks: nothing else of its node is committed meanwhile.
STATEMENTS_SECONDS = 3.0

#: How a statement may begin. What it makes, changes or drops holds data, not code, and outlives no session.
_BEGINNING = re.compile(
    r"(?:select|insert|update|delete|merge|with|values|table|truncate|comment)\b"
    r"|create (?:or replace )?(?:unlogged )?(?:recursive )?(?:table|view)\b"
    r"|(?:create|alter|drop) (?:unique )?(?:materialized )?(?:table|view|index|sequence|type|domain|schema)\b"
)
_FORBIDDEN_WORDS = re.compile(
    r"(?<!insert )(?<!merge )into (?:local |global )?temp(?:orary)?\b"  # a table that the session would keep
    r"|as execute\b"  # a prepared statement, perhaps of ours
)
#: Functions of these families run SQL or programs, read files, steer the server or hold locks beyond the transaction.
_FORBIDDEN_NAMES = re.compile(
    r"perdure|pg_(?!(?:catalog|typeof|notify|sleep|column_size|get_serial_sequence|(?:try_)?advisory_xact_lock\w*)$)"
    r"|dblink|lo_|(?:table|query|cursor|schema|database)_to_xml|set_config$|setval$|ts_stat$|ts_rewrite$"
)
_CLEAN = "close all; reset session authorization; reset role; reset all; discard temp; select pg_advisory_unlock_all()"
#: Tokens as PostgreSQL cuts them: whatever is not ASCII belongs to names, names hold `$`, only an E'' knows backslashes.
_TOKEN = re.compile(
    r"""(?P<text>  [eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*'
                 | (?P<tag>\$(?:[a-zA-Z_\x80-\U0010ffff][\w\x80-\U0010ffff]*)?\$).*?(?P=tag) )
      | (?P<doubt> [uU]&" | [0-9][\w.\x80-\U0010ffff]*['"$] )
      | (?P<name>  "(?:[^"]|"")+" | [a-zA-Z_\x80-\U0010ffff][\w$\x80-\U0010ffff]* )
      | (?P<note>  --[^\n\r]* | /\*(?:(?!/\*|\*/).)*\*/ )
      | (?P<open>  ['"] | /\* | \*/ | \$(?=[a-zA-Z_\x80-\U0010ffff$]) )
      | (?P<mark>  \?\? | \?[0-9]* | :[a-zA-Z_]\w* )
      | (?P<other> :: | := | \$[0-9]+ | [0-9]\w* | . )""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)


async def run_statements(connection: Connection, statements: Sequence[Statement]) -> None:
    """Run them to their ends. Raises StatementFailed, or the driver's error when the database itself failed."""
    if connection.info.parameter_status("standard_conforming_strings") != "on":
        raise _refused("the database must have standard_conforming_strings = on", statements[0])
    now = asyncio.get_running_loop().time
    end = now() + STATEMENTS_SECONDS
    await connection.execute(f"set local statement_timeout = '{STATEMENTS_SECONDS}s'")
    for statement in statements:
        sql, values = translate(statement)
        # Binary: the protocol that takes one statement only.
        await _run(statement, connection.execute(sql, values, prepare=False, binary=True))
        if now() > end:
            raise _refused(f"a step's SQL may take {STATEMENTS_SECONDS:g} seconds", statement)
    # What is deferred would otherwise be refused at the end, and the whole batch with it.
    check = "set constraints all immediate; set constraints all deferred"
    await _run(statements[-1], connection.execute(check))


async def clean(connection: Connection) -> None:
    """End what users' SQL may have left to the session."""
    # Not with `discard all`: the driver would go on using what it has prepared.
    async with asyncio.timeout(REQUEST_SECONDS):
        await connection.execute(_CLEAN)


async def _run(statement: Statement, running: Awaitable[object]) -> None:
    try:
        async with asyncio.timeout(REQUEST_SECONDS):
            await running
    except psycopg.Error as error:
        if failures.is_servers(error) and error.sqlstate != failures.CANCELLED:
            raise
        said = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise _refused(said, statement) from error


def translate(statement: Statement) -> tuple[str, dict[str, Any]]:
    """The statement in the driver's words. Raises StatementFailed for what it may not do."""
    positions = 0
    parts: list[str] = []
    names: list[str] = []
    before = ""
    for token in _TOKEN.finditer(statement.sql):
        text = token[0]
        if token["doubt"] or token["open"]:
            raise _refused(f"{text} begins what does not end, or could be read in two ways", statement)
        if token["text"] and before[:1] in {"e", "E"} and before[-1:] == "'":
            raise _refused("a text that goes on in another line: write it as one", statement)
        if token["name"]:
            _check_name(text, statement)
            names.append(text.casefold())
        if token["mark"] and text.startswith("?") and text != "??":
            positions = int(text[1:] or positions + 1)
            text = f"%(p{positions})s"
        elif token["mark"] and text.startswith(":"):
            text = f"%({text[1:]})s"
        else:
            text = ("?" if text == "??" else text).replace("%", "%%")
        parts.append(text)
        if not token["note"] and not text.isspace():
            before = token[0]
    words = " ".join(names)
    if not _BEGINNING.match(words) or _FORBIDDEN_WORDS.search(words):
        raise _refused(f"a step may not use {' '.join(names[:2]).upper() or 'nothing'}", statement)
    return "".join(parts), _values(statement)


def _check_name(text: str, statement: Statement) -> None:
    name = text.strip('"').casefold()
    if _FORBIDDEN_NAMES.match(name):
        whose = "belongs to Perdure" if name.startswith("perdure") else "is not for steps"
        raise _refused(f"{text} {whose}", statement)


def _values(statement: Statement) -> dict[str, Any]:
    params = statement.params
    named = params if isinstance(params, dict) else {f"p{number}": value for number, value in enumerate(params, 1)}
    return {name: Json(value) if isinstance(value, (dict, list)) else value for name, value in named.items()}


def _refused(reason: str, statement: Statement) -> StatementFailed:
    return StatementFailed(f"{reason}. The statement was: {statement.sql[:200]}")
