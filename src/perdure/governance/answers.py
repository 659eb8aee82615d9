"""Does an answer fit its question? Checked by JSON Schema, so that anybody can answer without the agent's code."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from functools import cache, partial
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pydantic import AnyUrl

from perdure.agents.signature import adapter_of
from perdure.errors import InvalidInput

if TYPE_CHECKING:
    from jsonschema import FormatChecker

#: What a schema calls a format -> what the agent will read the text as.
_FORMATS: dict[str, Any] = {
    "date": date, "date-time": datetime, "time": time, "duration": timedelta, "uuid": UUID, "ipv4": IPv4Address,
    "ipv6": IPv6Address, "uri": AnyUrl,
}  # fmt: skip


def check_answer(id: str, schema: dict[str, Any] | None, value: Any) -> None:
    """Raise InvalidInput, saying what is wrong and what would fit, when `value` does not fit `schema`."""
    if not schema:
        return
    from jsonschema import Draft202012Validator  # noqa: PLC0415 - 60 ms that only an answer needs
    from jsonschema.exceptions import SchemaError, UnknownType  # noqa: PLC0415
    from referencing import Registry  # noqa: PLC0415
    from referencing.exceptions import Unresolvable  # noqa: PLC0415

    # With a registry of its own, since the default one would fetch whatever URL an imported schema refers to.
    validator = Draft202012Validator(schema, registry=Registry(), format_checker=_format_checker())
    try:
        errors = sorted(validator.iter_errors(value), key=lambda error: list(map(str, error.path)))
    except (SchemaError, UnknownType, Unresolvable, RecursionError) as error:
        raise InvalidInput(f"question {id} cannot check any answer: {type(error).__name__} in its schema") from error
    if errors:
        wrong = "; ".join(f"{'.'.join(map(str, error.path)) or 'value'}: {error.message}" for error in errors[:3])
        raise InvalidInput(f"the answer does not fit question {id}: {wrong}. It wants: {_wanted(schema)}")


@cache
def _format_checker() -> FormatChecker:
    # Not the one that comes with jsonschema: without more packages it lets any date-time, time and duration pass.
    from jsonschema import FormatChecker  # noqa: PLC0415 - as above

    checker = FormatChecker(())
    for name, kind in _FORMATS.items():
        checker.checks(name, raises=ValueError)(partial(_reads_as, kind))
    return checker


def _reads_as(kind: Any, value: Any) -> bool:
    if isinstance(value, str):  # a format says nothing about other types
        adapter_of(kind).validate_python(value)
    return True


def _wanted(schema: dict[str, Any]) -> str:
    properties = schema.get("properties")
    if not properties:
        return _kind(schema, "any JSON value")
    required = schema.get("required", [])
    fields = [f"{name}: {_kind(part, 'any')}{'' if name in required else '?'}" for name, part in properties.items()]
    return "{" + ", ".join(fields) + "}"


def _kind(schema: dict[str, Any], otherwise: str) -> str:
    return str(schema.get("format") or schema.get("type", otherwise))
