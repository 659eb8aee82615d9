"""What if the database's machine is lost? Its synchronous standby takes its place, and has all that was acknowledged."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit, urlunsplit

from perdure.testing.chaos.fault import Fault, Scene
from perdure.testing.servers.postgres import PostgresServer
from perdure.testing.servers.standby import Standby

#: between two failovers, shortest and longest
_UP_SECONDS = (0.2, 1.5)


class Failovers(Fault):
    """The primary is killed and the standby promoted; then a new standby is made where the old primary was."""

    count = 50

    def __init__(self, _url: str) -> None:
        self._primary = PostgresServer()
        self._primary.start()
        database = self._primary.create_database("chaos")
        self._standby = _follow(self._primary, "standby-0")
        self._lost = 0
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in (self._primary, self._standby))
        user = urlsplit(database).username
        super().__init__(urlunsplit(urlsplit(database)._replace(netloc=f"{user}@{hosts}")))

    async def strike(self, scene: Scene) -> None:
        await asyncio.sleep(scene.dice.uniform(*_UP_SECONDS))
        await asyncio.to_thread(self._fail_over)

    def close(self) -> None:
        self._standby.close()
        self._primary.close()

    def _fail_over(self) -> None:
        lost = self._primary
        lost.kill()
        self._standby.promote()
        self._primary = self._standby
        self._lost += 1
        self._standby = _follow(self._primary, f"standby-{self._lost}", instead_of=lost)


def _follow(primary: PostgresServer, name: str, instead_of: PostgresServer | None = None) -> Standby:
    """A synchronous standby of `primary`, at the address of the server that it replaces."""
    standby = Standby(primary, name=name)
    if instead_of is not None:
        standby._port, instead_of._port = instead_of._port, standby._port
        instead_of.close()
    try:
        standby.start()
        standby.make_synchronous()
    except BaseException:
        standby.close()
        raise
    return standby
