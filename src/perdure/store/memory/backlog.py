"""What has the owner of each shard yet to do? Counted anew whenever somebody asks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from perdure.store.contract import Backlog
from perdure.store.memory.data import Data, Journal
from perdure.values.runs import RunStatus

_QUEUED, _DUE, _UNREAD = range(3)


def backlog(data: Data, now: int) -> list[Backlog]:
    """By shard: since when what is queued, due and unread has been so."""
    found: dict[str, tuple[list[int], list[int], list[int]]] = defaultdict(lambda: ([], [], []))
    for shard, kind, since in _todo(data, now):
        found[shard][kind].append(since)
    return [
        Backlog(
            shard, len(queued), min(queued, default=None), len(due), min(due, default=None), len(unread),
            min(unread, default=None),
        )
        for shard, (queued, due, unread) in sorted(found.items())
    ]  # fmt: skip


def _todo(data: Data, now: int) -> Iterator[tuple[str, int, int]]:
    for journal in data.by_status[RunStatus.QUEUED].values():
        if _could_begin(data, journal):
            yield journal.row.shard, _QUEUED, journal.row.created
    for journal in data.by_status[RunStatus.WAITING].values():
        if journal.row.wake_at is not None and journal.row.wake_at <= now:
            yield journal.row.shard, _DUE, journal.row.wake_at
    for signal in data.signals.values():
        addressee = data.journals.get(signal.run or "")
        if addressee is not None and addressee.row.status in (RunStatus.RUNNING, RunStatus.WAITING):
            yield addressee.row.shard, _UNREAD, signal.created


def _could_begin(data: Data, journal: Journal) -> bool:
    paused = (journal.row.wait or {}).get("kind") == "pause"
    return not paused and (journal.session is None or journal.session not in data.begun)
