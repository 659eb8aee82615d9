"""How does a statement that goes out all the time reach the server? Prepared once, with its values encoded in one go.

The driver's cursors work out the types of all values again, element by element, each time: most of what a commit costs
the client. Errors and notices are the driver's own. Not for a pooler's connections, where nothing stays prepared.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import count
from struct import Struct
from typing import TypeAlias

from psycopg import errors, generators
from psycopg.pq import ExecStatus, Format
from psycopg.pq.abc import PGresult
from psycopg.types.json import Jsonb

from perdure.store.postgres.steady import SteadyConnection
from perdure.values.json import encode

Value: TypeAlias = "str | int | list[str] | Jsonb"

#: `%b` takes a list of texts, as a text[]; what `%s` takes the server reads from its text.
_PLACEHOLDER = re.compile(r"%([sb])")
_TEXT_OID = 25
# Of an array: dimensions, whether there are nulls, type of the elements; then elements and first index of its dimension.
_NO_LIST = Struct("!iii").pack(0, 0, _TEXT_OID)
_list_head = Struct("!iiiii").pack
_element_head = Struct("!i").pack


class Prepared:
    """One statement with the driver's placeholders, for any number of connections."""

    def __init__(self, name: str, sql: str) -> None:
        number = count(1)
        self._name = name.encode()
        self._sql = _PLACEHOLDER.sub(lambda _: f"${next(number)}", sql).encode()
        self._formats = [Format.BINARY if kind == "b" else Format.TEXT for kind in _PLACEHOLDER.findall(sql)]

    async def ask(self, connection: SteadyConnection, values: Sequence[Value]) -> str:
        """The one value of its one row, as text. Outside transactions only. Raises the driver's errors, TypeError."""
        encoded = [
            _encode_list(value) if form is Format.BINARY else _encode_text(value)
            for value, form in zip(values, self._formats, strict=True)
        ]
        if self._name not in connection.prepared:
            await self._prepare(connection)
        try:
            result = await self._execute(connection, encoded)
        except errors.InvalidSqlStatementName:
            # The driver drops all that is prepared when it sees a rollback, or a table go.
            await self._prepare(connection)
            result = await self._execute(connection, encoded)
        answer = result.get_value(0, 0)
        return "" if answer is None else answer.decode()

    async def _prepare(self, connection: SteadyConnection) -> None:
        connection.pgconn.send_prepare(self._name, self._sql)
        _check(await connection.wait(generators.execute(connection.pgconn)), ExecStatus.COMMAND_OK)
        connection.prepared.add(self._name)

    async def _execute(self, connection: SteadyConnection, values: list[bytes]) -> PGresult:
        connection.pgconn.send_query_prepared(self._name, values, self._formats)
        return _check(await connection.wait(generators.execute(connection.pgconn)), ExecStatus.TUPLES_OK)


def _check(results: list[PGresult], wanted: ExecStatus) -> PGresult:
    result = results[-1]
    if result.status != wanted:
        raise errors.error_from_result(result)
    return result


def _encode_text(value: Value) -> bytes:
    return (encode(value.obj) if isinstance(value, Jsonb) else str(value)).encode()


def _encode_list(texts: Value) -> bytes:
    if not isinstance(texts, list):
        raise TypeError(f"{type(texts).__name__} is no list")
    if not texts:
        return _NO_LIST
    parts = [_list_head(1, 0, _TEXT_OID, len(texts), 1)]
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"{type(text).__name__} is no text")
        element = text.encode()
        parts += _element_head(len(element)), element
    return b"".join(parts)
