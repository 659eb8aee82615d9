"""Does an answer fit its question? Checked by JSON Schema, so that anybody can answer without the agent's code."""

from __future__ import annotations

from typing import Any

from perdure.errors import InvalidInput


def check_answer(id: str, schema: dict[str, Any] | None, value: Any) -> None:
    """Raise InvalidInput, saying what is wrong and what would fit, when `value` does not fit `schema`."""
    if not schema:
        return
    from jsonschema import Draft202012Validator  # noqa: PLC0415 - 60 ms that only an answer needs
    from jsonschema.exceptions import SchemaError, UnknownType  # noqa: PLC0415
    from referencing import Registry  # noqa: PLC0415
    from referencing.exceptions import Unresolvable  # noqa: PLC0415

    # With a registry of its own, since the default one would fetch whatever URL an imported schema refers to.
    validator = Draft202012Validator(schema, registry=Registry())
    try:
        errors = sorted(validator.iter_errors(value), key=lambda error: list(map(str, error.path)))
    except (SchemaError, UnknownType, Unresolvable, RecursionError) as error:
        raise InvalidInput(f"question {id} cannot check any answer: {type(error).__name__} in its schema") from error
    if errors:
        wrong = "; ".join(f"{'.'.join(map(str, error.path)) or 'value'}: {error.message}" for error in errors[:3])
        raise InvalidInput(f"the answer does not fit question {id}: {wrong}. It wants: {_wanted(schema)}")


def _wanted(schema: dict[str, Any]) -> str:
    properties = schema.get("properties")
    if not properties:
        return str(schema.get("type", "any JSON value"))
    required = schema.get("required", [])
    fields = [
        f"{name}: {part.get('type', 'any')}{'' if name in required else '?'}" for name, part in properties.items()
    ]
    return "{" + ", ".join(fields) + "}"
