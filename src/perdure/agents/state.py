"""`ctx.state` as a dict or as the agent's own pydantic model, over the same stored keys.

The brain keeps a dict of values, encodes each after the code has run and compares with what is journaled. So
a typed state only has to keep that dict up to date: its fields *are* the stored values, and assigning an
attribute writes through. Mutating a list inside a field needs no hook, because the comparison sees it.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ValidationError

from perdure.errors import InvalidInput
from perdure.values.json import encode


def bind_state(stored: dict[str, Any], model: type[BaseModel] | None) -> Any:
    """The agent's view of `stored`. Raises InvalidInput when stored state does not fit the model."""
    if model is None:
        return stored
    try:
        typed = model.model_validate_json(encode(stored))
    except ValidationError as error:
        raise InvalidInput(f"the session's state does not fit {model.__name__}: {error}") from None
    view = _writing_through(model, stored)
    bound = view.model_construct(**{name: getattr(typed, name) for name in model.model_fields})
    stored.update({name: getattr(bound, name) for name in model.model_fields})
    return bound


def _writing_through(model: type[BaseModel], stored: dict[str, Any]) -> type[BaseModel]:
    def write_through(self: BaseModel, name: str, value: Any) -> None:
        super(view, self).__setattr__(name, value)
        if name in model.model_fields:
            stored[name] = getattr(self, name)

    view = type(model.__name__, (model,), {"__setattr__": write_through, "__module__": model.__module__})
    return view
