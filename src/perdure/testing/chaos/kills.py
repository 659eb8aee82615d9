"""What if a worker is killed with SIGKILL? Another takes over what it had when its lease is over, or its lock is gone.

A kill proves the logic, not the disk: what a process wrote survives it. Power cuts have a test of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import ClassVar

from perdure.testing.chaos.fault import Fault, Scene
from perdure.values.settings import Settings


class Kills(Fault):
    """A worker of several on one database is killed, and another one is started in its place."""

    count = 1_000
    lease_seconds = 1.0
    #: how long (seconds) after a worker is ready the next one is killed, at most
    life_seconds: ClassVar[float] = 0.5

    async def strike(self, scene: Scene) -> None:
        await asyncio.sleep(scene.dice.uniform(0.0, self.life_seconds))
        await scene.crew.replace(scene.dice.choice(scene.crew.workers))


class KillsOfOne(Kills):
    """There is one worker at a time, as SQLite has it."""

    followed = 1.0
    life_seconds = 0.25
    lease_seconds = Settings().lease_seconds

    @property
    def worker_urls(self) -> Sequence[str]:
        return [self.url]
