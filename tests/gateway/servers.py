"""A server for one test: a Runtime on a store in memory, a gateway in front of it, and somebody who calls it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx2

from perdure import Context, Runtime, agent, tool
from perdure.console.pages import pages
from perdure.gateway.app import Gateway
from perdure.gateway.routes import SECTIONS
from perdure.gateway.serving import bind, serving
from perdure.gateway.settings import GatewaySettings
from perdure.store import MemoryStore

TOKEN = "a-token-for-tests-only"
HOST = "http://127.0.0.1"


@tool(effect="read")
async def price(item: str) -> str:
    return "19.90"


@tool(approval=True)
async def buy(item: str, amount: str) -> str:
    return f"bought {item} for {amount}"


@agent
async def buyer(ctx: Context, items: list[str]) -> dict[str, str]:
    """Buys what is listed, after asking."""
    return {item: await buy(item, await price(item)) for item in items}


@agent
async def adder(ctx: Context, a: int, b: int = 2) -> int:
    """Adds."""
    return a + b


@agent
async def asker(ctx: Context, question: str) -> int:
    return await ctx.ask(question, int, to="finance")


@agent
async def listener(ctx: Context) -> list[Any]:
    heard = []
    while (word := await ctx.receive("word")) != "stop":
        heard.append(word)
        ctx.state["heard"] = len(heard)
    return heard


@agent
async def failing(ctx: Context) -> None:
    raise ValueError("no good can come of this")


AGENTS = (buyer, adder, asker, listener, failing)


class Served:
    """What a test holds of its server."""

    def __init__(self, runtime: Runtime, gateway: Gateway, client: httpx2.AsyncClient, url: str) -> None:
        self.runtime = runtime
        self.gateway = gateway
        #: calls as admin
        self.client = client
        self.url = url

    async def get(self, path: str, **options: Any) -> httpx2.Response:
        """Ask, as admin."""
        return await self.client.get(path, **options)

    async def post(self, path: str, body: Any = None, **options: Any) -> httpx2.Response:
        """Send a JSON body, as admin."""
        return await self.client.post(path, json={} if body is None else body, **options)

    async def start(self, name: str, input: Any = None, **query: Any) -> dict[str, Any]:
        """The run that was started."""
        answer = await self.post(f"/v1/agents/{name}/runs", input, params=query)
        assert answer.status_code == 201, answer.text
        started: dict[str, Any] = answer.json()
        return started

    async def key(self, *scopes: str) -> str:
        """A key with these scopes."""
        _, text = await self.gateway.access.keys.create("tester", scopes)
        return text

    async def idle(self) -> None:
        """Return when nothing can move by itself."""
        await self.runtime.idle()


@asynccontextmanager
async def served(
    *, agents: Sequence[Any] = AGENTS, store: Any = None, on_socket: bool = False, **settings: Any
) -> AsyncIterator[Served]:
    """A server, entered. on_socket: on a real port (streams need one), instead of calls in this process."""
    async with AsyncExitStack() as stack:
        runtime = await stack.enter_async_context(Runtime(store or MemoryStore(), agents))
        about = replace(GatewaySettings(token=TOKEN), **settings)
        gateway = Gateway(runtime, about, sections=[*SECTIONS, pages], store_name="memory")
        options: dict[str, Any] = {"headers": {"Authorization": f"Bearer {TOKEN}"}, "timeout": 20}
        url = HOST
        if on_socket:
            listening = stack.enter_context(bind("127.0.0.1", 0))
            url = f"{HOST}:{listening.getsockname()[1]}"
            await stack.enter_async_context(serving(gateway, listening))
            stack.callback(gateway.streams.close)
        else:
            options["transport"] = httpx2.ASGITransport(app=gateway, raise_app_exceptions=False)
        client = await stack.enter_async_context(httpx2.AsyncClient(base_url=url, **options))
        yield Served(runtime, gateway, client, url)


def play(scenario: Any, **options: Any) -> None:
    """Run `scenario(served)` against a server of its own."""

    async def main() -> None:
        async with asyncio.timeout(30), served(**options) as server:
            await scenario(server)

    asyncio.run(main())
