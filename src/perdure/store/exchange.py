"""What passes between the databases of a store that is made of several? Notes that they agree by, and parcels.

A transaction holds in one database. What it has for another goes along as a parcel: posted in the same commit,
delivered by anybody afterwards, as often as it takes, and taken once. A store of a single database sees none of this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Note:
    """One fact that is written only if it was `was` before: compare and set. None: there is no such note."""

    #: "member", "place", "key", "move", ...
    kind: str
    name: str
    value: str | None
    was: str | None = None
    #: the shard it is kept with, and moves with
    shard: str = ""


@dataclass(frozen=True, slots=True)
class Parcel:
    """Something for a shard in another database: opaque text, posted by the shard `sender` (or by nobody's: "")."""

    shard: str
    sender: str
    body: str
    #: given by the store: grows with each parcel for the same shard, in the order of their commits
    number: int = 0


class Delivery(NamedTuple):
    """What makes a delivery happen once: the parcel's number, among those that one database posts for one shard."""

    #: id of the database that posted it
    sender: str
    shard: str
    number: int


@dataclass(frozen=True, slots=True)
class Exchange:
    """What a transaction has to do with other databases; it may come without a fence.

    Refusals: AlreadyExists (a note is not what it `was`), AlreadySettled (the parcel is gone, or was delivered before,
    or a later one of its sender and shard was).
    """

    notes: Sequence[Note] = ()
    post: Sequence[Parcel] = ()
    #: (shard, number) of parcels that were delivered
    unpost: Sequence[tuple[str, int]] = ()
    #: this transaction is what that parcel holds; a signal for a run that is still on its way is kept as it is given
    deliver: Delivery | None = None
