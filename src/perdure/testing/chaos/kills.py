"""What if a worker is killed with SIGKILL? Another takes over what it had when its lease is over, or its lock is gone.

A kill proves the logic, not the disk: what a process wrote survives it. Power cuts have a test of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from perdure.testing.chaos.fault import Fault, Scene
from perdure.values.settings import Settings

#: A worker lives this long (seconds) after another is ready, shortest and longest.
_LIFE_SECONDS = (0.0, 0.25)


class Kills(Fault):
    """A worker of several on one database is killed, and another one is started in its place."""

    count = 1_000

    async def strike(self, scene: Scene) -> None:
        await asyncio.sleep(scene.dice.uniform(*_LIFE_SECONDS))
        await scene.crew.replace(scene.dice.choice(scene.crew.workers))


class KillsOfOne(Kills):
    """There is one worker at a time, as SQLite has it."""

    followed = 1.0
    lease_seconds = Settings().lease_seconds

    @property
    def worker_urls(self) -> Sequence[str]:
        return [self.url]
