"""What if the database crashes, again and again? Workers wait until it is back, and everything comes right by itself."""

from __future__ import annotations

import asyncio

from perdure.testing.chaos.fault import Fault, Scene
from perdure.testing.servers.postgres import PostgresServer

#: between two restarts, shortest and longest
_UP_SECONDS = (0.5, 3.0)


class Restarts(Fault):
    """The server is stopped as by a crash (`-m immediate`) every few seconds, while `count` runs are started."""

    count = 5_000
    width = 60

    def __init__(self, _url: str) -> None:
        self._server = PostgresServer()
        self._server.start()
        super().__init__(self._server.create_database("chaos"))

    async def strike(self, scene: Scene) -> None:
        await asyncio.sleep(scene.dice.uniform(*_UP_SECONDS))
        await asyncio.to_thread(self._server.restart, "immediate")

    async def strike_all(self, scene: Scene, count: int) -> None:
        while scene.load.started < count:
            await self.strike(scene)

    def close(self) -> None:
        self._server.close()
