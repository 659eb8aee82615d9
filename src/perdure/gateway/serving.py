"""The server around a gateway: a socket that is bound before anything else starts, and uvicorn on it, in this loop."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from perdure.errors import InvalidSetting, PerdureError

#: A browser or a balancer may keep so many connections waiting while the server is busy, or being replaced.
_BACKLOG = 2048
#: Requests under way may take so long when the server ends; streams end at once.
_FINISH_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Tls:
    """The certificate that the server shows, as files."""

    certificate: Path
    key: Path


def is_loopback(host: str) -> bool:
    """True for an address that only this machine reaches."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def bind(host: str, port: int, *, others: int = 0) -> socket.socket:
    """A socket that listens there; or at one of `others` ports that follow, when that one is taken.

    Raises PerdureError when none is free, InvalidSetting for no address of this machine.
    """
    for candidate in range(port, port + others + 1):
        with contextlib.suppress(OSError):
            return _listening(host, candidate)
    try:
        return _listening(host, port)
    except OSError as error:
        if isinstance(error, socket.gaierror) or error.errno in _NO_ADDRESS:
            raise InvalidSetting(f"{host} is no address of this machine: {error.strerror}") from error
        raise PerdureError(
            f"port {port} of {host} cannot be used: {error.strerror}. Something else listens there; choose another "
            f"with --port"
        ) from error


@asynccontextmanager
async def serving(app: ASGIApp, listening: socket.socket, tls: Tls | None = None) -> AsyncIterator[asyncio.Task[None]]:
    """While entered, `app` is served on that socket. The task ends only when serving broke."""
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, lifespan="off", ws="none", server_header=False,
        proxy_headers=False, timeout_graceful_shutdown=_FINISH_SECONDS, backlog=_BACKLOG,
        ssl_certfile=tls.certificate if tls else None, ssl_keyfile=tls.key if tls else None,
    )  # fmt: skip
    server = _Server(config)
    # uvicorn closes the sockets that it is given; this one may be handed on.
    task = asyncio.create_task(server.serve(sockets=[listening.dup()]), name="perdure: server")
    ready = asyncio.create_task(server.ready.wait())
    try:
        await asyncio.wait((task, ready), return_when=asyncio.FIRST_COMPLETED)
        yield task
    finally:
        ready.cancel()
        server.should_exit = True
        await task


class _Server(uvicorn.Server):
    """uvicorn, which leaves signals to whoever starts it, and says when it is ready."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


_NO_ADDRESS = (99, 49, 10049)  # EADDRNOTAVAIL of Linux, macOS and Windows


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With its protocol, or asyncio would not turn off the delay that bundles small answers (Nagle): 40 ms each.
    found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host.strip("[]"), port))
        found.listen(_BACKLOG)
    except OSError:
        found.close()
        raise
    return found
