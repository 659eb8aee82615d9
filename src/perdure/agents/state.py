"""`ctx.state` as a dict or as the agent's own pydantic model, over the same stored keys.

The brain encodes the state after the code has run and compares it with what is journaled. So a typed state needs
no hooks at all: the brain reads its fields, whether they were assigned or mutated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from perdure.errors import InvalidInput
from perdure.values.json import encode


def bind_state(stored: Mapping[str, Any], model: type[BaseModel]) -> BaseModel:
    """`stored` as a `model`. Raises InvalidInput when it does not fit."""
    try:
        return model.model_validate_json(encode(stored))
    except ValidationError as error:
        raise InvalidInput(f"the session's state does not fit {model.__name__}: {error}") from None


class FieldsOf(Mapping[str, Any]):
    """The fields of a typed state by name, as they are now; stored keys that the model does not know are kept."""

    def __init__(self, typed: BaseModel, stored: Mapping[str, Any]) -> None:
        self._typed = typed
        self._names = type(typed).model_fields
        self._others = {name: value for name, value in stored.items() if name not in self._names}

    def __getitem__(self, name: str) -> Any:
        return getattr(self._typed, name) if name in self._names else self._others[name]

    def __iter__(self) -> Iterator[str]:
        yield from self._others
        yield from self._names

    def __len__(self) -> int:
        return len(self._others) + len(self._names)
