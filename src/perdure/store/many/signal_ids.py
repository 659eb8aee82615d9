"""How is a signal's id made unique over several databases? Each has numbers of its own; the database goes into them."""

from __future__ import annotations

from dataclasses import replace

from perdure.store.contract import Signal

#: More databases than a store can have.
_MEMBERS_MAX = 1024


def given_id(signal: Signal, place: int) -> Signal:
    """A signal of database `place` as it is known outside."""
    return replace(signal, id=outer_id(signal.id, place))


def outer_id(id: int, place: int) -> int:
    """The id outside; 0 stays: there is no such signal."""
    return id * _MEMBERS_MAX + place if id else 0


def inner_id(id: int) -> int:
    """The id in its database."""
    return id // _MEMBERS_MAX
