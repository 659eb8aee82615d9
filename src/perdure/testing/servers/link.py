"""How do bytes get from a client to its server and back, under the conditions that a fault proxy imposes?

For each direction one task reads and one delivers, in order; what is on its way between them waits for its time.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from perdure.testing.servers.wire import Conversation, Passage

Direction: TypeAlias = Literal["client_to_server", "server_to_client"]
_Lane: TypeAlias = "asyncio.Queue[tuple[float, bytes]]"

READ_BYTES = 1 << 20
_LANE_PIECES_MAX = 256
_CONNECT_SECONDS_MAX = 10.0
#: SO_LINGER with no time at all: closing sends a reset
_NO_LINGER = struct.pack("ii", 1, 0)


@dataclass(slots=True)
class Counts:
    """What a proxy did so far."""

    connections: int = 0
    #: connections that ended by a reset, for whatever reason
    resets: int = 0
    bytes_forwarded: int = 0
    bytes_dropped: int = 0
    commits_swallowed: int = 0
    replies_swallowed: int = 0


@dataclass(slots=True)
class Conditions:
    """What all links of a proxy are subject to; it may change at any time."""

    delay_seconds: float = 0.0
    blocked: frozenset[Direction] = frozenset()
    counts: Counts = field(default_factory=Counts)


class Link:
    """One connection that was accepted from a client, led on to `target`."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        target: tuple[str, int],
        conditions: Conditions,
        conversation: Conversation | None,
    ) -> None:
        #: bytes were lost that the other side will wait for
        self.holed = False
        self.task = asyncio.create_task(self._run(reader))
        self._target = target
        self._conditions = conditions
        self._conversation = conversation
        self._client = writer
        self._server: asyncio.StreamWriter | None = None

    def reset(self) -> None:
        """Break it: both sides see a reset, by the time that `task` has ended."""
        self.task.cancel()

    async def _run(self, reader: asyncio.StreamReader) -> None:
        counts = self._conditions.counts
        counts.connections += 1
        try:
            await self._lead(reader)
        except (asyncio.CancelledError, OSError, TimeoutError):
            counts.resets += 1
            self._set_no_linger()
        finally:
            await self._close()

    async def _lead(self, reader: asyncio.StreamReader) -> None:
        if "client_to_server" in self._conditions.blocked:
            self.holed = True
            await self._drop_all(reader)
        async with asyncio.timeout(_CONNECT_SECONDS_MAX):
            server_reader, self._server = await asyncio.open_connection(*self._target, limit=READ_BYTES)
        there: _Lane = asyncio.Queue(_LANE_PIECES_MAX)
        back: _Lane = asyncio.Queue(_LANE_PIECES_MAX)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read("client_to_server", reader, there))
            tasks.create_task(self._deliver("client_to_server", there, self._server))
            tasks.create_task(self._read("server_to_client", server_reader, back))
            tasks.create_task(self._deliver("server_to_client", back, self._client))

    async def _drop_all(self, reader: asyncio.StreamReader) -> None:
        """The server never hears of this client."""
        while data := await reader.read(READ_BYTES):
            self._conditions.counts.bytes_dropped += len(data)
        await asyncio.Event().wait()

    async def _read(self, direction: Direction, reader: asyncio.StreamReader, lane: _Lane) -> None:
        now = asyncio.get_running_loop().time
        try:
            while data := await reader.read(READ_BYTES):
                await lane.put((now() + self._conditions.delay_seconds, data))
        except ConnectionError:
            if direction not in self._conditions.blocked:
                self.reset()
                return
        await lane.put((now() + self._conditions.delay_seconds, b""))

    async def _deliver(self, direction: Direction, lane: _Lane, writer: asyncio.StreamWriter) -> None:
        """Hand on what comes along the lane until its end; in a partition there is none."""
        now = asyncio.get_running_loop().time
        while True:
            due, data = await lane.get()
            await asyncio.sleep(max(0.0, due - now()))
            if direction in self._conditions.blocked:
                self.holed = True
                self._conditions.counts.bytes_dropped += len(data)
            elif data:
                await self._pass(direction, data, writer)
            else:
                with suppress(OSError):
                    writer.write_eof()
                return

    async def _pass(self, direction: Direction, data: bytes, writer: asyncio.StreamWriter) -> None:
        counts = self._conditions.counts
        passage = self._see(direction, data)
        counts.bytes_forwarded += len(passage.onward)
        writer.write(passage.onward)
        if passage.back:
            self._client.write(passage.back)
        if passage.swallowed == "commit":
            counts.commits_swallowed += 1
        elif passage.swallowed == "reply":
            counts.replies_swallowed += 1
        if passage.swallowed:
            self.reset()
        try:
            await writer.drain()
        except ConnectionError:
            self.reset()

    def _see(self, direction: Direction, data: bytes) -> Passage:
        if self._conversation is None:
            return Passage(onward=data)
        if direction == "client_to_server":
            return self._conversation.to_server(data)
        return self._conversation.to_client(data)

    def _set_no_linger(self) -> None:
        for writer in self._writers():
            with suppress(OSError):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            writer.transport.abort()

    async def _close(self) -> None:
        for writer in self._writers():
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def _writers(self) -> list[asyncio.StreamWriter]:
        return [self._client] if self._server is None else [self._client, self._server]
