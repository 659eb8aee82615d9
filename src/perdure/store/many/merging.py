"""How do the lists of several databases become one? Each keeps its own order; between them priority and time decide.

What is of the same microsecond goes by its id, so that every reader sees one order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from heapq import merge
from itertools import islice
from typing import Any, TypeVar

from perdure.store.contract import Queue
from perdure.values.runs import Run

T = TypeVar("T")


def merged(lists: Iterable[Sequence[T]], key: Callable[[T], Any], limit: int, *, falling: bool = False) -> list[T]:
    """The first `limit` of all, by a `key` that rises, or falls, in each list."""
    return list(islice(merge(*lists, key=key, reverse=falling), limit))


def age(run: Run) -> tuple[int, str]:
    """By when it was created: rises from old to new."""
    return run.created, run.id


def priority(queue: Queue) -> tuple[int, str]:
    """By priority, then tenant."""
    return -queue.priority, queue.tenant


def earliest(run: Run) -> tuple[int, str]:
    """By when it is due."""
    return run.wake_at or 0, run.id
