"""What must a store do beyond the contract to be one of several databases? Keep notes and parcels, and hand shards over.

A shard's world is handed over as plain rows. While it is on its way it is frozen on both sides, under the number of
the move: whoever continues a move that is not the last one is refused, so a mover that was asleep can spoil nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from perdure.store.contract import Ask, Cursor, Signal, Store
from perdure.store.exchange import Note, Parcel
from perdure.values.events import Event
from perdure.values.runs import Run

#: Who owns a shard that is frozen: nobody can claim it. Behind it stands the number of the move.
MOVING = "move:"


class StateRow(NamedTuple):
    """One key of a session's state."""

    agent: str
    session: str
    name: str
    #: JSON text
    value: str


class Delivered(NamedTuple):
    """Up to which number the parcels of one database for the shard were delivered."""

    sender: str
    number: int


@dataclass(slots=True)
class ShardRows:
    """A page of a shard's world. A run comes before its events, and both before what follows from them."""

    #: as listed, oldest first; with their whole journals, so they share nothing any more
    runs: list[Run] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    signals: list[Signal] = field(default_factory=list)
    asks: list[Ask] = field(default_factory=list)
    state: list[StateRow] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    delivered: list[Delivered] = field(default_factory=list)


class Member(Store, Protocol):
    """A store that can be one of several databases.

    While a shard is frozen here, or lives elsewhere since, every transaction that would create runs, put signals, close
    asks or keep notes in it is refused with ShardMoved, and nobody can claim it.
    """

    def join(self) -> None:
        """Be opened as one of several. Without this a database that is one of several is refused by its `open`.

        It raises InvalidSetting, where there is a note "home", or more than one note "member": alone, its store would
        not be whole, and what is written there would not be found.
        """

    async def notes(self, kind: str, name: str | None = None) -> dict[str, str]:
        """All notes of a kind, or the one with this name: name -> value."""

    async def parcels(self, limit: int = 500) -> list[Parcel]:
        """What was posted here and is not delivered: per shard in order of their numbers."""

    async def held(self) -> list[str]:
        """The shards of which there are runs here, or that were ever claimed."""

    async def freeze_shard(self, shard: str, move: int) -> int:
        """End the shard's epoch; nothing in it changes from here on, and nobody can claim it. Gives its new epoch.

        An earlier move of the shard cannot go on. What was accepted before is seen by `export_shard`. Raises ShardMoved
        (a later move froze it, however long ago).
        """

    async def thaw_shard(self, shard: str, move: int, epoch: int) -> None:
        """Open the shard for whoever claims it, in an epoch beyond `epoch`. Raises ShardMoved (it is not this move's)."""

    async def export_shard(self, shard: str, after: Cursor = None, limit: int = 500) -> tuple[ShardRows, Cursor]:
        """The next page of about `limit` rows of a frozen shard, and how far that was; a cursor of None is the end."""

    async def import_shard(self, shard: str, move: int, rows: ShardRows) -> None:
        """Add a page to a frozen shard. Raises ShardMoved (it is not this move's)."""

    async def drop_shard(self, shard: str, move: int) -> None:
        """Forget the shard's world, but not that it is frozen. Runs of other shards keep what they share with it.

        Raises ShardMoved (it is not this move's).
        """
