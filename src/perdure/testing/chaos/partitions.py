"""What if the network fails between a worker and its database, while that and the other workers go on?"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from urllib.parse import urlsplit

from perdure.testing.chaos.fault import Fault, Scene
from perdure.testing.servers.proxy import FaultProxy

#: A partition lasts so many leases, shortest and longest: most are over before anybody else has noticed.
_LEASES = (0.0, 1.6)


class Partitions(Fault):
    """Each worker has a way of its own. It is blocked in one direction or both, silently, or cut and refused; then healed."""

    count = 500
    lease_seconds = 1.0

    def __init__(self, url: str) -> None:
        super().__init__(url)
        place = urlsplit(url)
        self._ways = [FaultProxy(place.hostname or "localhost", place.port or 5432).__enter__() for _ in range(3)]

    @property
    def worker_urls(self) -> Sequence[str]:
        return [way.url(self.url) for way in self._ways]

    async def strike(self, scene: Scene) -> None:
        way = scene.dice.choice(self._ways)
        match scene.dice.choice(["both", "client_to_server", "server_to_client", "cut", "slow"]):
            case "cut":
                way.cut()
            case "slow":
                way.delay(scene.dice.uniform(0.0, self.lease_seconds))
            case "client_to_server":
                way.partition("client_to_server")
            case "server_to_client":
                way.partition("server_to_client")
            case _:
                way.partition()
        await asyncio.sleep(self.lease_seconds * scene.dice.uniform(*_LEASES))
        way.heal()

    async def heal(self, scene: Scene) -> None:
        for way in self._ways:
            way.heal()

    def close(self) -> None:
        for way in self._ways:
            way.close()
