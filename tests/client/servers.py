"""Servers that a Client talks to: a real one on a port of this machine, and one that answers whatever a test says."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

from perdure import Client
from tests.gateway.servers import TOKEN, served


def play(scenario, **options):
    """Run `scenario(server, client)` against a server of its own, with an admin's key."""

    async def main():
        async with (
            asyncio.timeout(30), served(on_socket=True, **options) as server, Client(server.url, token=TOKEN) as client,
        ):  # fmt: skip
            await scenario(server, client)

    asyncio.run(main())


async def first(stream, wanted):
    """The first event of this type; the stream is left."""
    async for event in stream:
        if event.type == wanted:
            await stream.aclose()
            return event
    raise AssertionError(f"no {wanted} came")


class Scripted:
    """Answers one request after the other with the bytes of a script, then closes each connection."""

    def __init__(self, *script):
        #: what came, as (first line, headers by lower-case name)
        self.requests = []
        self._script = list(script)

    async def answer(self, reader, writer):
        """One connection."""
        line, *rest = (await reader.readuntil(b"\r\n\r\n")).decode().strip().splitlines()
        headers = dict(header.lower().split(": ", 1) for header in rest)
        await reader.readexactly(int(headers.get("content-length", 0)))
        self.requests.append((line, headers))
        writer.write(self._script.pop(0))
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    @property
    def methods(self):
        """What was asked, in order."""
        return [line.split()[0] for line, _ in self.requests]


@asynccontextmanager
async def scripted(*script):
    """A scripted server, with its address."""
    server = Scripted(*script)
    async with await asyncio.start_server(server.answer, "127.0.0.1", 0) as listening:
        yield server, f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"


def reply(status, body="", kind="application/json", **headers):
    """An answer as bytes."""
    lines = [f"HTTP/1.1 {status} .", f"Content-Type: {kind}", f"Content-Length: {len(body.encode())}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join([*lines, "Connection: close", "", ""]) + body).encode()


def stream(text):
    """A stream as bytes: it ends when the connection does."""
    return ("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n" + text).encode()
