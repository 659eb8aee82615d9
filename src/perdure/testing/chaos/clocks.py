"""What if the wall clock of a worker's machine jumps by a year? Leases go by the database's clock, intervals by none.

Timers are moments of the wall clock: one that was set by a clock a year ahead is due in a year. So that all may end, a year
passes at last, for every worker.
"""

from __future__ import annotations

import asyncio

from perdure.testing.chaos.fault import Fault, Scene

#: A clock stays as it is for so long, shortest and longest.
_STAY_SECONDS = (0.05, 0.5)


class Clocks(Fault):
    """A worker's wall clock jumps a year behind or ahead, or back to where it should be."""

    count = 200

    async def strike(self, scene: Scene) -> None:
        await asyncio.sleep(scene.dice.uniform(*_STAY_SECONDS))
        scene.dice.choice(scene.crew.workers).jump()

    async def heal(self, scene: Scene) -> None:
        for worker in scene.crew.workers:
            worker.age()
