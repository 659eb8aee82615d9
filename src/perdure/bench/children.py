"""How does a workload start a process of its own, and what does that print?"""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process

from perdure.bench.places import VARIABLE


async def start(program: str, store: str, *words: object) -> Process:
    """Start one of the programs of perdure.bench.worker; its standard input and output are pipes."""
    command = [sys.executable, "-P", "-m", "perdure.bench.worker", program, *map(str, words)]
    return await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, env={**os.environ, VARIABLE: store})


async def run(program: str, store: str, *words: object) -> str:
    """Run a program to its end and return the last line it printed. Raises RuntimeError when it fails."""
    return await end(program, await start(program, store, *words))


async def end(program: str, process: Process) -> str:
    """Close a program's input, wait for its end and return the last line it printed. Raises RuntimeError when it fails."""
    try:
        output, _ = await process.communicate(b"")  # empty, but it closes the input
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        raise RuntimeError(f"{program} ended with code {process.returncode}")
    return output.decode().rstrip().rpartition("\n")[2]
