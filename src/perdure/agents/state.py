"""`ctx.state` as a dict or as the agent's own pydantic model, over the same stored keys.

The brain encodes the state after the code has run and compares it with what is journaled. So a typed state needs
no hooks at all: the brain reads its fields, whether they were assigned or mutated. They are stored by name, not by
alias, as a dict of the agent's own would be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from perdure.errors import InvalidInput, NotJsonError
from perdure.values.json import encode


def bind_state(stored: Mapping[str, Any], model: type[BaseModel]) -> BaseModel:
    """`stored` as a `model`. Raises InvalidInput when it does not fit."""
    fields = model.model_fields
    aliases = {
        alias: name
        for name in fields
        if isinstance(alias := fields[name].validation_alias, str) and alias not in fields
    }
    # What was stored under an alias, by somebody else, counts until it has been saved by name.
    current = {key: value for key, value in stored.items() if aliases.get(key) not in stored}
    try:
        return model.model_validate_json(encode(current), by_alias=True, by_name=True)
    except ValidationError as error:
        raise InvalidInput(f"the session's state does not fit {model.__name__}: {error}") from None


class FieldsOf(Mapping[str, Any]):
    """The fields of a typed state by name, as they are now; stored keys that the model does not know are kept.

    A field that was deleted is back at its default next time; one that has none cannot be: NotJsonError.
    """

    def __init__(self, typed: BaseModel, stored: Mapping[str, Any]) -> None:
        self._typed = typed
        self._names = type(typed).model_fields
        self._unknown = {name: value for name, value in stored.items() if name not in self._names}

    def __getitem__(self, name: str) -> Any:
        return getattr(self._typed, name) if name in self._names else self._others[name]

    def __iter__(self) -> Iterator[str]:
        yield from self._others
        for name, field in self._names.items():
            if name in self._typed.__dict__:
                yield name
            elif field.is_required():
                model = type(self._typed).__name__
                raise NotJsonError(f"ctx.state.{name} was deleted, but {model} cannot do without it: assign it instead")

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @property
    def _others(self) -> dict[str, Any]:
        extra = self._typed.__pydantic_extra__  # with extra="allow" the model has them all
        return self._unknown if extra is None else extra
