"""How does a shard leave this database for another, and how does it come in?

Whoever freezes a shard waits, by the lock on its row, for all that is being written to it; the epoch that begins with it
is the mover's own, under which pages are added like anybody's work.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

from perdure.errors import ShardMoved, StoreBusy
from perdure.store.contract import Cursor
from perdure.store.exchange import Delivery, Exchange, Note
from perdure.store.member import MOVING, Delivered, ShardRows, StateRow
from perdure.store.postgres.batch import arguments, ask_fields, run_fields, signal_fields
from perdure.store.postgres.connections import Connection, Connections
from perdure.store.postgres.exchange import Crossings
from perdure.store.queries import load_queries
from perdure.store.rows import ask_of, run_of, signal_of
from perdure.values.events import Event

T = TypeVar("T")

_SQL = load_queries("postgres", "moving")
_SHARDS = load_queries("postgres", "shards")
_COMMIT = load_queries("postgres", "commit")

_DROPPED = ("copy_shared", "own_shared", "drop_state", "drop_events", "drop_runs", "drop_signals", "drop_asks",
            "drop_notes", "drop_delivered")  # fmt: skip


class _Stage(NamedTuple):
    """One kind of rows that are handed over, in the order of their first columns."""

    query: str
    rows: str
    #: before the first row
    begin: tuple[Any, ...]
    value: Callable[[Any, str], object]


#: Runs with what they share first: it comes before their own events.
_STAGES = (
    _Stage("runs", "runs", (0,), lambda row, _: replace(run_of(row), forked_from=None)),
    _Stage("shared", "events", ("", 0), lambda row, _: Event(*row)),
    _Stage("events", "events", ("", 0), lambda row, _: Event(*row)),
    _Stage("signals", "signals", (0,), lambda row, _: signal_of(row[1:])),
    _Stage("asks", "asks", (0,), lambda row, _: ask_of(row[1:])),
    _Stage("state", "state", ("", "", ""), lambda row, _: StateRow(*row)),
    _Stage("notes", "notes", ("", ""), lambda row, shard: Note(row[0], row[1], row[2], shard=shard)),
    _Stage("delivered", "delivered", ("",), lambda row, _: Delivered(*row)),
)


class _Place(NamedTuple):
    """How far a shard was handed over: behind the row of a stage that begins with these values."""

    stage: int
    values: tuple[Any, ...]


class Moving:
    """Freezes, opens and copies shards. All methods raise StoreError; ShardMoved where another move went on with it."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def held(self) -> list[str]:
        """The shards of which there is anything here."""
        return [name for (name,) in await self._connections.fetch(_SQL["held"])]

    async def freeze(self, shard: str, move: int) -> int:
        """End the shard's epoch for `move`."""

        async def write(connection: Connection) -> int:
            await connection.execute(_SHARDS["name_shards"], {"shards": [shard]})
            row: Any = await (await connection.execute(_SQL["freeze"], _named(shard, move))).fetchone()
            if row is None:
                raise _passed(shard, move)
            return int(row[0])

        return await self._connections.transact(write)

    async def thaw(self, shard: str, move: int, epoch: int) -> None:
        """Open the shard in an epoch beyond `epoch`. May be repeated."""
        rows = await self._connections.fetch(_SQL["thaw"], {**_named(shard, move), "epoch": epoch})
        # It is open where an earlier try's answer was lost; whoever owns it by now got it by that.
        if not rows and await self._connections.fetch(_SQL["last_move"], (shard,)) != [(move,)]:
            raise _passed(shard, move)

    async def export(self, shard: str, after: Cursor, limit: int) -> tuple[ShardRows, Cursor]:
        """A page of the shard's rows, and where the next begins."""
        page = ShardRows()
        at = after if isinstance(after, _Place) else _Place(0, _STAGES[0].begin)
        for number, stage in enumerate(_STAGES[at.stage :], at.stage):
            begin = at.values if number == at.stage else stage.begin
            values = {f"p{index}": value for index, value in enumerate(begin)}
            rows = await self._connections.fetch(_SQL[stage.query], {**values, "shard": shard, "limit": limit})
            getattr(page, stage.rows).extend(stage.value(row, shard) for row in rows)
            if len(rows) == limit:
                return page, _Place(number, rows[-1][: len(begin)])
            limit -= len(rows)
        return page, None

    async def import_(self, shard: str, move: int, rows: ShardRows) -> None:
        """Add a page."""
        tried = False

        async def write(connection: Connection, epoch: int) -> None:
            nonlocal tried
            if tried:
                # It may be there, and the same signals a second time would be no others. The move is begun again.
                raise StoreBusy(f"{self._connections.place} did not say whether it took a page of shard {shard}")
            tried = True
            await connection.execute(_COMMIT["write"], _page(shard, epoch, rows), binary=True)

        await self._frozen(shard, move, write)

    async def drop(self, shard: str, move: int) -> None:
        """Forget the shard's rows."""

        async def write(connection: Connection, _: int) -> None:
            for query in _DROPPED:
                await connection.execute(_SQL[query], {"shard": shard})

        await self._frozen(shard, move, write, seconds=None)

    async def _frozen(
        self, shard: str, move: int, work: Callable[[Connection, int], Awaitable[T]], **options: Any
    ) -> T:
        """Do `work` in the epoch of a shard that `move` has frozen."""

        async def write(connection: Connection) -> T:
            row: Any = await (await connection.execute(_SQL["frozen"], _named(shard, move))).fetchone()
            if row is None:
                raise _passed(shard, move)
            return await work(connection, row[0])

        return await self._connections.transact(write, **options)


def _page(shard: str, epoch: int, rows: ShardRows) -> list[Any]:
    """The arguments of write_1 for a page."""
    crossings = Crossings()
    crossings.add(Exchange(notes=rows.notes))
    for sender, number in rows.delivered:
        crossings.add(Exchange(deliver=Delivery(sender, shard, number)))
    work = {
        "creates": [run_fields(run, run.seq, run.steps) for run in rows.runs],
        "signals": [signal_fields(signal, delivered=True) for signal in rows.signals],
        "asks": [ask_fields(ask) for ask in rows.asks],
        "state": [{**row._asdict(), "shard": shard} for row in rows.state],
        **crossings.rows(),
    }
    events = [(shard, event) for event in rows.events]
    return arguments({shard: epoch}, events, {name: listed for name, listed in work.items() if listed})


def _named(shard: str, move: int) -> dict[str, Any]:
    return {"shard": shard, "move": move, "owner": f"{MOVING}{move}"}


def _passed(shard: str, move: int) -> ShardMoved:
    return ShardMoved(f"shard {shard} is not frozen for move {move}: a later one went on with it", shard=shard)
