"""Which runs could begin, queue by queue? All that are queued are looked through whenever somebody asks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from itertools import islice

from perdure.store.contract import Cursor, Programs, Queue, QueuePage
from perdure.store.memory.data import Data, Journal
from perdure.values.runs import RunStatus


def queues_of(data: Data, agent: str, limit: int, after: Queue | None) -> list[Queue]:
    """The agent's queues behind `after`, by priority, then tenant."""
    found = {_queue(journal) for journal in data.by_status[RunStatus.QUEUED].values() if journal.row.agent == agent}
    behind = [queue for queue in found if after is None or _place(queue) > _place(after)]
    return sorted(behind, key=_place)[:limit]


def ready(
    data: Data, shards: Collection[str], asked: Mapping[Queue, Cursor], each: int, programs: Programs
) -> list[QueuePage]:
    """The first runs of each queue, of free sessions and these shards."""
    found: defaultdict[Queue, list[Journal]] = defaultdict(list)
    for journal in sorted(_heads(data, shards), key=_arrival):
        found[_queue(journal)].append(journal)
    return [_page(data, queue, found[queue], after, each, programs) for queue, after in asked.items()]


def _page(data: Data, queue: Queue, journals: list[Journal], after: Cursor, each: int, programs: Programs) -> QueuePage:
    read = data.journals[after].arrival if isinstance(after, str) else 0
    following = (journal.run for journal in journals if journal.arrival > read and _offers(journal, programs))
    page = list(islice(following, each))
    return QueuePage(queue, page, page[-1].id if len(page) == each else None)


def _heads(data: Data, shards: Collection[str]) -> Iterator[Journal]:
    """Every run without a session, and the one of each free session that goes next."""
    heads: dict[tuple[str, str], Journal] = {}
    for journal in data.by_status[RunStatus.QUEUED].values():
        if journal.row.shard not in shards:
            continue
        if journal.session is None:
            yield journal
        elif journal.session not in data.begun:
            heads[journal.session] = min(journal, heads.get(journal.session, journal), key=_turn)
    yield from heads.values()


def _offers(journal: Journal, programs: Programs) -> bool:
    wait = journal.row.wait
    if wait is None:
        return True
    return wait.get("kind") != "pause" and (programs is None or (journal.row.agent, journal.row.version) in programs)


def _queue(journal: Journal) -> Queue:
    return Queue(journal.row.agent, journal.row.priority, journal.row.concurrency_key or "")


def _place(queue: Queue) -> tuple[int, str]:
    return -queue.priority, queue.tenant


def _turn(journal: Journal) -> tuple[int, int]:
    return -journal.row.priority, journal.arrival


def _arrival(journal: Journal) -> int:
    return journal.arrival
