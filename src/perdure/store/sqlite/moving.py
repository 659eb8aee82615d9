"""How does a shard leave this file for another database, and how does it come in?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import apsw

from perdure.errors import ShardMoved
from perdure.store.contract import Cursor
from perdure.store.exchange import Note
from perdure.store.member import MOVING, Delivered, ShardRows, StateRow
from perdure.store.queries import load_queries
from perdure.store.rows import ask_of, ask_row, run_of, run_row, signal_of, signal_row
from perdure.store.sqlite.journals import Journals
from perdure.store.sqlite.writing import Writing

_SQL = load_queries("sqlite", "moving")
_EXCHANGE = load_queries("sqlite", "exchange")
_COMMIT = load_queries("sqlite", "commit")

#: What is handed over after the runs and their events, in order; and where each begins.
_STAGES: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("signals", (0,)), ("asks", (0,)), ("state", ("", "")), ("notes", ("", "")), ("delivered", ()),
)  # fmt: skip


class _Journal(NamedTuple):
    """How far the journals were handed over: up to event `seq` of a run, or 0 for all of it."""

    key: int
    run: str
    seq: int


class _Place(NamedTuple):
    """How far the rest was: behind the row with these values of its order."""

    stage: int
    values: tuple[Any, ...]


class Moving:
    """Writes through one connection, reads through any. Not for two threads at a time."""

    def __init__(self, db: apsw.Connection, journals: Journals) -> None:
        self._db = db
        self._journals = journals

    def freeze(self, shard: str, move: int) -> int:
        """End the shard's epoch for `move`."""
        with Writing(self._db):
            last = self._db.execute(_SQL["last_move"], (shard,)).get
            if last is not None and last > move:
                raise _passed(shard, move)
            self._db.execute(_SQL["note_move"], (shard, move))
            epoch: int = self._db.execute(_SQL["freeze"], {"shard": shard, "owner": f"{MOVING}{move}"}).get
        return epoch

    def thaw(self, shard: str, move: int, epoch: int) -> None:
        """Open the shard in an epoch beyond `epoch`."""
        with Writing(self._db):
            self._check(shard, move)
            self._db.execute(_SQL["thaw"], {"shard": shard, "epoch": epoch})

    def import_(self, shard: str, move: int, rows: ShardRows) -> None:
        """Add a page."""
        with Writing(self._db):
            self._check(shard, move)
            self._db.executemany(
                _COMMIT["create_run"], [run_row(run, seq=run.seq, steps=run.steps) for run in rows.runs]
            )
            keys = {event.run: self._key(event.run) for event in rows.events}
            self._db.executemany(
                _COMMIT["append"], [self._journals.row(event, keys[event.run]) for event in rows.events]
            )
            self._db.executemany(_COMMIT["put_signal"], [signal_row(signal) for signal in rows.signals])
            self._db.executemany(_COMMIT["open_ask"], [ask_row(ask) for ask in rows.asks])
            self._db.executemany(_COMMIT["set_state"], rows.state)
            self._db.executemany(
                _EXCHANGE["keep_note"], [(note.kind, note.name, note.value or "", note.shard) for note in rows.notes]
            )
            self._db.executemany(_SQL["import_delivered"], [(shard, *row) for row in rows.delivered])

    def drop(self, shard: str, move: int) -> None:
        """Forget the shard's rows."""
        with Writing(self._db):
            self._check(shard, move)
            borrowers: list[Any] = self._db.execute(_SQL["borrowers"], (shard,)).fetchall()
            for fork, key, shared in borrowers:
                events = self._journals.read(self._db, fork, 0, shared)
                self._db.executemany(_COMMIT["append"], [self._journals.row(event, key) for event in events])
                self._db.execute(_SQL["own"], (key,))
            for rows in ("state", "events", "runs", "signals", "asks", "notes", "delivered"):
                self._db.execute(_SQL[f"drop_{rows}"], (shard,))

    def held(self, db: apsw.Connection) -> list[str]:
        """The shards of which there is anything here."""
        return [name for (name,) in db.execute(_SQL["held"])]

    def export(self, db: apsw.Connection, shard: str, after: Cursor, limit: int) -> tuple[ShardRows, Cursor]:
        """A page of the shard's rows, and where the next begins."""
        page = ShardRows()
        if not isinstance(after, _Place):
            at = after if isinstance(after, _Journal) else _Journal(0, "", 0)
            return page, self._export_journals(db, page, shard, at, limit) or _Place(0, _STAGES[0][1])
        name = _STAGES[after.stage][0]
        rows = list(_rows_after(db, name, shard, after.values, limit))
        getattr(page, name).extend(row for _, row in rows)
        if rows and name != "delivered":
            return page, _Place(after.stage, rows[-1][0])
        following = after.stage + 1
        return page, _Place(following, _STAGES[following][1]) if following < len(_STAGES) else None

    def _export_journals(
        self, db: apsw.Connection, page: ShardRows, shard: str, at: _Journal, limit: int
    ) -> _Journal | None:
        while limit > 0:
            if not at.seq:
                row = db.execute(_SQL["runs"], (shard, at.key, 1)).get
                if row is None:
                    return None
                run = run_of(row)
                page.runs.append(replace(run, forked_from=None))
                at = _Journal(row[0], run.id, 0)
            events = self._journals.read(db, at.run, at.seq, limit)
            page.events += events
            # Fewer than there was room for: the next run's turn.
            at = _Journal(at.key, at.run, events[-1].seq if len(events) == limit else 0)
            limit -= len(events) + 1
        return at

    def _check(self, shard: str, move: int) -> None:
        if self._db.execute(_SQL["owner"], (shard,)).get != f"{MOVING}{move}":
            raise _passed(shard, move)

    def _key(self, run: str) -> int:
        key: int = self._db.execute(_SQL["key"], (run,)).get
        return key


def _rows_after(
    db: apsw.Connection, name: str, shard: str, place: tuple[Any, ...], limit: int
) -> Iterator[tuple[tuple[Any, ...], object]]:
    """Rows of one stage, each with the place behind it."""
    match name:
        case "signals":
            for row in db.execute(_SQL["signals"], (shard, *place, limit)):
                yield (row[-1],), signal_of(row)
        case "asks":
            for key, *row in db.execute(_SQL["asks"], (shard, *place, limit)):
                yield (key,), ask_of(row)
        case "state":
            for session in db.execute(_SQL["sessions"], (shard, *place, limit)).fetchall():
                for row in db.execute(_SQL["state"], session):
                    yield session, StateRow(*row)
        case "notes":
            for kind, key, value in db.execute(_SQL["notes"], (shard, *place, limit)):
                yield (kind, key), Note(kind, key, value, shard=shard)
        case _:
            for row in db.execute(_SQL["delivered"], (shard,)):
                yield (), Delivered(*row)


def _passed(shard: str, move: int) -> ShardMoved:
    return ShardMoved(f"shard {shard} is not frozen for move {move}: a later one went on with it", shard=shard)
