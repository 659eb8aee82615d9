"""JSON as the only codec: data in, data out, no type tags, no code.

Everything the journal holds passes through `encode`; everything read back passes through `decode`.
What JSON cannot say (lone surrogates, arbitrary objects) is refused when it is written, not when
somebody needs it back. NaN and the infinities travel as the strings pydantic reads back as floats.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, TypeAlias

from pydantic_core import PydanticSerializationError, from_json, to_json, to_jsonable_python

from perdure.errors import NotJsonError

#: Any value JSON can hold. Containers hold `Any` so that user code needs no casts.
Json: TypeAlias = "bool | int | float | str | list[Any] | dict[str, Any] | None"


def encode(value: Any) -> str:
    """The JSON text of `value`; pydantic models, dataclasses, dates and decimals become plain JSON.

    Raises NotJsonError, naming the offending type, for what has no JSON form.
    """
    try:
        text = to_json(value, inf_nan_mode="strings").decode()
        if len(text) > _DIGITS_MAX and _LONG_NUMBER.search(text):
            from_json(text)
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise NotJsonError(f"{type(value).__name__} has no JSON form: {error}") from error
    return text


def encode_given(value: Any) -> str:
    """`encode`, for what users and tools hand in: also refuses what nests so deep that no journal could give it back.

    `decode` reads about 200 levels, and events wrap a few of their own around a value.
    """
    text = encode(value)
    if text.count("[") + text.count("{") > _NESTED_SURELY_FINE:
        try:
            from_json("[" * _WRAPPED_MAX + text + "]" * _WRAPPED_MAX)
        except ValueError as error:
            raise NotJsonError(f"{type(value).__name__} is nested too deep for a journal: {error}") from None
    return text


#: Digits of the longest integer that `decode` reads.
_DIGITS_MAX = 4300
_LONG_NUMBER = re.compile(rf"[0-9]{{{_DIGITS_MAX + 1}}}")

#: Brackets below which a text cannot nest too deep: spares the second look.
_NESTED_SURELY_FINE = 150
#: Levels that events, signals and exports may put around a value.
_WRAPPED_MAX = 20


def decode(text: str | bytes) -> Any:
    """The value of a JSON text. Raises ValueError for anything else."""
    return from_json(text, allow_inf_nan=False)


def plain(value: Any) -> Any:
    """`value` as plain JSON data (dicts, lists, strings, numbers), sharing nothing mutable with it."""
    try:
        return to_jsonable_python(value, inf_nan_mode="strings")
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise NotJsonError(f"{type(value).__name__} has no JSON form: {error}") from error


def digest(value: Any) -> str:
    """A stable hash (128 bits, hex) of a value: the same data gives the same text on every machine."""
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
