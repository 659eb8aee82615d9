"""A Restate server and its service as processes of ours, and an HTTP client for both.

Defaults throughout; changed are ports, loopback, telemetry (off) and the log level.
"""

from __future__ import annotations

import asyncio
import json
import platform
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from children import Child
from postgres import free_port
from script import Bench

NODE_MODULES = Path(__file__).resolve().parents[2] / ".bench" / "node" / "node_modules"
CONNECTIONS_MAX = 100
START_SECONDS_MAX = 30.0
POLL_SECONDS = 0.05
WARM_UP_STEPS = 5


@asynccontextmanager
async def running(bench: Bench, name: str = "restate") -> AsyncIterator[Stack]:
    """A new server and a new service, registered and warmed up; both are killed when the block ends."""
    connector = aiohttp.TCPConnector(limit=CONNECTIONS_MAX)
    async with aiohttp.ClientSession(connector=connector) as http:
        stack = Stack(bench, http, bench.data / name)
        try:
            await stack.start_service()
            await stack.start_server()
            await stack.register()
            await stack.call("sequence", WARM_UP_STEPS)
            yield stack
        finally:
            await stack.kill()


@dataclass
class Stack:
    """Where the processes are, and what can be asked of them."""

    bench: Bench
    http: aiohttp.ClientSession
    data: Path
    ports: dict[str, int] = field(
        default_factory=lambda: {name: free_port() for name in ("fabric", "ingress", "admin", "service")}
    )
    server: Child = field(init=False)
    service: Child = field(init=False)

    async def call(self, handler: str, body: object) -> Any:
        """Run a handler and wait for its result."""
        return await self.post("ingress", f"/bench/{handler}", body)

    async def send(self, handler: str, body: object) -> None:
        """Start a run and do not wait for its result."""
        await self.post("ingress", f"/bench/{handler}/send", body)

    async def wake_seconds(self, awakeable: str) -> float:
        """From the resolve request until the first line of the run's code after the wait."""
        sent = time.monotonic()
        await self.post("ingress", f"/restate/awakeables/{awakeable}/resolve", 1)
        while (woken := await self.service.next("woken"))["awakeable"] != awakeable:
            pass
        return float(woken["at"]) - sent

    async def start_server(self) -> None:
        environment = {
            "RESTATE_BASE_DIR": str(self.data),
            "RESTATE_NODE_NAME": "bench",
            "RESTATE_BIND_IP": "127.0.0.1",
            "RESTATE_BIND_PORT": str(self.ports["fabric"]),
            "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{self.ports['ingress']}",
            "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{self.ports['admin']}",
            "RESTATE_DISABLE_TELEMETRY": "true",
            "RESTATE_LOG_FILTER": "error",
        }
        self.server = await Child.spawn(str(server_binary()), "--no-logo", env=environment)

    async def start_service(self) -> None:
        self.service = await self.bench.spawn("serve", self.ports["service"])

    async def register(self) -> None:
        """Tell the server about the service, once both are up."""
        await self.until_healthy("admin", "/health")
        await self.until_healthy("ingress", "/restate/health")
        await until_listening(self.ports["service"])
        await self.post("admin", "/deployments", {"uri": f"http://127.0.0.1:{self.ports['service']}"})

    async def kill(self) -> None:
        for name in ("service", "server"):
            if hasattr(self, name):
                await getattr(self, name).kill()

    async def post(self, port: str, path: str, body: object) -> Any:
        async with self.http.post(f"http://127.0.0.1:{self.ports[port]}{path}", json=body) as response:
            text = await response.text()
            if not response.ok:
                raise RuntimeError(f"restate answered {response.status} to {path}: {text}")
            return text

    async def until_healthy(self, port: str, path: str) -> None:
        async with asyncio.timeout(START_SECONDS_MAX):
            while True:
                with suppress(aiohttp.ClientError):
                    async with self.http.get(f"http://127.0.0.1:{self.ports[port]}{path}") as response:
                        if response.ok:
                            return
                await asyncio.sleep(POLL_SECONDS)


async def until_listening(port: int) -> None:
    async with asyncio.timeout(START_SECONDS_MAX):
        while True:
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(POLL_SECONDS)


def server_binary() -> Path:
    """The program itself, not npm's wrapper: the wrapper would be a second process, and the one that gets killed."""
    machine = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    package = NODE_MODULES / "@restatedev" / f"restate-server-{platform.system().lower()}-{machine}"
    path = package / "bin" / "restate-server"
    if not path.exists():
        raise RuntimeError(f"no Restate server at {path}: run bench/peers/setup.sh")
    return path


def server_version() -> str:
    """The version of the npm package, which is the server's."""
    package = NODE_MODULES / "@restatedev" / "restate-server" / "package.json"
    return str(json.loads(package.read_text())["version"]) if package.exists() else "not installed"
