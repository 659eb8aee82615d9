"""What a run wants to have written next: events and everything that must commit with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from perdure.store.contract import Ask, AskClose, NewRun, Signal, Statement


class Entry(NamedTuple):
    """An event that has no sequence number and time yet; both are given when it is written."""

    type: str
    step: int | None
    attempt: int | None
    raw: str


class Draft:
    """All or nothing. `after` is called once it is committed; `refused` makes it a draft of its own."""

    __slots__ = (
        "after", "close_asks", "consume", "create", "entries", "open_asks", "refused", "signals", "state", "statements",
    )  # fmt: skip

    def __init__(self, refused: Callable[[Exception], None] | None = None) -> None:
        self.entries: list[Entry] = []
        self.create: list[NewRun] = []
        self.signals: list[Signal] = []
        self.consume: list[int] = []
        self.open_asks: list[Ask] = []
        self.close_asks: list[AskClose] = []
        self.statements: list[Statement] = []
        self.state: dict[str, str | None] = {}
        self.after: list[Callable[[], Any]] = []
        self.refused = refused

    @property
    def empty(self) -> bool:
        """True when there is nothing to write."""
        return not (self.entries or self.signals or self.consume or self.create or self.close_asks)
