"""Where can a node die? At every point this numbers: around each write to the store and around each effect.

`CrashPoints` counts them and lets the node die at chosen ones; `CrashingStore` and `CrashingHands` put them around what
a node does. "Before" a commit means that nothing was written, "after" that it is durable and nobody ever heard of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, NoReturn, Protocol

from perdure.agents.attempt import Attempt
from perdure.journal.commands import Call
from perdure.kernel.contract import Hands
from perdure.store.contract import Lease, Store, Transaction
from perdure.testing.commit_log import CommitLog


class Mortal(Protocol):
    """Where nodes live."""

    async def die(self) -> NoReturn:
        """Kill the node that awaits this, right here."""


class CrashPoints:
    """Numbered from 1 in the order in which they are reached, over all nodes of a test."""

    def __init__(self, host: Mortal, at: Collection[int] = ()) -> None:
        self.names: list[str] = []
        self._host = host
        self._at = frozenset(at)

    async def reach(self, name: str) -> None:
        """The node is at this point; it goes on, or dies."""
        self.names.append(name)
        if len(self.names) in self._at:
            await self._host.die()


class CrashingStore:
    """A store as one node sees it, with a crash point before and after every write."""

    def __init__(self, store: Store, points: CrashPoints, log: CommitLog) -> None:
        self._store = store
        self._points = points
        self._log = log

    async def commit(self, batch: Sequence[Transaction]) -> list[Exception | list[int] | None]:
        return await self._around("commit", lambda: self._log.commit(self._store, batch))

    async def claim(self, node: str, shards: Collection[str], lease_seconds: float) -> list[Lease]:
        return await self._around("claim", lambda: self._log.claim(self._store, node, shards, lease_seconds))

    async def release(self, node: str, leases: Collection[Lease]) -> None:
        await self._around("release", lambda: self._store.release(node, leases))

    async def _around(self, name: str, write: Callable[[], Any]) -> Any:
        await self._points.reach(f"before {name}")
        result = await write()
        await self._points.reach(f"after {name}")
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class CrashingHands:
    """Hands with a crash point before each effect, and one after it, before its result is settled."""

    def __init__(self, hands: Hands, points: CrashPoints) -> None:
        self._hands = hands
        self._points = points

    async def execute(self, call: Call, attempt: Attempt) -> str:
        await self._points.reach(f"before {call.name}")
        result = await self._hands.execute(call, attempt)
        await self._points.reach(f"after {call.name}")
        return result

    async def probe(self, call: Call) -> Any:
        await self._points.reach(f"before probe of {call.name}")
        return await self._hands.probe(call)

    def close(self) -> None:
        self._hands.close()
