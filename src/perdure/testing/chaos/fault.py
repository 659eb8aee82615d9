"""What is a fault, to a campaign? Something that befalls its workers or their database, again and again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from perdure.runtime import Runtime
from perdure.testing.chaos.crew import Crew
from perdure.testing.load import Load
from perdure.values.settings import Settings

_STRIKE_SECONDS_MOST = 60.0


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a fault strikes."""

    crew: Crew
    runtime: Runtime
    load: Load
    dice: random.Random


class Fault:
    """One kind of fault. The client reaches the store at `url`, and each worker at a URL of its own."""

    #: how often it strikes in a whole campaign
    count: ClassVar[int]
    #: how many runs are in flight
    width: ClassVar[int] = 12
    #: the part of them that the client follows, event by event: each follower reads whenever anybody has committed
    followed: ClassVar[float] = 0.25
    #: short where others take over, so that many strikes fit into a minute; but longer than a busy machine keeps one waiting
    lease_seconds: ClassVar[float] = Settings().lease_seconds

    def __init__(self, url: str) -> None:
        self.url = url

    @property
    def worker_urls(self) -> Sequence[str]:
        """How many workers there are, and where they find the store."""
        return [self.url] * 3

    @property
    def namespaces(self) -> Sequence[str]:
        """The network namespace of each worker, where they have any."""
        return ["" for _ in self.worker_urls]

    async def strike(self, scene: Scene) -> None:
        """Once. The fault may last until the next strike."""
        raise NotImplementedError

    async def strike_all(self, scene: Scene, count: int) -> None:
        """`count` times. Raises TimeoutError when a strike does not take effect."""
        for _ in range(count):
            async with asyncio.timeout(_STRIKE_SECONDS_MOST):
                await self.strike(scene)

    async def heal(self, scene: Scene) -> None:
        """From here on nothing is wrong."""

    def close(self) -> None:
        """Give back whatever it took."""
