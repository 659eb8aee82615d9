"""How does a workload start a process of its own, and what does that print?"""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process


async def start(program: str, *words: object) -> Process:
    """Start one of the programs of perdure.bench.worker; its standard output is a pipe."""
    command = [sys.executable, "-P", "-m", "perdure.bench.worker", program, *map(str, words)]
    return await asyncio.create_subprocess_exec(*command, stdout=PIPE)


async def run(program: str, *words: object) -> str:
    """Run a program to its end and return the last line it printed. Raises RuntimeError when it fails."""
    process = await start(program, *words)
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{program} ended with code {process.returncode}")
    return output.decode().rstrip().rpartition("\n")[2]
