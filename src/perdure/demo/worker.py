"""The demo's worker: a process that runs the agent until its run ends, or its standard input does.

    PERDURE_STORE=URL python -m perdure.demo.worker --run ID [--cue SCENE:COUNT]

Since input ends when the show does, however that ended, no worker outlives it. At its cue the worker prints one line.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

from perdure import Runtime, Settings
from perdure.demo.agent import reconcile
from perdure.demo.stage import Cue, stage
from perdure.errors import PerdureError, RunCancelled, RunFailed

#: How long the next worker waits for one that was killed, where the store cannot see that it is gone (PostgreSQL).
LEASE_SECONDS = 2.0
#: what the worker prints at its cue
REACHED = "cue"


def main() -> int:
    """Exit code 0 when the run ended or input did, 1 when this worker could not go on."""
    parser = argparse.ArgumentParser(description="Run the demo's agent until its run ends, or standard input does.")
    parser.add_argument("--run", required=True)
    parser.add_argument("--cue", type=Cue.parse)
    arguments = parser.parse_args()
    stage.cue = arguments.cue
    try:
        asyncio.run(_work(os.environ["PERDURE_STORE"], arguments.run))
    except PerdureError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


async def _work(store: str, run: str) -> None:
    settings = Settings(finish_seconds=1.0, lease_seconds=LEASE_SECONDS)
    async with Runtime(store, agents=[reconcile], settings=settings) as runtime:
        announcing = asyncio.create_task(_announce_cue())
        ends = {asyncio.create_task(_end_of_run(runtime, run)), asyncio.create_task(_end_of_input())}
        try:
            done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for end in done:
                end.result()
        finally:
            for task in (announcing, *ends):
                task.cancel()


async def _end_of_run(runtime: Runtime, run: str) -> None:
    try:
        await (await runtime.run(run)).result()
    except (RunFailed, RunCancelled):
        return  # the journal says why; this worker did its work


async def _end_of_input() -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


async def _announce_cue() -> None:
    await stage.reached.wait()
    sys.stdout.write(f"{REACHED}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
