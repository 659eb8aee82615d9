"""Arguments become JSON by name and come back as what the annotations promise, sharing nothing with the caller."""

from __future__ import annotations

import functools
import math
import os
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AliasChoices, BaseModel, Field, PlainSerializer, computed_field

from perdure.agents.signature import Signature, adapter_of, schema_of
from perdure.agents.tool import as_tool
from perdure.errors import InvalidInput, InvalidSetting, NotJsonError
from perdure.values.json import decode, encode


class Line(BaseModel):
    """A pydantic model."""

    item: str
    price: Decimal = Decimal(0)


class Renamed(BaseModel):
    """A model whose JSON says other names."""

    user_id: int = Field(alias="userId")
    note: str = Field("", validation_alias="in", serialization_alias="out")
    line: Line = Field(Line(item="pen"), validation_alias=AliasChoices("row", "record"))


class Closed(BaseModel, extra="forbid"):
    """A model that refuses to read one of its own fields."""

    a: int = 1

    @computed_field
    def double(self) -> int:
        """Twice as much."""
        return self.a * 2


class Colour(Enum):
    """An enumeration."""

    RED = "red"


@dataclass
class Point:
    """A dataclass."""

    x: int
    y: list[int]


def everything(
    number: int, ratio: float, price: Decimal, when: datetime, day: date, span: timedelta, id: UUID, line: Line,
    point: Point, colour: Colour, choice: Literal["a", "b"], maybe: int | None, deep: dict[str, list[tuple[int, str]]],
    many: set[int], positive: Annotated[int, Field(gt=0)], anything: Any, *, flag: bool = False,
) -> Line:  # fmt: skip
    """All kinds of types."""
    return line


VALUES: dict[str, Any] = {
    "number": 10**30, "ratio": 1.5, "price": Decimal("0.10"), "when": datetime(2024, 2, 29, 12, tzinfo=UTC),
    "day": date(2024, 2, 29), "span": timedelta(days=1, seconds=5), "id": UUID(int=7), "line": Line(item="pen"),
    "point": Point(1, [2]), "colour": Colour.RED, "choice": "b", "maybe": None, "deep": {"k": [(1, "x")]},
    "many": {3}, "positive": 1, "anything": {"free": [1, None]},
}  # fmt: skip


def nothing() -> None:
    """No parameters."""


def one(item: list[int]) -> None:
    """One parameter."""


def two(item: str, quantity: int = 1) -> None:
    """Two, the second with a default."""


def flexible(first: int, *rest: str, key: float = 1.0, **more: int) -> tuple[Any, ...]:
    """Every kind of parameter."""
    return first, rest, key, more


def test_every_type_makes_the_round_trip():
    """What the callee gets equals what was passed, and its JSON text gives it back."""
    signature = Signature(everything)
    arguments, text = signature.bind(tuple(VALUES.values()), {"flag": True})
    assert arguments == {**VALUES, "flag": True}
    assert signature.validate_json(text) == arguments
    assert type(arguments["line"]) is Line
    assert type(arguments["many"]) is set
    assert signature.call(arguments) == VALUES["line"]


