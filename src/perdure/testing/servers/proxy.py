"""What if the network fails between a node and its database? A TCP proxy that delays, cuts, partitions and swallows.

    with FaultProxy("127.0.0.1", server.port) as proxy:
        store = store_from_url(proxy.url(server.url("shop")))
        proxy.swallow_commit_reply()

It runs in a thread of its own, so any code may drive it, on whatever loop. A call returns once its fault is in force.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Literal, Self, TypeAlias
from urllib.parse import urlsplit, urlunsplit

from perdure.errors import InvalidSetting
from perdure.testing.servers.link import READ_BYTES, Conditions, Counts, Direction, Link
from perdure.testing.servers.ports import HOST, Port
from perdure.testing.servers.wire import Armed, Conversation

#: turns of the loop from a connection's arrival until `_accept` knows of it
_ACCEPT_TURNS = 8
_CALL_SECONDS_MAX = 10.0

Way: TypeAlias = Literal["both", "client_to_server", "server_to_client"]


class FaultProxy:
    """A proxy on 127.0.0.1 before `host:port`, without any fault at first.

    `marker` is the piece of SQL by which `swallow_...` know a commit; None for a server that does not speak PostgreSQL.
    """

    def __init__(self, host: str, port: int, *, marker: bytes | None = b"perdure.commit_") -> None:
        self._conditions = Conditions()
        self._target = (host, port)
        self._marker = marker
        self._armed = Armed()
        self._links: set[Link] = set()
        self._port = Port()
        self._listener: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="perdure-fault-proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._listen)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def counts(self) -> Counts:
        """What it did so far."""
        return self._conditions.counts

    @property
    def port(self) -> int:
        """Where it listens, for as long as it lives."""
        return self._port.number

    def url(self, url: str) -> str:
        """The same database, reached through the proxy."""
        parts = urlsplit(url)
        login, at, _address = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{login}{at}{HOST}:{self.port}"))

    def delay(self, seconds: float) -> None:
        """Everything takes that much longer, each way."""
        self._conditions.delay_seconds = seconds

    def cut(self) -> None:
        """Reset all connections; refuse new ones until `heal`."""
        self._call(self._cut)

    def partition(self, way: Way = "both") -> None:
        """Drop silently what goes that way. Connections stay open, and new ones are taken; no end is passed on."""
        ways: tuple[Direction, ...] = ("client_to_server", "server_to_client") if way == "both" else (way,)
        self._call(self._block, frozenset(ways))

    def swallow_commit(self, n: int = 1) -> None:
        """Reset the connections of the next n commits, with the request not delivered."""
        self._call(self._arm, n, 0)

    def swallow_commit_reply(self, n: int = 1) -> None:
        """Deliver the next n commits, await the server's answer, and reset the connection instead of handing it on."""
        self._call(self._arm, 0, n)

    def heal(self) -> None:
        """No fault is in force and no swallowing is to come. What lost bytes in a partition is reset: it has a hole."""
        self._call(self._heal)

    def close(self) -> None:
        """Reset all connections and end."""
        if self._thread.is_alive():
            self._call(self._cut)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()
        self._port.release()

    # What follows runs in the proxy's thread.

    def _call(self, control: Callable[..., Coroutine[Any, Any, None]], *args: object) -> None:
        asyncio.run_coroutine_threadsafe(control(*args), self._loop).result(_CALL_SECONDS_MAX)

    async def _listen(self) -> None:
        if self._listener is None:
            self._listener = await asyncio.start_server(self._accept, HOST, self.port, limit=READ_BYTES)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = Conversation(self._marker, self._armed) if self._marker else None
        link = Link(reader, writer, self._target, self._conditions, conversation)
        self._links.add(link)
        link.task.add_done_callback(lambda _: self._links.discard(link))
        if self._listener is None:  # cut while it was being accepted
            link.reset()

    async def _cut(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            for _ in range(_ACCEPT_TURNS):  # what was just being accepted becomes a link first
                await asyncio.sleep(0)
        await self._reset(self._links)

    async def _block(self, directions: frozenset[Direction]) -> None:
        self._conditions.blocked = directions

    async def _arm(self, commits: int, replies: int) -> None:
        if self._marker is None:
            raise InvalidSetting(
                "a FaultProxy without a marker knows no commits: give it the piece of SQL they contain"
            )
        self._armed.commits += commits
        self._armed.replies += replies

    async def _heal(self) -> None:
        self._conditions.delay_seconds = 0.0
        self._conditions.blocked = frozenset()
        self._armed.commits = self._armed.replies = 0
        await self._reset(link for link in self._links if link.holed)
        await self._listen()

    async def _reset(self, links: Iterable[Link]) -> None:
        """Reset them, and return when their sockets are closed."""
        broken = tuple(links)
        for link in broken:
            link.reset()
        if broken:
            await asyncio.wait([link.task for link in broken])
