"""Bugs about who may write: fences, epochs, sessions."""

from __future__ import annotations

from typing import Any

from perdure.kernel.live import LiveRuns
from perdure.store.memory import MemoryStore
from perdure.store.memory.commit import Commit
from perdure.store.memory.data import Data
from perdure.testing.planted.patches import Patch, always, always_soon, replaced, together


def no_fence() -> Patch:
    return replaced(Commit, "_check_fence", always(None))


def old_epoch() -> Patch:
    """A claim gives the epoch of the owner before."""

    def make(claim: Any) -> Any:
        async def claim_without_counting(self: MemoryStore, node: str, shards: Any, lease_seconds: float) -> Any:
            leases = await claim(self, node, shards, lease_seconds)
            for lease in leases:
                self._data.shards[lease.shard].epoch = 1
            return [lease._replace(epoch=1) for lease in leases]

        return claim_without_counting

    return replaced(MemoryStore, "claim", make)


def two_runs_of_a_session() -> Patch:
    class Forgetful(dict[Any, Any]):
        def __setitem__(self, key: Any, value: Any) -> None:
            pass

    def make(init: Any) -> Any:
        def init_without_begun(self: Data) -> None:
            init(self)
            self.begun = Forgetful()

        return init_without_begun

    return together(replaced(Data, "__init__", make), replaced(LiveRuns, "_may_begin", always_soon(True)))