def test_what_is_mutable_is_not_shared():
    """The callee may change its arguments; the caller does not see it, not even through a default."""

    def changing(items: list[int], model: Line, free: Any, kept: list[int] = []) -> None:  # noqa: B006 - that is the point
        """Change everything."""

    items, model, free = [1], Line(item="pen"), {"a": [1]}
    arguments, _ = Signature(changing).bind((items, model, free), {})
    arguments["items"].append(2)
    arguments["model"].item = "ink"
    arguments["free"]["a"].append(2)
    arguments["kept"].append(2)
    assert (items, model.item, free) == ([1], "pen", {"a": [1]})
    assert Signature(changing).bind((items, model, free), {})[0]["kept"] == []


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, "missing a required argument: 'item'"),
        (("a", 1, 2), {}, "too many positional arguments"),
        (("a",), {"item": "b"}, "multiple values for argument 'item'"),
        (("a",), {"qty": 1}, "unexpected keyword argument 'qty'"),
        (("a", "many"), {}, r"quantity: Input should be a valid integer.*got 'many'"),
        ((None,), {}, "item: Input should be a valid string"),
        ((["a"],), {}, "item: Input should be a valid string"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_by_name(args, kwargs, message):
    """The function, the parameter, what is wrong and what was given."""
    with pytest.raises(InvalidInput, match=r"^two.*" + message):
        Signature(two).bind(args, kwargs)


def test_a_keyword_only_parameter_is_not_taken_by_position():
    """As Python has it."""

    def strict(a: int, *, b: int) -> int:
        """Take b by name."""
        return a - b

    with pytest.raises(InvalidInput, match="too many positional"):
        Signature(strict).bind((1, 2), {})
    assert Signature(strict).call(Signature(strict).bind((3,), {"b": 2})[0]) == 1


def test_variable_parameters_are_a_list_and_an_object():
    """`ctx.step` takes any function."""
    signature = Signature(flexible)
    arguments, text = signature.bind((1, "x", "y"), {"key": 2.0, "more": 3})
    assert decode(text) == {"first": 1, "rest": ["x", "y"], "key": 2.0, "more": {"more": 3}}
    assert signature.call(arguments) == (1, ("x", "y"), 2.0, {"more": 3})
    with pytest.raises(InvalidInput, match=r"rest\.1"):
        signature.bind((1, "x", 2), {})


@pytest.mark.parametrize(
    ("function", "args", "name", "result"),
    [
        (os.path.join, ("a", "b"), "join", "a/b"),
        (math.sqrt, (4.0,), "sqrt", 2.0),
        (functools.partial(flexible, 1, key=0.5), ("x",), "flexible", (1, ("x",), 0.5, {})),
        ("abc".upper, (), "str.upper", "ABC"),
        (lambda x: x + 1, (1,), "<lambda>", 2),
    ],
)
def test_any_callable_is_a_step_with_a_name_that_lasts(function, args, name, result):
    """Built-ins, partials, bound methods, lambdas: a name with an address in it would not replay."""
    step = as_tool(function)
    assert step.name == name
    assert step.signature.call(step.signature.bind(args, {})[0]) == result


def test_a_callable_object_has_the_name_and_the_types_of_its_class():
    """Async or not."""

    class Greeter:
        async def __call__(self, who: str) -> int:
            """Greet."""
            return len(who)

    step = as_tool(Greeter())
    assert step.name.endswith("Greeter.__call__")
    assert step.is_async
    with pytest.raises(InvalidInput):
        step.signature.bind((1,), {})


def test_a_function_that_does_not_say_what_it_takes_is_refused():
    """Some built-ins have no signature."""
    with pytest.raises(InvalidSetting, match="dict does not say what it takes"):
        Signature(dict)


@pytest.mark.parametrize("name", ["json", "copy", "schema", "self_", "_x", "model_config", "validate", "fields", "cls"])
def test_parameters_may_have_any_name(name):
    """Also names that pydantic's models use themselves."""
    function = eval(f"lambda {name}, other=2: ({name}, other)")
    signature = Signature(function)
    arguments, text = signature.bind(({"a": 1},), {})
    assert decode(text) == {name: {"a": 1}, "other": 2}
    assert signature.call(arguments) == ({"a": 1}, 2)
    assert decode(signature.from_json({name: 1})) == {name: 1, "other": 2}
    assert list(signature.input_schema()["properties"]) == [name, "other"]


def test_a_default_of_none_means_that_none_will_do():
    """However the annotation puts it."""

    def casual(item: str = None) -> None:  # type: ignore[assignment]  # noqa: RUF013 - people write this
        """Say None without saying so."""

    assert Signature(casual).bind((), {})[0] == {"item": None}


def test_annotations_that_cannot_be_resolved_say_where_to_import_them():
    """They are strings here, and looked up when first needed."""

    def lost(item: Nowhere) -> None:  # type: ignore[name-defined]  # noqa: F821
        """Take what nobody knows."""

    with pytest.raises(InvalidSetting, match="lost: name 'Nowhere' is not defined"):
        Signature(lost).bind(({},), {})


# Input as people write it.


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [
        (nothing, None, "{}"),
        (nothing, {}, "{}"),
        (one, [1, 2], '{"item":[1,2]}'),
        (one, {"item": ["1"]}, '{"item":[1]}'),
        (two, {"item": "pen"}, '{"item":"pen","quantity":1}'),
        (two, {"item": "pen", "quantity": "2"}, '{"item":"pen","quantity":2}'),
    ],
)
def test_input_is_taken_as_people_write_it(function, value, text):
    """The value itself for one parameter, an object by name for several, nothing for none."""
    assert Signature(function).from_json(value) == text


def test_one_parameter_with_a_default_may_be_left_out():
    """And an explicit null is a value where null is one."""

    def optional(item: int = 3) -> None:
        """Take a number or nothing."""

    def nullable(item: int | None = 3) -> None:
        """Take null, too."""

    assert Signature(optional).from_json(None) == '{"item":3}'
    assert Signature(nullable).from_json(None) == '{"item":null}'


