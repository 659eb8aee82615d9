"""How do Python arguments become JSON by name, and back, checked by the annotations?

One `Signature` per agent or tool. Binding is on the hot path of every step, so arguments whose type is
exactly the annotated scalar skip pydantic: a str for a `str` parameter needs no check and no copy.
Everything else makes the round trip through JSON, so that a step never shares a mutable object with the agent
that called it (the agent would see a change live that no replay could repeat).
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeGuard

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model

from perdure.errors import InvalidInput, InvalidSetting
from perdure.values.json import encode, encode_given

_SCALARS = frozenset({str, int, float, bool, type(None)})


def adapter_of(annotation: Any) -> TypeAdapter[Any]:
    """What checks and converts values of a type; making one costs more than a step, so they are kept."""
    try:
        return _known_adapter(annotation)
    except TypeError:  # annotated with something that has no hash
        return TypeAdapter(annotation)


def schema_of(annotation: Any) -> dict[str, Any]:
    """The JSON Schema of a type. Shared: read it, do not change it."""
    try:
        return _known_schema(annotation)
    except TypeError:  # as above
        return adapter_of(annotation).json_schema()


@functools.lru_cache(maxsize=1024)
def _known_schema(annotation: Any) -> dict[str, Any]:
    return adapter_of(annotation).json_schema()


_known_adapter: Callable[[Any], TypeAdapter[Any]] = functools.lru_cache(maxsize=1024)(TypeAdapter)


def read_as(adapter: TypeAdapter[Any], value: Any, problem: str) -> Any:
    """A journaled JSON value as the adapter's type. Raises InvalidInput: `problem`, and each part that is wrong.

    Results are journaled by field name, while JSON Schemas and so people say the alias: either will do.
    """
    try:
        return adapter.validate_json(encode(value), by_alias=True, by_name=True)
    except ValidationError as error:
        raise InvalidInput(f"{problem}: {_explain(error)}") from None


class Signature:
    """The parameters (without the first `skip`) and the result of a function, as JSON contracts."""

    def __init__(self, function: Callable[..., Any], *, skip: int = 0) -> None:
        self.function = function
        self.name: str = getattr(plain_function(function), "__name__", type(function).__name__)
        try:
            parameters = list(inspect.signature(function).parameters.values())[skip:]
        except ValueError:
            raise InvalidSetting(f"{self.name} does not say what it takes; wrap it in a function of your own") from None
        self.parameters = parameters
        self.names = [parameter.name for parameter in parameters]
        self._shape = inspect.Signature(parameters)
        self._only_by_position = all(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[dict[str, Any], str]:
        """Arguments by name, private to the callee, and their JSON text.

        Raises InvalidInput for arguments that do not fit.
        """
        by_name = self._by_name(args, kwargs)
        text = encode_given(by_name)
        scalars = self._scalar_types  # a list of *args is none of them
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
        optional = all(p.default is not p.empty for p in self.parameters)
        if len(self.names) == 1:
            name = self.names[0]
            try:
                return self._canonical({name: value})
            except InvalidInput:
                if not (value is None and optional) and not (isinstance(value, dict) and set(value) == {name}):
                    raise
        if value is None and optional:
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
        if self._only_by_position:
            return self.function(*before, *by_name.values())
        bound = inspect.BoundArguments(self._shape, by_name)
        return self.function(*before, *bound.args, **bound.kwargs)

    def encode_result(self, value: Any) -> str:
        """The JSON text of a result. Raises InvalidInput when it is not what the function promises."""
        if type(value) is self._scalar_result:
            return encode(value)
        adapter = self.result_adapter
        if adapter is None:
            return encode_given(value)
        try:
            return _encode_legibly(adapter, adapter.validate_python(value))
        except (ValidationError, ValueError) as error:
            reason = _explain(error) if isinstance(error, ValidationError) else str(error)
            raise InvalidInput(f"{self.name} returned something else than it promises: {reason}") from None

    def decode_result(self, value: Any) -> Any:
        """A result from its JSON value, as the annotated type. Raises InvalidInput when it does not fit (any more)."""
        if type(value) is self._scalar_result or self.result_adapter is None:
            return value
        return read_as(self.result_adapter, value, self.name)

    def input_schema(self) -> dict[str, Any]:
        """JSON Schema of the input by name."""
        return self._input_schema

    def output_schema(self) -> dict[str, Any]:
        """JSON Schema of the result."""
        return self.result_adapter.json_schema() if self.result_adapter is not None else {}

    @cached_property
    def result_adapter(self) -> TypeAdapter[Any] | None:
        annotation = self._hints.get("return", Any)
        return None if annotation is Any else adapter_of(annotation)

    def _by_name(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        if not kwargs and self._only_by_position and len(args) == len(self.names):
            return dict(zip(self.names, args, strict=True))
        try:
            bound = self._shape.bind(*args, **kwargs)
        except TypeError as error:
            raise InvalidInput(f"{self.name}({', '.join(self.names)}): {error}") from None
        bound.apply_defaults()
        return bound.arguments

    def _canonical(self, by_name: dict[str, Any]) -> str:
        arguments = self.validate_json(encode_given(by_name))
        return encode(arguments)

    @cached_property
    def _input_schema(self) -> dict[str, Any]:
        return self._model.model_json_schema()

    @cached_property
    def _hints(self) -> dict[str, Any]:
        try:
            return typing.get_type_hints(plain_function(self.function), include_extras=True)
        except NameError as error:
            raise InvalidSetting(f"{self.name}: {error}; import the annotation's names where it is defined") from None

    @cached_property
    def _scalar_types(self) -> dict[str, type]:
        return {name: hint for name, hint in self._hints.items() if name in self.names and _is_scalar(hint)}

    @cached_property
    def _scalar_result(self) -> type | None:
        annotation = self._hints.get("return")
        return annotation if _is_scalar(annotation) else None

    @cached_property
    def _model(self) -> type[BaseModel]:
        fields: dict[str, Any] = {_field(p.name): _checked(p, self._hints.get(p.name, Any)) for p in self.parameters}
        return create_model(self.name, __config__=ConfigDict(arbitrary_types_allowed=True), **fields)


def _is_scalar(annotation: Any) -> TypeGuard[type]:
    return isinstance(annotation, type) and annotation in _SCALARS  # Annotated[...] may not even be hashable


def _field(name: str) -> str:
    # A prefix keeps parameters called `json`, `copy` or `_x` clear of BaseModel's own attributes.
    return f"p_{name}"


def _checked(parameter: inspect.Parameter, annotation: Any) -> tuple[Any, Any]:
    match parameter.kind:
        case inspect.Parameter.VAR_POSITIONAL:
            return list[annotation], Field(default_factory=list, alias=parameter.name)
        case inspect.Parameter.VAR_KEYWORD:
            return dict[str, annotation], Field(default_factory=dict, alias=parameter.name)
    if parameter.default is parameter.empty:
        return annotation, Field(alias=parameter.name)
    if parameter.default is None:
        annotation = typing.Optional[annotation]  # noqa: UP045 - it may be a string or a TypeVar
    return annotation, Field(default=parameter.default, alias=parameter.name)


def plain_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function that has the name and the annotations: of a partial or a callable object, what it calls."""
    while isinstance(function, functools.partial):
        function = function.func
    if hasattr(function, "__name__"):
        return function
    return type(function).__call__


def _encode_legibly(adapter: TypeAdapter[Any], value: Any) -> str:
    """The JSON text of `value`, tried out: settled text that its type cannot read back would park the run for good."""
    text = encode_given(adapter.dump_python(value, mode="json"))
    try:
        adapter.validate_json(text, by_alias=True, by_name=True)
    except ValidationError:
        # Without computed fields, say, which a model that forbids extra ones does not read.
        text = encode_given(adapter.dump_python(value, mode="json", round_trip=True))
        adapter.validate_json(text, by_alias=True, by_name=True)
    return text


def _explain(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(str(part) for part in item['loc']) or 'value'}: {item['msg']} (got {str(item['input'])[:80]!r})"
        for item in error.errors(include_url=False)[:5]
    )
