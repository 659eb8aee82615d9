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

    @property
    def worker_urls(self) -> Sequence[str]:
        return [self.url] * 4

    async def strike(self, scene: Scene) -> None:
        worker = await self._owner(scene)
        await worker.freeze()
        while await _owns(scene, worker):
            await asyncio.sleep(_POLL_SECONDS)
        worker.thaw()

    async def _owner(self, scene: Scene) -> Worker:
        while True:
            workers = scene.crew.workers
            for worker in scene.dice.sample(workers, len(workers)):
                if await _owns(scene, worker):
                    return worker
            await asyncio.sleep(_POLL_SECONDS)


async def _owns(scene: Scene, worker: Worker) -> bool:
    shards = await scene.runtime.store.shards()
    return any(shard.owner == worker.node for shard in shards)
