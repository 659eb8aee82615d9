"""The workers that chaos kills: real processes, but quick to be born.

Importing takes ten times as long as working between two kills. So one process imports everything and then only forks:
for each line on its standard input it starts a worker and prints its pid, and prints `ended` when that worker is gone.
A worker prints `ready` when it owns its shards.
"""

from __future__ import annotations

import asyncio
import os
import sys

from perdure.runtime import Runtime
from perdure.testing.workflows import AGENTS, the_world
from perdure.testing.world import FileWorld


def main() -> None:
    """Fork a worker per line of standard input; ends with it."""
    url, effects = sys.argv[1:]
    warm_up()
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            asyncio.run(work(url, effects))
            os._exit(0)
        say(f"born {pid}")
        os.waitpid(pid, 0)
        say("ended")


async def work(url: str, effects: str) -> None:
    """Be a worker until killed."""
    the_world.set(FileWorld(effects))
    async with Runtime(url, AGENTS) as runtime:
        say("ready")
        while runtime.kernel.failure is None:
            await asyncio.sleep(60)


def warm_up() -> None:
    """Build now what every worker would build again."""
    for agent in AGENTS:
        agent.signature.input_schema()
        agent.signature.output_schema()


def say(line: str) -> None:
    """Tell the driver."""
    os.write(1, f"{line}\n".encode())


if __name__ == "__main__":
    main()
