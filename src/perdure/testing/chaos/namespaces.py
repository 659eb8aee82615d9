"""What if packets are lost, and not a proxy's bytes? Each worker lives in a network namespace of its own (Linux, root).

The kernel's own TCP is on both ends: nothing is reset, what was lost is sent again, later and later, or given up.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from urllib.parse import urlsplit, urlunsplit

from perdure.errors import NotFound, StoreError
from perdure.testing.chaos.fault import Fault, Scene
from perdure.testing.servers.proxy import FaultProxy

#: A partition lasts so many leases, shortest and longest.
_LEASES = (0.0, 1.6)
#: Nobody's: what is sent there is dropped on arrival.
_NOWHERE = "02:00:00:00:00:01"
_numbers = count()


class Namespaces(Fault):
    """The wire of a worker is pulled out, or loses all that goes one way."""

    count = 100
    lease_seconds = 1.0

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._wires: list[Wire] = []
        try:
            self._wires += [Wire(url) for _ in range(3)]
        except BaseException:
            self.close()
            raise

    @property
    def worker_urls(self) -> Sequence[str]:
        return [wire.url for wire in self._wires]

    @property
    def namespaces(self) -> Sequence[str]:
        return [wire.namespace for wire in self._wires]

    async def strike(self, scene: Scene) -> None:
        wire = scene.dice.choice(self._wires)
        break_it = scene.dice.choice([wire.pull, wire.lose_requests, wire.lose_answers])
        await asyncio.to_thread(break_it)
        await asyncio.sleep(self.lease_seconds * scene.dice.uniform(*_LEASES))
        await asyncio.to_thread(wire.mend)

    def close(self) -> None:
        for wire in self._wires:
            wire.close()


class Wire:
    """A namespace, and the wire from there to the database at `url`. Raises NotFound where such things cannot be made."""

    def __init__(self, url: str) -> None:
        if os.geteuid() != 0 or shutil.which("ip") is None:
            raise NotFound("network namespaces need root and the program ip (Debian: iproute2)")
        number = os.getpid() * 8 + next(_numbers) % 8
        self.namespace, self._inside, self._outside = f"perdure-{number}", f"pi{number}", f"po{number}"
        net = f"10.{64 + number % 128}.{number // 128 % 256}"
        self._database, self._worker = f"{net}.1", f"{net}.2"
        place = urlsplit(url)
        self._gate = Gate(self._database, place.hostname or "localhost", place.port or 5432)
        try:
            self._lay()
            self._gate.__enter__()
        except BaseException:
            self.close()
            raise
        self.url = urlunsplit(place._replace(netloc=f"{place.username}@{self._database}:{self._gate.port}"))

    def pull(self) -> None:
        """Nothing goes either way."""
        _ip("link", "set", self._outside, "down")

    def lose_requests(self) -> None:
        """What the worker sends is lost."""
        _ip("-n", self.namespace, "neigh", "replace", self._database, "lladdr", _NOWHERE, "dev", self._inside)

    def lose_answers(self) -> None:
        """What is sent to the worker is lost."""
        _ip("neigh", "replace", self._worker, "lladdr", _NOWHERE, "dev", self._outside)

    def mend(self) -> None:
        """All that is sent arrives."""
        _ip("link", "set", self._outside, "up")
        _ip("-n", self.namespace, "neigh", "flush", "dev", self._inside, "nud", "permanent")
        _ip("neigh", "flush", "dev", self._outside, "nud", "permanent")

    def close(self) -> None:
        """Take it away."""
        self._gate.close()
        with suppress(StoreError):
            _ip("link", "del", self._outside)
        with suppress(StoreError):
            _ip("netns", "del", self.namespace)

    def _lay(self) -> None:
        _ip("netns", "add", self.namespace)
        _ip("link", "add", self._outside, "type", "veth", "peer", "name", self._inside, "netns", self.namespace)
        _ip("addr", "add", f"{self._database}/30", "dev", self._outside)
        _ip("-n", self.namespace, "addr", "add", f"{self._worker}/30", "dev", self._inside)
        _ip("link", "set", self._outside, "up")
        _ip("-n", self.namespace, "link", "set", self._inside, "up")


class Gate(FaultProxy):
    """Lets a server that listens on this machine only be reached at `address`."""

    def __init__(self, address: str, host: str, port: int) -> None:
        super().__init__(host, port)
        self._address = address

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(self._accept, self._address, self.port)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], check=False, capture_output=True, text=True)  # noqa: S607 - iproute2's
    if done.returncode:
        raise StoreError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
