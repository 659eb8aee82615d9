"""How does a shard leave these dicts for another database, and how does it come in?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice

from perdure.errors import ShardMoved
from perdure.store.contract import Cursor
from perdure.store.member import MOVING, Delivered, ShardRows, StateRow
from perdure.store.memory.data import Data, Journal, Ownership

#: Later than any moment: nobody claims what is frozen.
_NEVER = 2**62


def freeze(data: Data, shard: str, move: int) -> int:
    """End the shard's epoch for `move`."""
    if data.moves.get(shard, 0) > move:
        raise _passed(shard, move)
    data.moves[shard] = move
    ownership = data.shards.setdefault(shard, Ownership())
    ownership.owner, ownership.expires = f"{MOVING}{move}", _NEVER
    ownership.epoch += 1
    return ownership.epoch


def thaw(data: Data, shard: str, move: int, epoch: int) -> None:
    """Open the shard in an epoch beyond `epoch`."""
    data.shards[shard] = Ownership(max(_frozen(data, shard, move).epoch, epoch) + 1)


def export(data: Data, shard: str, after: Cursor, limit: int) -> tuple[ShardRows, Cursor]:
    """A page of the shard's rows, and where the next begins."""
    start = after if isinstance(after, int) else 0
    page = ShardRows()
    rows = list(islice(_rows(data, shard), start, start + limit))
    for name, row in rows:
        getattr(page, name).append(row)
    return page, start + limit if len(rows) == limit else None


def import_(data: Data, shard: str, move: int, rows: ShardRows) -> None:
    """Add a page."""
    _frozen(data, shard, move)
    for run in rows.runs:
        row = replace(run, seq=0, steps=0)
        data.add(Journal(row, arrival=data.next_arrival(), shared=0, steps=run.steps))
    for event in rows.events:
        data.journals[event.run].events.append(event)
    for signal in rows.signals:
        data.last_signal += 1
        data.signals[data.last_signal] = replace(signal, id=data.last_signal)
    data.asks.update({ask.id: ask for ask in rows.asks})
    for key in rows.state:
        data.state.setdefault((key.agent, key.session), {})[key.name] = key.value
    data.notes.update({(note.kind, note.name): note for note in rows.notes})
    data.delivered.update({(shard, sender): number for sender, number in rows.delivered})


def drop(data: Data, shard: str, move: int) -> None:
    """Forget the shard's rows."""
    _frozen(data, shard, move)
    gone = {id: journal for id, journal in data.journals.items() if journal.row.shard == shard}
    for journal in list(data.journals.values()):
        origin = journal.row.forked_from
        if origin is not None and origin[0] in gone and journal.row.id not in gone:
            _own_all(data, journal)
    for key in _sessions(gone.values()):
        data.state.pop(key, None)
    for journal in gone.values():
        data.remove(journal)
    data.signals = {id: signal for id, signal in data.signals.items() if signal.shard != shard}
    data.asks = {id: ask for id, ask in data.asks.items() if ask.shard != shard}
    data.notes = {key: note for key, note in data.notes.items() if note.shard != shard}
    data.delivered = {key: number for key, number in data.delivered.items() if key[0] != shard}


def _frozen(data: Data, shard: str, move: int) -> Ownership:
    ownership = data.shards.get(shard)
    if ownership is None or ownership.owner != f"{MOVING}{move}":
        raise _passed(shard, move)
    return ownership


def _rows(data: Data, shard: str) -> Iterator[tuple[str, object]]:
    journals = [journal for journal in data.journals.values() if journal.row.shard == shard]
    for journal in journals:
        yield "runs", replace(journal.run, forked_from=None)
        yield from (("events", event) for event in data.events_of(journal))
    yield from (("signals", signal) for signal in data.signals.values() if signal.shard == shard)
    yield from (("asks", ask) for ask in data.asks.values() if ask.shard == shard)
    for agent, session in _sessions(journals):
        state = data.state.get((agent, session), {})
        yield from (("state", StateRow(agent, session, name, value)) for name, value in state.items())
    yield from (("notes", note) for note in data.notes.values() if note.shard == shard)
    delivered = ((key[1], number) for key, number in data.delivered.items() if key[0] == shard)
    yield from (("delivered", Delivered(*row)) for row in delivered)


def _sessions(journals: Iterable[Journal]) -> list[tuple[str, str]]:
    return list(dict.fromkeys(journal.session for journal in journals if journal.session is not None))


def _own_all(data: Data, journal: Journal) -> None:
    """A run that shared a prefix has it as its own from now on."""
    journal.events = data.events_of(journal)
    journal.shared = 0
    journal.row = replace(journal.row, forked_from=None)


def _passed(shard: str, move: int) -> ShardMoved:
    return ShardMoved(f"shard {shard} is not frozen for move {move}: a later one went on with it", shard=shard)
