"""How do Python arguments become JSON by name, and back, checked by the annotations?

One `Signature` per agent or tool. Binding is on the hot path of every step, so arguments whose type is
exactly the annotated scalar skip pydantic: a str for a `str` parameter needs no check and no copy.
Everything else makes the round trip through JSON, so that a step never shares a mutable object with the agent
that called it (the agent would see a change live that no replay could repeat).
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from functools import cached_property
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model

from perdure.errors import InvalidInput, InvalidSetting
from perdure.values.json import encode

_SCALARS = frozenset({str, int, float, bool, type(None)})


class Signature:
    """The parameters (without the first `skip`) and the result of a function, as JSON contracts."""

    def __init__(self, function: Callable[..., Any], *, skip: int = 0) -> None:
        self.function = function
        self.name = function.__name__
        parameters = list(inspect.signature(function).parameters.values())[skip:]
        for parameter in parameters:
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise InvalidSetting(
                    f"{self.name}: *{parameter.name} has no name in JSON; take a list or a dict parameter instead"
                )
        self.parameters = parameters
        self.names = [parameter.name for parameter in parameters]
        self._keyword_only = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[dict[str, Any], str]:
        """Arguments by name, private to the callee, and their JSON text.

        Raises InvalidInput for arguments that do not fit.
        """
        by_name = self._by_name(args, kwargs)
        text = encode(by_name)
        scalars = self._scalar_types
        for name, value in by_name.items():
            kind = type(value)
            if kind not in _SCALARS or scalars.get(name) is not kind:
                return self.validate_json(text), text
        return by_name, text

    def validate_json(self, text: str | bytes) -> dict[str, Any]:
        """Arguments by name from a JSON object by name. Raises InvalidInput, naming each field that is wrong."""
        try:
            model = self._model.model_validate_json(text)
        except ValidationError as error:
            raise InvalidInput(f"{self.name}: {_explain(error)}") from None
        return {name: getattr(model, _field(name)) for name in self.names}

    def from_json(self, value: Any) -> str:
        """The JSON text by name of an input as people write it.

        A function with one parameter takes the value itself (or an object with just that name); one with
        several takes an object by name; one with none takes nothing.
        """
        if len(self.names) == 1:
            name = self.names[0]
            try:
                return self._canonical({name: value})
            except InvalidInput:
                if not (isinstance(value, dict) and set(value) == {name}):
                    raise
                return self._canonical(value)
        if value is None and all(p.default is not p.empty for p in self.parameters):
            value = {}
        if not isinstance(value, dict):
            wanted = ", ".join(self.names) or "nothing"
            raise InvalidInput(f"{self.name}: the input must be a JSON object with {wanted}")
        unknown = sorted(set(value) - set(self.names))
        if unknown:
            raise InvalidInput(f"{self.name}: unknown parameter {', '.join(unknown)}; it takes {', '.join(self.names)}")
        return self._canonical(value)

    def call(self, by_name: dict[str, Any], *before: Any) -> Any:
        """Call the function with arguments by name (after the positional `before`)."""
        if not self._keyword_only:
            return self.function(*before, *by_name.values())
        positional = [value for name, value in by_name.items() if name not in self._keyword_only]
        keyword = {name: value for name, value in by_name.items() if name in self._keyword_only}
        return self.function(*before, *positional, **keyword)

    def encode_result(self, value: Any) -> str:
        """The JSON text of a result. Raises InvalidInput when it is not what the function promises."""
        if type(value) is self._scalar_result:
            return encode(value)
        adapter = self.result_adapter
        if adapter is None:
            return encode(value)
        try:
            return encode(adapter.dump_python(adapter.validate_python(value), mode="json"))
        except (ValidationError, ValueError) as error:
            reason = _explain(error) if isinstance(error, ValidationError) else str(error)
            raise InvalidInput(f"{self.name} returned something else than it promises: {reason}") from None

    def decode_result(self, value: Any) -> Any:
        """A result from its JSON value, as the annotated type."""
        if type(value) is self._scalar_result or self.result_adapter is None:
            return value
        return self.result_adapter.validate_json(encode(value))

    def input_schema(self) -> dict[str, Any]:
        """JSON Schema of the input by name."""
        return self._model.model_json_schema()

    def output_schema(self) -> dict[str, Any]:
        """JSON Schema of the result."""
        return self.result_adapter.json_schema() if self.result_adapter is not None else {}

    @cached_property
    def result_adapter(self) -> TypeAdapter[Any] | None:
        annotation = self._hints.get("return", Any)
        return None if annotation is Any else TypeAdapter(annotation)

    def _by_name(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        if not kwargs and not self._keyword_only and len(args) == len(self.names):
            return dict(zip(self.names, args, strict=True))
        bound: dict[str, Any] = dict(zip(self.names, args, strict=False))
        if len(args) > len(self.names) or any(name in bound or name not in self.names for name in kwargs):
            raise InvalidInput(f"{self.name} takes ({', '.join(self.names)}), not {len(args)} values and {list(kwargs)}")
        bound.update(kwargs)
        for parameter in self.parameters:
            if parameter.name not in bound:
                if parameter.default is parameter.empty:
                    raise InvalidInput(f"{self.name}: parameter {parameter.name!r} is missing")
                bound[parameter.name] = parameter.default
        return {name: bound[name] for name in self.names}

    def _canonical(self, by_name: dict[str, Any]) -> str:
        arguments = self.validate_json(encode(by_name))
        return encode(arguments)

    @cached_property
    def _hints(self) -> dict[str, Any]:
        try:
            return typing.get_type_hints(self.function, include_extras=True)
        except NameError as error:
            raise InvalidSetting(f"{self.name}: {error}; import the annotation's names where it is defined") from None

    @cached_property
    def _scalar_types(self) -> dict[str, type]:
        return {name: self._hints[name] for name in self.names if self._hints.get(name) in _SCALARS}

    @cached_property
    def _scalar_result(self) -> type | None:
        annotation = self._hints.get("return")
        return annotation if annotation in _SCALARS else None

    @cached_property
    def _model(self) -> type[BaseModel]:
        fields: dict[str, Any] = {}
        for parameter in self.parameters:
            annotation = self._hints.get(parameter.name, Any)
            default = ... if parameter.default is parameter.empty else parameter.default
            fields[_field(parameter.name)] = (annotation, _aliased(parameter.name, default))
        config = ConfigDict(arbitrary_types_allowed=True, populate_by_name=False)
        return create_model(self.name, __config__=config, **fields)


def _field(name: str) -> str:
    # A prefix keeps parameters called `json`, `copy` or `_x` clear of BaseModel's own attributes.
    return f"p_{name}"


def _aliased(name: str, default: Any) -> Any:
    return Field(default=default, alias=name)


def _explain(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(str(part) for part in item['loc']) or 'value'}: {item['msg']} (got {str(item['input'])[:80]!r})"
        for item in error.errors(include_url=False)[:5]
    )


