"""A node of a cluster as a process of its own: how it is started, and what it does. It ends with whoever started it."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import Process
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from perdure.bench import children
from perdure.bench.agents import AGENTS, marks
from perdure.cli.stopping import stop_signals
from perdure.runtime import Runtime
from perdure.values.settings import Settings

_LOOK_SECONDS = 0.05
#: How long nodes may take to share the work: a newcomer is given its part once it has been there for a lease.
_SHARING_LEASES_MOST = 10


@asynccontextmanager
async def node(store: str, agent: str, lease_seconds: float) -> AsyncIterator[Process]:
    """A node that serves one agent, ready; killed when the block ends, if it has not ended by then."""
    process = await children.start("node", store, agent, lease_seconds)
    assert process.stdout is not None
    try:
        if not await process.stdout.readline():
            raise RuntimeError("a node ended before it was ready")
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def until_shared(client: Runtime, agent: str, nodes: int, lease_seconds: float) -> None:
    """Return when so many nodes have equal parts of the agent's shards. Raises TimeoutError."""
    async with asyncio.timeout(_SHARING_LEASES_MOST * lease_seconds):
        while True:
            shards = [shard for shard in await client.store.shards() if shard.name.startswith(f"{agent}:")]
            owned = Counter(shard.owner for shard in shards)
            if len(owned) == nodes and None not in owned and len(set(owned.values())) == 1:
                return
            await asyncio.sleep(_LOOK_SECONDS)


async def work(store: str, agent: str, lease_seconds: float) -> str:
    """Serve an agent until SIGTERM, or until standard input ends; gives the marks that its code left."""
    served = [each for each in AGENTS if each.name == agent]
    async with Runtime(store, served, settings=Settings(lease_seconds=lease_seconds)):
        with stop_signals() as stopped:
            print("ready", flush=True)  # noqa: T201 - whoever started it reads this
            ends = [asyncio.create_task(stopped.wait()), asyncio.create_task(_input_ends())]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for end in ends:
                end.cancel()
    return json.dumps(marks)


async def _input_ends() -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()
