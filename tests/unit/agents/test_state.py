"""ctx.state is what was saved and is saved as it is left: by comparison, as a dict or as a model."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, Field

from perdure import Context, agent
from perdure.errors import InvalidInput
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
