"""What is in each journal, and where does it end? Reads events across forks, and remembers the ends of journals.

An end is remembered together with the fence under which it was read: while that epoch lasts nobody else can move it,
so that an append reads nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from perdure.errors import AlreadySettled, NotFound
from perdure.store.contract import Fence
from perdure.store.postgres.connections import Connections
from perdure.store.queries import load_queries
from perdure.values.events import Event
from perdure.values.runs import RunStatus

_COMMIT = load_queries("postgres", "commit")
_READ = load_queries("postgres", "read")

#: Runs whose journal's end is remembered: about 1 MB.
_TAILS_MAX = 4096


class Tail:
    """The end of one run's journal."""

    __slots__ = ("ended", "fence", "run", "seq", "shard", "steps")

    def __init__(self, run: str, shard: str, fence: Fence | None, ended: bool, seq: int, steps: int) -> None:
        self.run = run
        self.shard = shard
        self.fence = fence
        self.ended = ended
        self.seq = seq
        self.steps = steps

    def follow(self, event: Event) -> None:
        """`event` is the next one. Raises AlreadySettled, or ValueError when it is not."""
        if self.ended:
            raise AlreadySettled(f"run {self.run} has ended: nothing can follow its event {self.seq}")
        if event.seq != self.seq + 1:
            raise ValueError(f"run {self.run}: event {event.seq} ({event.type}) does not follow event {self.seq}")
        self.seq = event.seq
        if event.step is not None and event.step > self.steps:
            self.steps = event.step


#: Asks the database through the connection that commits.
Ask: TypeAlias = "Callable[[str, Any], Awaitable[list[Any]]]"


class Tails:
    """The ends of the journals that were written lately."""

    def __init__(self) -> None:
        self._tails: dict[str, Tail] = {}

    async def learn(self, wanted: dict[str, Fence], ask: Ask) -> None:
        """Read the ends of these runs' journals where they are not known under these fences."""
        if len(self._tails) > _TAILS_MAX:
            self._tails.clear()
        unknown = [run for run, fence in wanted.items() if run not in self._tails or self._tails[run].fence != fence]
        for run in unknown:
            self._tails.pop(run, None)
        for run, shard, status, seq, steps in await ask(_COMMIT["ends"], (unknown,)) if unknown else ():
            self._tails[run] = Tail(run, shard, wanted[run], RunStatus(status).terminal, seq, steps)

    def get(self, run: str, fence: Fence) -> Tail:
        """The end of a run's journal. Raises NotFound, or ValueError when the fence does not cover the run."""
        tail = self._tails.get(run)
        if tail is None:
            raise NotFound(f"run {run}: there is no such run in this store")
        if tail.shard != fence.shard:
            raise ValueError(f"run {run} is of shard {tail.shard}: the fence of shard {fence.shard} does not cover it")
        return tail

    def add(self, tail: Tail) -> None:
        """A run is about to be created."""
        self._tails[tail.run] = tail

    def clear(self) -> None:
        """Forget everything: a batch, or a part of one, was undone."""
        self._tails.clear()


class Journals:
    """Reads events. All methods raise StoreError."""

    def __init__(self, connections: Connections) -> None:
        self._fetch = connections.fetch

    async def read(self, run: str, after: int, limit: int | None) -> list[Event]:
        """A run's journal after `after`, the prefix it shares included, in its own name."""
        rows = await self._fetch(_READ["events"], {"run": run, "after": after, "limit": limit})
        return [Event(*row) for row in rows]
