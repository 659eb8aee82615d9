"""What if a worker is paused beyond its lease, another takes over, and then it goes on as if nothing had happened?"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from perdure.testing.chaos.crew import Worker
from perdure.testing.chaos.fault import Fault, Scene

_POLL_SECONDS = 0.02


class Zombies(Fault):
    """A worker that owns something is stopped until others own all of that, and then continued."""

    count = 500
    lease_seconds = 1.0

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._frozen: set[Worker] = set()

    @property
    def worker_urls(self) -> Sequence[str]:
        return [self.url] * 4

    async def strike_all(self, scene: Scene, count: int) -> None:
        # Two at a time, while two go on: most of the time is spent waiting for leases to run out.
        async with asyncio.TaskGroup() as group:
            group.create_task(super().strike_all(scene, count // 2))
            group.create_task(super().strike_all(scene, count - count // 2))

    async def strike(self, scene: Scene) -> None:
        worker = await self._owner(scene)
        self._frozen.add(worker)
        await worker.freeze()
        while await _owns(scene, worker):
            await asyncio.sleep(_POLL_SECONDS)
        worker.thaw()
        self._frozen.discard(worker)

    async def _owner(self, scene: Scene) -> Worker:
        while True:
            workers = scene.crew.workers
            for worker in scene.dice.sample(workers, len(workers)):
                if worker not in self._frozen and await _owns(scene, worker) and worker not in self._frozen:
                    return worker
            await asyncio.sleep(_POLL_SECONDS)


async def _owns(scene: Scene, worker: Worker) -> bool:
    shards = await scene.runtime.store.shards()
    return any(shard.owner == worker.node for shard in shards)