@pytest.mark.parametrize(
    ("function", "value", "message"),
    [
        (nothing, 1, "must be a JSON object with nothing"),
        (nothing, {"a": 1}, "unknown parameter a"),
        (one, {"other": [1]}, "item: Input should be a valid array"),
        (one, None, "item: Input should be a valid array"),
        (two, "pen", "must be a JSON object with item, quantity"),
        (two, {"item": "pen", "count": 1}, "unknown parameter count; it takes item, quantity"),
        (two, {}, "item: Field required"),
    ],
)
def test_input_that_does_not_fit_is_refused(function, value, message):
    """With what it takes instead."""
    with pytest.raises(InvalidInput, match=message):
        Signature(function).from_json(value)


# Values JSON has trouble with.


def test_infinities_and_not_a_number_travel_as_text():
    """And are floats again for whoever promises floats."""

    def measure(value: float) -> float:
        """Take a float."""
        return value

    signature = Signature(measure)
    for value in (math.inf, -math.inf, math.nan):
        arguments, text = signature.bind((value,), {})
        assert math.isnan(arguments["value"]) or arguments["value"] == value
        again = signature.validate_json(text)["value"]
        assert type(again) is float
        assert math.isnan(again) or again == value
        result = signature.decode_result(decode(signature.encode_result(value)))
        assert type(result) is float


@pytest.mark.parametrize("value", ["\ud800", {"\udfff": 1}, object(), b"\xff", {1: {object()}}])
def test_what_json_cannot_hold_is_refused_when_it_is_written(value):
    """Lone surrogates, bytes that are no text, arbitrary objects."""

    def free(value: Any) -> Any:
        """Take anything."""

    with pytest.raises(NotJsonError, match="has no JSON form"):
        Signature(free).bind((value,), {})
    with pytest.raises(NotJsonError):
        Signature(free).encode_result(value)


def test_what_refers_to_itself_is_refused():
    """It has no end."""
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(NotJsonError):
        Signature(one).bind((loop,), {})


def test_results_are_held_to_the_promise():
    """Converted where pydantic converts, refused otherwise, naming the function."""

    def promise() -> list[Line]:
        """Promise lines."""
        return []

    signature = Signature(promise)
    text = signature.encode_result([{"item": "pen", "price": "1.50"}])
    assert text == '[{"item":"pen","price":"1.50"}]'
    assert signature.decode_result(decode(text)) == [Line(item="pen", price=Decimal("1.50"))]
    with pytest.raises(InvalidInput, match=r"promise returned something else than it promises: 0\.item"):
        signature.encode_result([{}])
    with pytest.raises(InvalidInput, match="promises"):
        Signature(nothing).encode_result(1)


def test_results_come_back_whatever_their_fields_are_called_in_json():
    """By name, as they are journaled, and by alias, as a person says them who reads the schema."""

    def renamed() -> Renamed:
        """Promise other names."""
        raise NotImplementedError

    signature = Signature(renamed)
    value = Renamed.model_validate({"userId": 3, "in": "x", "record": {"item": "ink"}})
    text = signature.encode_result(value)
    assert decode(text) == {"user_id": 3, "note": "x", "line": {"item": "ink", "price": "0"}}
    assert signature.decode_result(decode(text)) == value
    assert signature.decode_result({"userId": 3, "in": "x", "row": {"item": "ink"}}) == value
    with pytest.raises(InvalidInput, match=r"renamed: userId: Field required"):
        signature.decode_result({})


def test_a_result_that_its_type_does_not_read_is_written_so_that_it_does_or_refused():
    """Before it is settled: a journal that cannot be read parks its run."""

    def closed() -> list[Closed]:
        """Promise models with a computed field."""
        raise NotImplementedError

    def unreadable() -> Annotated[int, PlainSerializer(lambda value: f"{value} apples")]:
        """Promise what cannot be read."""
        raise NotImplementedError

    signature = Signature(closed)
    text = signature.encode_result([Closed(a=2)])
    assert [value.double for value in signature.decode_result(decode(text))] == [4]
    with pytest.raises(InvalidInput, match=r"unreadable returned something else than it promises: .*'3 apples'"):
        Signature(unreadable).encode_result(3)


def test_types_are_looked_into_once():
    """Adapters and schemas cost more than a step; types without a hash have them, too."""
    assert adapter_of(list[int]) is adapter_of(list[int])
    assert schema_of(list[Line]) is schema_of(list[Line])
    assert adapter_of(Annotated[int, []]).validate_python("1") == 1
    assert schema_of(Annotated[int, []]) == {"type": "integer"}


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(_JSON)
def test_json_goes_in_and_comes_out_the_same(value):
    """Through the arguments and through the result of a function that promises nothing, and its text is stable."""

    def free(value):
        """Promise nothing."""

    signature = Signature(free)
    arguments, text = signature.bind((value,), {})
    assert arguments == {"value": value}
    assert encode(decode(text)) == text
    assert signature.decode_result(decode(signature.encode_result(value))) == value
