"""ctx.state is what was saved and is saved as it is left: by comparison, as a dict or as a model."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import AliasChoices, BaseModel, Field

from perdure import Context, agent
from perdure.errors import InvalidInput, NotJsonError
from tests.unit.journal.driver import Drive
from tests.unit.journal.replaying import check_every_prefix
from tests.unit.journal.scenarios import work


class Line(BaseModel):
    """Part of a basket."""

    item: str
    count: int = 1


class Basket(BaseModel):
    """A typed state."""

    owner: str = "nobody"
    lines: list[Line] = Field(default_factory=list)
    total: float | None = None


class Watched(BaseModel, validate_assignment=True):
    """A typed state that is checked on assignment."""

    count: int = 0


@agent(state=Basket)
async def shopping(ctx: Context, items: list[str]) -> str:
    """Fill a basket: assign fields, and change what is in them."""
    ctx.state.owner = "ann"
    basket = ctx.state
    for item in items:
        basket.lines.append(Line(item=await work(item)))
        basket.lines[0].count += 1
    ctx.state.total = 1.5
    return f"{type(ctx.state).__name__} {isinstance(ctx.state, Basket)} {ctx.state is basket}"


def test_a_typed_state_is_saved_field_by_field():
    """Assignments and changes deep inside alike; the object is an instance of the model itself."""
    drive = Drive(shopping, items=["a", "b"]).start().play()
    assert drive.value == "Basket True True"
    assert drive.saved == {
        "owner": "ann", "lines": [{"item": "A", "count": 3}, {"item": "B", "count": 1}], "total": 1.5,
    }  # fmt: skip
    check_every_prefix(drive)


def test_only_what_changed_is_saved():
    """One event for what happened between two waits, with the keys that differ."""
    drive = Drive(shopping, items=["a"]).start()
    drive.complete(1, "A")
    saves = [event.data["set"] for event in drive.journal if event.type == "state.changed"]
    assert saves == [{"owner": "ann", "lines": [], "total": None}, {"lines": [{"item": "A", "count": 2}], "total": 1.5}]


def test_a_typed_state_is_what_the_session_has_saved():
    """Stored values come back as the model's types; keys that the model does not know are kept."""
    stored = {"owner": "bob", "lines": [{"item": "x", "count": 5}], "total": 2, "older": True}
    drive = Drive(shopping, state=stored, items=["a"]).start().play()
    assert drive.saved["lines"] == [{"item": "x", "count": 6}, {"item": "A", "count": 1}]
    assert drive.saved["older"] is True
    check_every_prefix(drive)


def test_stored_state_that_does_not_fit_the_model_fails_the_run():
    """With the field that does not fit."""
    with pytest.raises(InvalidInput, match=r"does not fit Basket(.|\n)*lines"):
        _ = Drive(shopping, state={"lines": 3}, items=[]).start().value


def test_a_model_that_checks_assignments_works():
    """Pydantic exchanges the whole dict of such a model when a field is assigned."""

    @agent(state=Watched)
    async def counting(ctx: Context) -> Any:
        """Count in text."""
        for _ in range(2):
            ctx.state.count = str(ctx.state.count + 1)
            await work("a")
        return ctx.state.count

    drive = Drive(counting).start().play()
    assert drive.value == 2
    assert drive.saved == {"count": 2}


class Renamed(BaseModel):
    """A typed state whose JSON says another name."""

    count: int = Field(0, alias="Count")
    total: int = Field(0, alias="total")
    others: int = Field(0, validation_alias=AliasChoices("Others", "rest"))


class Open(BaseModel, extra="allow"):
    """A typed state that takes whatever it is given."""

    owner: str
    count: int = 0


@pytest.mark.parametrize(
    ("stored", "expected"), [({}, 1), ({"count": 4}, 5), ({"Count": 6}, 7), ({"Count": 6, "count": 8}, 9)]
)
def test_a_field_with_an_alias_is_saved_and_read_by_name(stored, expected):
    """What was stored under the alias counts until it has been saved."""

    @agent(state=Renamed)
    async def counting(ctx: Context) -> Any:
        """Count."""
        ctx.state.count += 1
        ctx.state.total += ctx.state.others
        return await work("a") and ctx.state.count

    drive = Drive(counting, state={**stored, "total": 1, "others": 2}).start().play()
    assert drive.value == drive.saved["count"] == expected
    assert drive.saved["total"] == 3
    check_every_prefix(drive)


def test_fields_that_a_model_allows_besides_its_own_are_saved():
    """Added, changed and taken away."""

    @agent(state=Open)
    async def adding(ctx: Context) -> Any:
        """Keep whatever comes."""
        ctx.state.note = {"n": 1}
        await work("a")
        ctx.state.note["n"] += 1
        del ctx.state.old
        return ctx.state.kept

    drive = Drive(adding, state={"owner": "ann", "old": 1, "kept": 2}).start().play()
    assert drive.value == 2
    assert drive.saved == {"owner": "ann", "count": 0, "note": {"n": 2}, "kept": 2}
    check_every_prefix(drive)


def test_a_deleted_field_goes_back_to_its_default():
    """One without a default cannot be deleted: that fails the run, and saves nothing that no later run could read."""

    @agent(state=Open)
    async def deleting(ctx: Context, name: str) -> Any:
        """Take a field away."""
        state = ctx.state
        delattr(state, name)
        return await work("a")

    stored = {"owner": "ann", "count": 3}
    drive = Drive(deleting, state=stored, name="count").start().play()
    assert drive.value == "A"
    assert drive.saved == {"owner": "ann"}
    check_every_prefix(drive)
    drive = Drive(deleting, state=stored, name="owner").start()
    with pytest.raises(NotJsonError, match=r"ctx.state.owner was deleted, but Open cannot do without it"):
        _ = drive.value
    assert drive.saved == stored


def test_a_state_that_is_only_read_saves_nothing():
    """Looking is not changing."""

    @agent
    async def reading(ctx: Context) -> Any:
        """Look."""
        await work("a")
        return ctx.state["list"][0]

    drive = Drive(reading, state={"list": [1]}).start().play()
    assert drive.value == 1
    assert "state.changed" not in drive.types


def test_what_goes_away_and_comes_back_between_two_waits_saves_nothing():
    """The comparison is by value."""

    @agent
    async def undecided(ctx: Context) -> None:
        """Take it away and put it back."""
        value = ctx.state.pop("kept")
        ctx.state["kept"] = [*value]
        await work("a")
        del ctx.state["kept"]

    drive = Drive(undecided, state={"kept": [1]}).start()
    assert "state.changed" not in drive.types
    drive.complete(1, "A")
    assert drive.journal[-1].data == {"set": {}, "unset": ["kept"]}
    check_every_prefix(drive)
