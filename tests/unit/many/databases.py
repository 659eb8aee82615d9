"""Two databases for a test: shards whose place is known, and processes that die at a chosen call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from perdure.errors import StoreBroken
from perdure.store import MemoryStore
from perdure.store.contract import Fence, NewRun, Transaction
from perdure.store.exchange import Note
from perdure.store.many import ManyStores
from perdure.store.many.members import keep
from perdure.testing.clock import FakeClock
from perdure.values.events import Event
from perdure.values.runs import Run, RunStatus

#: Shards by where they live: in the first database, and in the second.
HERE, HERE_TOO, THERE = "a:0", "a:1", "b:0"


class Process:
    """All that one process does to the databases, numbered. It dies before or after call `dies_at`, if that is given."""

    def __init__(self, dies_at: int | None = None, *, after: bool = False) -> None:
        self.calls: list[str] = []
        self._dies_at = dies_at
        self._after = after
        self._dead = False

    def sees(self, store: Any) -> Any:
        """A database as this process has it."""
        return _Seen(store, self)

    async def call(self, name: str, method: Any, args: Any, options: Any) -> Any:
        """Call the database, or die."""
        if self._dead:
            raise StoreBroken("this process is dead")
        self.calls.append(name)
        fatal = len(self.calls) == self._dies_at
        self._dead = fatal
        result = None if fatal and not self._after else await method(*args, **options)
        if fatal:
            raise StoreBroken("this process dies here")
        return result


class _Seen:
    def __init__(self, store: Any, process: Process) -> None:
        self._store = store
        self._process = process

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name in {"close", "wait_change", "together", "join"}:
            return method
        return lambda *args, **options: self._process.call(name, method, args, options)


class Databases:
    """Two databases in memory, and the processes that use them."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.first = MemoryStore(clock=self.clock)
        self.second = MemoryStore(clock=self.clock)

    async def open(self, process: Process | None = None) -> ManyStores:
        """The store as one process has it."""
        sees = (process or Process()).sees
        store = ManyStores({"first": sees(self.first), "second": sees(self.second)}, clock=self.clock)
        await store.open()
        return store

    async def settle(self) -> None:
        """Record where the shards live."""
        await (await self.open()).close()
        for shard, place in ((HERE, "0"), (HERE_TOO, "0"), (THERE, "1")):
            await keep(self.first, Note("place", shard, place))

    async def own(self, store: ManyStores, shard: str, node: str = "node_a") -> Fence:
        """Claim a shard."""
        [lease] = await store.claim(node, [shard], 10)
        return Fence(*lease)

    def run(self, id: str, shard: str, **fields: Any) -> Run:
        """A queued run."""
        now = self.clock.now_us()
        known: dict[str, Any] = {"agent": "agent", "version": "v1", "session": None, "status": RunStatus.QUEUED}
        return Run(**known | {"id": id, "shard": shard, "created": now, "updated": now} | fields)

    def new(self, id: str, shard: str, *, must_be_free: bool = False, **fields: Any) -> NewRun:
        """A run with its first event."""
        run = self.run(id, shard, **fields)
        return NewRun(run, [self.event(id, 1, "run.queued")], must_be_free)

    def event(self, run: str, seq: int, type: str = "progress") -> Event:
        """An event of now."""
        return Event(run, seq, type, self.clock.now_us(), None, None, "{}")


async def must(store: Any, *batch: Transaction) -> None:
    """Commit, nothing refused."""
    for outcome in await store.commit(batch):
        if isinstance(outcome, Exception):
            raise outcome


async def mail(store: Any, shard: str) -> Sequence[str]:
    """The data of a shard's signals."""
    return [signal.data for signal in (await store.signals([shard]))[0]]
