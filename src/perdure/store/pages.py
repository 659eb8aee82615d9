"""Where does a page begin, and how are the first runs of some queues parted into pages? Nothing is read here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from perdure.store.contract import Queue, QueuePage
from perdure.values.runs import Run


def place_of(queue: Queue | None) -> tuple[int | None, str]:
    """Where a queue stands among those of its agent: priority and tenant. Without a priority: before all of them."""
    return (None, "") if queue is None else (queue.priority, queue.tenant)


def places_of_sessions(agent: str | None, after: tuple[str, str] | None) -> dict[str, Any]:
    """From which (agent, session) on to list those of one agent, or all; `after` itself is left out."""
    first_agent, first_session = max(after or ("", ""), (agent or "", ""))
    after_agent, after_session = after or (None, None)
    return {
        "agent": agent, "first_agent": first_agent, "first_session": first_session, "after_agent": after_agent,
        "after_session": after_session,
    }  # fmt: skip


def queue_of(run: Run) -> Queue:
    """The queue that a run is in, or was."""
    return Queue(run.agent, run.priority, run.concurrency_key or "")


def pages(queues: Iterable[Queue], runs: Iterable[Run], each: int) -> list[QueuePage]:
    """One page of each queue; its cursor is the run after which to read on. `runs` come in the order of their queues."""
    found: defaultdict[Queue, list[Run]] = defaultdict(list)
    for run in runs:
        found[queue_of(run)].append(run)
    return [QueuePage(queue, page := found[queue], page[-1].id if len(page) == each else None) for queue in queues]
