"""What does a server cost, and how quick is it? `perdure dev` as a process, and callers who speak plain HTTP/1.1.

The callers share the machine's cores with the server, as its database does: what is measured is a whole server.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from perdure.bench.figures import percentile
from perdure.bench.sizes import Bench
from perdure.values.json import decode

_TOKEN = "only-for-this-measurement"  # noqa: S105 - the server lives for seconds
_AGENTS = "from perdure.bench.agents import parked, sequence\n"
_CALLERS = 16
#: Followers that connect at the same time.
_AT_ONCE = 100
_EVENTS = b"Accept: text/event-stream\r\n"


async def measure_http(bench: Bench) -> dict[str, float]:
    """Until a page is there, and what the server weighs; reads, starts, and streams of many followers."""
    sizes, store = bench.sizes, bench.place.make_store("http")
    file = bench.place.directory / "served.py"
    file.write_text(_AGENTS, encoding="utf-8")
    began = time.perf_counter()
    async with _server(file, store) as server:
        await server.call("GET", "/", 1)
        ready_seconds, megabytes = time.perf_counter() - began, server.megabytes
        run = (await server.json("POST", "/v1/agents/sequence/runs?wait=20", b"1"))["id"]
        reads, seconds = await server.load("GET", f"/v1/runs/{run}", sizes.http_reads)
        starts = await server.times("POST", "/v1/agents/sequence/runs", sizes.http_starts, b"1")
        told = await _told_after(server, sizes.http_starts // 10)
        weight = await _weigh_followers(server, sizes.followers)
    return {
        "dev_ready_seconds": ready_seconds, "dev_mb": megabytes, "http_reads_per_second": len(reads) / seconds,
        "http_read_ms_p99": percentile(reads, 0.99) * 1e3, "http_start_ms_p50": percentile(starts, 0.5) * 1e3,
        "told_ms_p50": percentile(told, 0.5) * 1e3, "followers_10000_mb": weight,
    }  # fmt: skip


async def _told_after(server: _Server, times: int) -> list[float]:
    """From the sending of a message until a follower is told that the run has it: two commits and an answer between."""
    run = (await server.json("POST", "/v1/agents/parked/runs"))["id"]
    reader, writer = await server.connect()
    writer.write(server.request("GET", f"/v1/runs/{run}/events", headers=_EVENTS))
    await reader.readuntil(b"event: message.awaited\n")
    found = []
    for _ in range(times):
        began = time.perf_counter()
        sending = asyncio.create_task(server.json("POST", f"/v1/runs/{run}/messages", b'{"topic": "noise"}'))
        await reader.readuntil(b"event: message.received\n")
        found.append(time.perf_counter() - began)
        await sending
    writer.close()
    return found


async def _weigh_followers(server: _Server, followers: int) -> float:
    """Megabytes of a server with so many followers of one waiting run, as for ten thousand."""
    _allow_files(followers + 100)
    run = (await server.json("POST", "/v1/agents/parked/runs"))["id"]
    request = server.request("GET", f"/v1/runs/{run}/events", headers=_EVENTS)
    before, writers = server.megabytes, []

    async def follow() -> None:
        reader, writer = await server.connect()
        writer.write(request)
        await reader.readuntil(b"event: message.awaited\n")
        writers.append(writer)

    for _ in range(0, followers, _AT_ONCE):
        await asyncio.gather(*(follow() for _ in range(_AT_ONCE)))
    grown = server.megabytes - before
    for writer in writers:
        writer.close()
    return before + grown * 10_000 / followers


class _Answer(NamedTuple):
    status: int
    body: bytes


class _Server:
    """A server, and somebody who calls it."""

    def __init__(self, process: Process, url: str) -> None:
        self._process = process
        self._host, _, port = url.removeprefix("http://").rpartition(":")
        self._port = int(port)

    @property
    def megabytes(self) -> float:
        """What is resident of the server."""
        status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii")
        [line] = [line for line in status.splitlines() if line.startswith("VmRSS:")]
        return int(line.split()[1]) * 1024 / 1e6

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection."""
        return await asyncio.open_connection(self._host, self._port)

    def request(self, method: str, path: str, body: bytes = b"", *, headers: bytes = b"") -> bytes:
        """The bytes of a request."""
        about = f"{method} {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\nAuthorization: Bearer {_TOKEN}\r\n"
        length = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
        return f"{about}{length}".encode() + headers + b"\r\n" + body

    async def call(self, method: str, path: str, count: int, body: bytes = b"") -> tuple[list[float], _Answer]:
        """The same request so often over one connection: how long each took (seconds), and the last answer."""
        reader, writer = await self.connect()
        request, found, answer = self.request(method, path, body), [], _Answer(0, b"")
        for _ in range(count):
            began = time.perf_counter()
            writer.write(request)
            answer = await _read(reader)
            found.append(time.perf_counter() - began)
        writer.close()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path} answered {answer.status}: {answer.body[:200]!r}")
        return found, answer

    async def json(self, method: str, path: str, body: bytes = b"") -> dict[str, Any]:
        """One answer."""
        _, answer = await self.call(method, path, 1, body)
        found: dict[str, Any] = decode(answer.body)
        return found

    async def times(self, method: str, path: str, count: int, body: bytes = b"") -> list[float]:
        """How long each of `count` requests took, one after the other."""
        found, _ = await self.call(method, path, count, body)
        return found

    async def load(self, method: str, path: str, count: int) -> tuple[list[float], float]:
        """How long each of `count` requests of many callers took, and all of them together."""
        began = time.perf_counter()
        each = await asyncio.gather(*(self.times(method, path, count // _CALLERS) for _ in range(_CALLERS)))
        return [seconds for found in each for seconds in found], time.perf_counter() - began


@asynccontextmanager
async def _server(file: Path, store: str) -> AsyncIterator[_Server]:
    words = "dev", str(file), "--store", store, "--port", "0", "--no-reload", "--no-open", "--json"
    _allow_files(20_000)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "perdure", *words, stdout=PIPE, stderr=DEVNULL,
        env={**os.environ, "PERDURE_TOKEN": _TOKEN},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        yield _Server(process, json.loads(await process.stdout.readline())["url"])
    finally:
        process.terminate()
        await process.wait()


async def _read(reader: asyncio.StreamReader) -> _Answer:
    head = await reader.readuntil(b"\r\n\r\n")
    length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    return _Answer(int(head.split(b" ", 2)[1]), await reader.readexactly(int(length or 0)))


def _allow_files(count: int) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, most), most))
