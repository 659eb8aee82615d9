"""Which live run has something due next? One moment per run, its earliest; the runs themselves know the rest."""

from __future__ import annotations

import heapq

_STALE_MOST = 1_000


class DueRuns:
    """When each run is due first. Noting a later moment changes nothing: tell again after the earlier one was taken."""

    def __init__(self) -> None:
        self._first: dict[str, int] = {}
        self._heap: list[tuple[int, str]] = []

    def note(self, run: str, due: int) -> None:
        """`run` has something due at `due`."""
        first = self._first.get(run)
        if first is not None and first <= due:
            return
        self._first[run] = due
        heapq.heappush(self._heap, (due, run))
        if len(self._heap) > _STALE_MOST + 2 * len(self._first):
            self._heap = [(first, run) for run, first in self._first.items()]
            heapq.heapify(self._heap)

    def forget(self, run: str) -> None:
        """`run` left memory."""
        self._first.pop(run, None)

    def first(self) -> int | None:
        """The earliest moment, or None."""
        while self._heap and self._first.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def take(self, now: int) -> list[str]:
        """The runs that are due, earliest first; they are noted no more."""
        due = []
        while (first := self.first()) is not None and first <= now:
            _, run = heapq.heappop(self._heap)
            del self._first[run]
            due.append(run)
        return due
