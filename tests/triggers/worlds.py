"""What tests of triggers share: runtimes on one store and one fake clock, and somebody who is told things."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from perdure import Context, Runtime, Settings, agent, tool
from perdure.gateway.app import Gateway
from perdure.gateway.routes import SECTIONS
from perdure.gateway.settings import GatewaySettings
from perdure.store import MemoryStore, Store
from perdure.testing.clock import FakeClock, settle
from perdure.triggers.courier import Courier
from perdure.triggers.deliveries import PATIENCE, delivery_agent
from perdure.triggers.egress import Reach
from perdure.triggers.triggers import Triggers
from perdure.values.effects import Retries


@agent
async def noting(ctx: Context, what: str = "nothing") -> str:
    return what


@agent(busy="interrupt")
async def impatient(ctx: Context) -> Any:
    return await ctx.receive("never")


@agent(busy="steer")
async def steered(ctx: Context, what: Any) -> Any:
    return await ctx.receive("word")


@agent
async def listener(ctx: Context) -> list[Any]:
    heard = []
    while (word := await ctx.receive("word")) != "stop":
        heard.append(word)
    return heard


@agent
async def hearer(ctx: Context, event: dict[str, Any]) -> dict[str, Any]:
    return event


@tool(approval=True)
async def transfer(account: str, euros: int) -> str:
    return f"{euros} to {account}"


@agent
async def payer(ctx: Context, account: str, euros: int) -> str:
    return await transfer(account, euros)


AGENTS = (noting, impatient, steered, listener, hearer, payer)


class Site:
    """One store and one clock, and the servers on it."""

    def __init__(self, store: Store | None = None, clock: FakeClock | None = None) -> None:
        self.clock = clock or FakeClock()
        self.store: Any = store or MemoryStore(clock=self.clock)

    @asynccontextmanager
    async def up(
        self, *, agents: Any = AGENTS, reach: Reach | None = None, patience: Retries = PATIENCE
    ) -> AsyncIterator[tuple[Runtime, Triggers]]:
        """A server."""
        courier = Courier(self.store, self.clock, reach or Reach(loopback=True))
        agents = [*agents, delivery_agent(courier, patience)]
        runtime = Runtime(self.store, agents, clock=self.clock, settings=Settings(), dice=lambda: 0.0)
        triggers = Triggers(runtime, courier)
        triggers.tell()
        async with runtime, triggers:
            await settle()
            yield runtime, triggers

    async def crash(self, runtime: Runtime) -> None:
        """The process of a server dies."""
        runtime.kernel.kill()
        await settle()
        self.store.bury(runtime.kernel.node)


class Receiver:
    """A server of somebody who is told things; it answers with `statuses` in turn, the last one for ever."""

    def __init__(self, *statuses: int) -> None:
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.url = ""
        self.before_answer: Callable[[], Awaitable[None]] | None = None
        self._statuses = list(statuses or (200,))
        self._more = asyncio.Condition()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Receiver]:
        """While entered, it is there."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook?of=me"
        async with server:
            yield self

    async def got(self, count: int) -> None:
        """Return when it was told so often."""
        async with asyncio.timeout(10), self._more:
            await self._more.wait_for(lambda: len(self.requests) >= count)

    @property
    def events(self) -> list[dict[str, Any]]:
        """What it was told."""
        return [json.loads(body) for _, body in self.requests]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {"request": head[0]}
        for line in filter(None, head[1:]):
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        body = await reader.readexactly(int(headers["content-length"]))
        status = self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0]
        async with self._more:
            self.requests.append((headers, body))
            self._more.notify_all()
        if self.before_answer is not None:
            await self.before_answer()
        location = "Location: http://127.0.0.1:1/\r\n" if status in (301, 302, 307) else ""
        writer.write(f"HTTP/1.1 {status} X\r\n{location}Content-Length: 2\r\nConnection: close\r\n\r\nok".encode())
        await writer.drain()
        writer.close()


def play(scenario: Callable[[Site], Awaitable[None]]) -> None:
    """Run a scenario."""

    async def main() -> None:
        async with asyncio.timeout(45):
            await scenario(Site())

    asyncio.run(main())


TOKEN = "a-token-for-tests-only"
ORIGIN = "http://127.0.0.1"


@asynccontextmanager
async def served(site: Site, **settings: Any) -> AsyncIterator[tuple[httpx2.AsyncClient, Runtime, Triggers]]:
    """A server with a gateway in front of it, and somebody who calls it as admin."""
    async with site.up() as (runtime, triggers):
        gateway = Gateway(runtime, GatewaySettings(token=TOKEN, **settings), sections=SECTIONS, triggers=triggers)
        transport = httpx2.ASGITransport(app=gateway, raise_app_exceptions=False)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx2.AsyncClient(base_url=ORIGIN, transport=transport, headers=headers) as client:
            yield client, runtime, triggers
