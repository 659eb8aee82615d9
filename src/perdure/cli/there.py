"""Runs of a server: it knows who is alive, so it says why they are not moving."""

from __future__ import annotations

from collections.abc import Iterable

from perdure.client.client import Client
from perdure.values.runs import Run
from perdure.views.why import Why


class There(Client):
    """A Client that says why its server's runs are not moving."""

    async def reasons(self) -> Told:
        """Ask which shards have an owner now."""
        shards = (await self.system())["shards"]
        return Told(shard["shard"] for shard in shards if shard["owner"] is not None)


class Told:
    """Reasons as a server gave them, with each run."""

    def __init__(self, owned: Iterable[str]) -> None:
        self._owned = frozenset(owned)

    def has_worker(self, run: Run) -> bool:
        """True when a live worker owns the run's shard."""
        return run.shard in self._owned

    def has_worker_of(self, agent: str) -> bool:
        """True when some live worker has that agent."""
        return any(shard.rpartition(":")[0] == agent for shard in self._owned)

    async def why(self, run: Run, now_us: int) -> Why:
        """What the server said when it gave `run`."""
        return Why(run.reason, run.wait)
