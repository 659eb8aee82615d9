"""What does a transaction have to do with other databases? Notes, parcels and deliveries, in the commit that is open."""

from __future__ import annotations

from collections.abc import Iterator

import apsw

from perdure.errors import AlreadyExists, AlreadySettled, InvalidSetting, ShardMoved
from perdure.store.contract import Transaction
from perdure.store.exchange import Exchange, Note, Parcel
from perdure.store.queries import load_queries

_SQL = load_queries("sqlite", "exchange")


class Exchanges:
    """Checks and writes through one connection, batch by batch."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        #: within a batch: shards that live elsewhere, once somebody asked
        self._moved: set[str] | None = None

    def begin_batch(self) -> None:
        """Another connection may have frozen or opened shards since."""
        self._moved = None

    def refuse_moved(self, work: Transaction) -> None:
        """Raise ShardMoved for what would change a shard that is on its way, or lives elsewhere."""
        if self._moved is None:
            self._moved = {name for (name,) in self._db.execute(_SQL["moved"])}
        if self._moved:
            for shard in self._changed(work):
                if shard in self._moved:
                    raise ShardMoved(f"shard {shard} is in another database, or on its way there", shard=shard)

    def write(self, exchange: Exchange) -> None:
        """Do all of it, or raise a refusal."""
        if exchange.deliver is not None:
            sender, shard, number = exchange.deliver
            self._change("deliver", (shard, sender, number), f"parcel {number} for {shard} was delivered before")
        for shard, number in exchange.unpost:
            self._change("unpost", (shard, number), f"parcel {number} for {shard} is gone: somebody delivered it")
        for note in exchange.notes:
            self._keep(note)
        for parcel in exchange.post:
            self._db.execute(_SQL["post"], (parcel.shard, parcel.sender, parcel.body))

    def _changed(self, work: Transaction) -> Iterator[str]:
        yield from (new.run.shard for new in work.create)
        yield from (signal.shard for signal in work.signals)
        for close in work.close_asks:
            yield from (shard for (shard,) in self._db.execute(_SQL["shard_of_ask"], (close.id,)))
        if work.exchange is not None:
            yield from (note.shard for note in work.exchange.notes)

    def _change(self, query: str, values: tuple[str | int, ...], refusal: str) -> None:
        self._db.execute(_SQL[query], values)
        if not self._db.changes():
            raise AlreadySettled(refusal)

    def _keep(self, note: Note) -> None:
        value = self._db.execute(_SQL["note"], (note.kind, note.name)).get
        if value != note.was:
            raise AlreadyExists(f"{note.kind} {note.name!r} is {value!r}, not {note.was!r}")
        if note.value is None:
            self._db.execute(_SQL["drop_note"], (note.kind, note.name))
        else:
            self._db.execute(_SQL["keep_note"], (note.kind, note.name, note.value, note.shard))


def read_notes(db: apsw.Connection, kind: str, name: str | None) -> dict[str, str]:
    """All notes of a kind, or the one with this name."""
    return {str(found): str(value) for found, value in db.execute(_SQL["notes"], (kind, name))}


def refuse_part(db: apsw.Connection, path: str) -> None:
    """Raise InvalidSetting for one of several databases that is opened alone."""
    if read_notes(db, "home", None) or len(read_notes(db, "member", None)) > 1:
        raise InvalidSetting(
            f"{path} is one of several databases of a store, which is not whole without the others. Give all of them, in "
            f"the order in which the store was made: --store URL,URL. Nothing was changed."
        )


def read_parcels(db: apsw.Connection, limit: int) -> list[Parcel]:
    """What is to be delivered, in order."""
    return [Parcel(*row) for row in db.execute(_SQL["parcels"], (limit,))]
