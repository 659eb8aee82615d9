"""How does one transaction do what it has to do with other databases? Checks and changes, each with its undoing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from perdure.errors import AlreadyExists, AlreadySettled, ShardMoved
from perdure.store.contract import Transaction
from perdure.store.exchange import Delivery, Exchange, Note, Parcel
from perdure.store.member import MOVING
from perdure.store.memory.data import Data

Undo = Callable[[], object]


def refuse_moved(data: Data, work: Transaction) -> None:
    """Raise ShardMoved for what would change a shard that is on its way, or lives elsewhere."""
    for shard in _changed(data, work):
        ownership = data.shards.get(shard)
        if ownership is not None and (ownership.owner or "").startswith(MOVING):
            raise ShardMoved(f"shard {shard} is in another database, or on its way there", shard=shard)


def exchange(data: Data, work: Exchange, undo: list[Undo]) -> None:
    """Do all of it, or raise a refusal; what was done until then is in `undo`."""
    if work.deliver is not None:
        _deliver(data, work.deliver, undo)
    for shard, number in work.unpost:
        _unpost(data, (shard, number), undo)
    for note in work.notes:
        _keep(data, note, undo)
    for parcel in work.post:
        _post(data, parcel, undo)


def _changed(data: Data, work: Transaction) -> Iterator[str]:
    yield from (new.run.shard for new in work.create)
    yield from (signal.shard for signal in work.signals)
    yield from (data.asks[close.id].shard for close in work.close_asks if close.id in data.asks)
    if work.exchange is not None:
        yield from (note.shard for note in work.exchange.notes)


def _deliver(data: Data, delivery: Delivery, undo: list[Undo]) -> None:
    channel = (delivery.shard, delivery.sender)
    last = data.delivered.get(channel, 0)
    if delivery.number <= last:
        raise AlreadySettled(f"parcel {delivery.number} for {delivery.shard} was delivered before")
    data.delivered[channel] = delivery.number
    undo.append(lambda: data.delivered.update({channel: last}))


def _unpost(data: Data, key: tuple[str, int], undo: list[Undo]) -> None:
    parcel = data.parcels.pop(key, None)
    if parcel is None:
        raise AlreadySettled(f"parcel {key[1]} for {key[0]} is gone: somebody delivered it")
    undo.append(lambda: data.parcels.update({key: parcel}))


def _keep(data: Data, note: Note, undo: list[Undo]) -> None:
    key = (note.kind, note.name)
    kept = data.notes.get(key)
    value = None if kept is None else kept.value
    if value != note.was:
        raise AlreadyExists(f"{note.kind} {note.name!r} is {value!r}, not {note.was!r}")
    if note.value is None:
        data.notes.pop(key, None)
    else:
        data.notes[key] = note
    undo.append(lambda: data.notes.pop(key, None) if kept is None else data.notes.update({key: kept}))


def _post(data: Data, parcel: Parcel, undo: list[Undo]) -> None:
    data.last_parcel += 1
    posted = replace(parcel, number=data.last_parcel)
    key = (posted.shard, posted.number)
    data.parcels[key] = posted
    undo.append(lambda: data.parcels.pop(key))
