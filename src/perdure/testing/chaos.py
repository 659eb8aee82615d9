"""Does anything get lost or happen twice when a real worker is killed with SIGKILL, again and again, under load?

    python -m perdure.testing.chaos --kills 1000 [--seed S] [--dir DIR] [--json]

A client process keeps load on a SQLite store, a worker process runs the agents. The worker is killed at random moments
and started again at once. Its tools append what they do to a file, synced. When all is over a checker reads the
client's own history, the file of effects and the store, and nothing else.

A kill proves the logic, not the disk: what a process wrote survives it. Power cuts have a test of their own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from perdure.runtime import AgentSet, Runtime
from perdure.store import SqliteStore
from perdure.testing.history import History, check_history
from perdure.testing.invariants import find_violations, gather_evidence
from perdure.testing.load import Load
from perdure.testing.workflows import AGENTS
from perdure.testing.world import FileWorld
from perdure.values.json import decode

#: A worker lives this long (seconds) after it is ready, shortest and longest.
_LIFE_SECONDS = (0.0, 0.25)
_HEAL_SECONDS = 60.0
_RUNS_IN_FLIGHT = 12


@dataclass(slots=True)
class Verdict:
    """What a campaign did and found."""

    seed: int
    kills: int = 0
    runs: int = 0
    steps: int = 0
    effects: int = 0
    acks: int = 0
    seconds: float = 0.0
    violations: list[str] = field(default_factory=list)


class Worker:
    """The worker process, and the one that gives birth to it."""

    def __init__(self, url: str, effects: str) -> None:
        self._arguments = [sys.executable, "-m", "perdure.testing.chaos_worker", url, effects]
        self._pid = 0
        self._mother: asyncio.subprocess.Process

    async def start(self) -> None:
        """Have a worker, ready to work."""
        if not self._pid:
            self._mother = await asyncio.create_subprocess_exec(
                *self._arguments, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
            )
        assert self._mother.stdin is not None
        self._mother.stdin.write(b"go\n")
        self._pid = int((await self._heard("born")).split()[1])
        await self._heard("ready")

    async def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        os.kill(self._pid, signal.SIGKILL)
        await self._heard("ended")

    async def close(self) -> None:
        """Kill the worker, and let its mother end."""
        await self.kill()
        assert self._mother.stdin is not None
        self._mother.stdin.close()
        await self._mother.wait()

    async def _heard(self, word: str) -> str:
        assert self._mother.stdout is not None
        while line := (await self._mother.stdout.readline()).decode():
            if line.startswith(word):
                return line
            if line.startswith("ended"):
                raise RuntimeError("the worker ended by itself; see its complaints above")
        raise RuntimeError("the worker's mother ended")


async def run_campaign(kills: int, seed: int, directory: str) -> Verdict:
    """Kill a worker `kills` times under load, let everything end, and judge."""
    paths = [str(Path(directory, name)) for name in ("chaos.db", "effects.jsonl", "history.jsonl")]
    store, effects, history_path = paths
    verdict, dice, began = Verdict(seed), random.Random(seed), time.monotonic()
    history, worker = History(history_path), Worker(f"sqlite:///{store}", effects)
    await worker.start()
    async with Runtime(f"sqlite:///{store}", AGENTS, work=False) as runtime:
        load = Load(runtime, FileWorld(effects), history, dice, _RUNS_IN_FLIGHT)
        keeping_up = asyncio.create_task(load.keep_up())
        for _ in range(kills):
            await asyncio.sleep(dice.uniform(*_LIFE_SECONDS))
            await worker.kill()
            await worker.start()
            verdict.kills += 1
            if keeping_up.done():
                break
        verdict.violations += [f"never ended: {run}" for run in await load.finish(_HEAL_SECONDS)]
        await keeping_up
    await worker.close()
    verdict.acks = history.acks
    await _judge(verdict, store, effects, history_path)
    verdict.seconds = round(time.monotonic() - began, 1)
    return verdict


async def _judge(verdict: Verdict, path: str, effects: str, history: str) -> None:
    store = SqliteStore(path)
    await store.open()
    try:
        verdict.violations += await store.check()
        evidence = await gather_evidence(store, FileWorld(effects), AgentSet(AGENTS))
    finally:
        await store.close()
    verdict.runs = len(evidence.runs)
    verdict.steps = sum(event.type == "step.completed" for events in evidence.journals.values() for event in events)
    verdict.effects = len(evidence.world.deeds)
    verdict.violations += find_violations(evidence)
    lines = [decode(line) for line in Path(history).read_text(encoding="utf-8").splitlines()]
    verdict.violations += check_history(evidence, lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 1 when anything was violated."""
    parser = argparse.ArgumentParser(prog="python -m perdure.testing.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=None, help="repeats the client's and the killer's choices")
    parser.add_argument("--dir", help="keep store, effects and history here")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    with tempfile.TemporaryDirectory() as directory:
        verdict = asyncio.run(run_campaign(options.kills, seed, options.dir or directory))
    if options.json:
        print(json.dumps(asdict(verdict)))
    else:
        figures = {name: value for name, value in asdict(verdict).items() if name != "violations"}
        print(", ".join(f"{name} {value}" for name, value in figures.items()), f"violations {len(verdict.violations)}")
        print("\n".join(verdict.violations[:20]), end="\n" if verdict.violations else "")
    return 1 if verdict.violations else 0


if __name__ == "__main__":
    raise SystemExit(main())
