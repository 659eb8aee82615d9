"""Where can a node die? At every point this numbers: around each write to the store and around each effect.

`WatchedStore` and `WatchedHands` stand between a node and what it uses. They report every point that the node passes
to a `Gate`, which may kill the node there, delay it or fail the call, and they see what a node does out of order:
acting before it is recorded, or knowing what was never committed.

"Before" a commit means that nothing was written, "after" that it is durable and nobody ever heard of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, NoReturn, Protocol

from perdure.agents.attempt import Attempt
from perdure.journal.commands import Call
from perdure.kernel.contract import Hands
from perdure.store.contract import Document, Lease, QuotaWish, RateWish, Store, Tokens, Transaction
from perdure.testing.commit_log import CommitLog
from perdure.values.effects import Effect
from perdure.values.json import encode

_READS = frozenset(
    {"run", "runs", "run_by_key", "events", "state", "session_active", "session_next", "sessions", "signals", "run_signals",
     "asks", "ask", "queues", "ready", "active", "due", "next_due", "nodes", "document", "documents"}
)  # fmt: skip

#: What may act only after it was recorded, whatever the code under test thinks of it.
_ADMITTED = frozenset({Effect.KEYED, Effect.ONCE})


class Gate(Protocol):
    """What lies in wait for a node."""

    async def reach(self, point: str) -> None:
        """The node is at `point`: it goes on when this returns; it may die here, or be told of an error."""


class Mortal(Protocol):
    """Where nodes live."""

    async def die(self) -> NoReturn:
        """Kill the node that awaits this, right here."""


class CrashPoints:
    """A gate that numbers the points, from 1, over all nodes of a test, and kills at some. Reads are no points."""

    def __init__(self, host: Mortal, at: Collection[int] = ()) -> None:
        self.names: list[str] = []
        self._host = host
        self._at = frozenset(at)

    async def reach(self, point: str) -> None:
        if point.endswith("read"):
            return
        self.names.append(point)
        if len(self.names) in self._at:
            await self._host.die()


class WatchedStore:
    """A store as one node sees it."""

    def __init__(self, store: Store, gate: Gate, log: CommitLog) -> None:
        self._store = store
        self._gate = gate
        self._log = log
        self._seen = 0

    async def commit(self, batch: Sequence[Transaction]) -> list[Exception | list[int] | None]:
        return await self._around("commit", lambda: self._log.commit(self._store, batch))

    async def claim(self, node: str, shards: Collection[str], lease_seconds: float) -> list[Lease]:
        return await self._around("claim", lambda: self._log.claim(self._store, node, shards, lease_seconds))

    async def release(self, node: str, leases: Collection[Lease]) -> None:
        await self._around("release", lambda: self._store.release(node, leases))

    async def leave(self, node: str) -> None:
        await self._around("leave", lambda: self._store.leave(node))

    async def share(self, node: str, wishes: Sequence[QuotaWish]) -> list[int]:
        return await self._around("share", lambda: self._store.share(node, wishes))

    async def take(self, wishes: Sequence[RateWish]) -> list[Tokens]:
        return await self._around("take", lambda: self._store.take(wishes))

    async def put_document(self, document: Document) -> Document | None:
        return await self._around("put_document", lambda: self._store.put_document(document))

    async def drop_document(self, kind: str, id: str, version: int | None = None) -> bool:
        return await self._around("drop_document", lambda: self._store.drop_document(kind, id, version))

    async def wait_change(self) -> None:
        # Other than the store's own, a watched read takes time, in which a change must not be missed.
        if self._seen == self._log.generation:
            await self._store.wait_change()
        self._seen = self._log.generation

    async def _around(self, name: str, call: Callable[[], Any]) -> Any:
        await self._gate.reach(f"before {name}")
        result = await call()
        await self._gate.reach(f"after {name}")
        return result

    def __getattr__(self, name: str) -> Any:
        self.__dict__[name] = watched = self._watch(name, getattr(self._store, name))  # asked for thousands of times
        return watched

    def _watch(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        if name not in _READS:
            return method
        return lambda *args, **options: self._around("read", lambda: method(*args, **options))


class WatchedHands:
    """Hands that act only after what the journal says, or else tell on the node."""

    def __init__(self, hands: Hands, gate: Gate, log: CommitLog) -> None:
        self._hands = hands
        self._gate = gate
        self._log = log

    async def execute(self, call: Call, attempt: Attempt) -> str:
        self._check(call, attempt)
        await self._gate.reach(f"before {call.name}")
        result = await self._hands.execute(call, attempt)
        await self._gate.reach(f"after {call.name}")
        return result

    async def probe(self, call: Call) -> Any:
        await self._gate.reach(f"before probe of {call.name}")
        return await self._hands.probe(call)

    def close(self) -> None:
        self._hands.close()

    def _check(self, call: Call, attempt: Attempt) -> None:
        step = f"{attempt.run}: attempt {attempt.attempt} of step {attempt.step} ({call.name})"
        if (
            call.target.options.effect in _ADMITTED
            and (attempt.run, attempt.step, attempt.attempt) not in self._log.begun
        ):
            self._log.violations.append(f"{step} acts before it is recorded")
        known = call.arguments.get("after")
        if known and not self._log.knows(attempt.run, encode(known)):
            self._log.violations.append(f"{step} knows {known!r}, which was never committed")
