"""How does a campaign go? A client keeps load on a store, workers run the agents, a fault strikes, and a checker judges.

The checker reads what the client noted, what the tools did to the world, what the store holds and, where that is a
PostgreSQL, what the database itself witnessed; it asks nobody who was struck.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from perdure.runtime import AgentSet, Runtime
from perdure.store import store_from_url
from perdure.testing.chaos.begins import read_begins
from perdure.testing.chaos.crew import Crew
from perdure.testing.chaos.fault import Fault, Scene
from perdure.testing.history import History, check_history
from perdure.testing.invariants import Evidence, find_violations, gather_evidence
from perdure.testing.load import Load
from perdure.testing.workflows import AGENTS
from perdure.testing.world import FileWorld
from perdure.values.json import decode

if TYPE_CHECKING:
    from perdure.testing.chaos.witness import Witness

#: Whatever is struck has recovered within this, or never will.
_HEAL_SECONDS = 60.0


@dataclass(slots=True)
class Verdict:
    """What a campaign did and found."""

    fault: str
    seed: int
    strikes: int = 0
    runs: int = 0
    steps: int = 0
    effects: int = 0
    acks: int = 0
    #: how often a shard went from one worker to another, where the database told
    takeovers: int = 0
    seconds: float = 0.0
    violations: list[str] = field(default_factory=list)


async def run_campaign(fault: Fault, count: int, seed: int, directory: str) -> Verdict:
    """Strike `count` times under load, let everything end, and judge. What was noted stays in `directory`."""
    verdict, began = Verdict(type(fault).__name__.lower(), seed), time.monotonic()
    effects, noted = str(Path(directory, "effects.jsonl")), str(Path(directory, "history.jsonl"))
    history, witness, dice = History(noted), _witness(fault.url), random.Random(seed)
    async with Runtime(fault.url, AGENTS, work=False) as runtime:
        if witness is not None:
            witness.call()
        async with Crew(effects, fault.lease_seconds) as crew:
            load = Load(runtime, FileWorld(effects), history, dice, fault.width, fault.followed)
            verdict.violations += await _strike(fault, Scene(crew, runtime, load, dice), count)
        verdict.violations += crew.complaints
        if runtime.kernel.failure is not None:
            verdict.violations.append(f"the client ended by itself: {runtime.kernel.failure}")
    verdict.strikes, verdict.acks = count, history.acks
    evidence = await _gather(fault, verdict, effects, witness.begun() if witness is not None else [])
    verdict.violations += find_violations(evidence)
    verdict.violations += check_history(evidence, _read_history(noted))
    if witness is not None:
        verdict.takeovers = witness.takeovers()
        verdict.violations += witness.check(read_begins(effects), evidence.runs)
    verdict.seconds = round(time.monotonic() - began, 1)
    return verdict


async def _strike(fault: Fault, scene: Scene, count: int) -> list[str]:
    """All strikes, and what has not ended some time after the last."""
    for url, namespace in zip(fault.worker_urls, fault.namespaces, strict=True):
        await scene.crew.hire(url, namespace)
    keeping_up = asyncio.create_task(scene.load.keep_up())
    striking = asyncio.create_task(fault.strike_all(scene, count))
    await asyncio.wait([keeping_up, striking], return_when=asyncio.FIRST_COMPLETED)
    striking.cancel()  # where the client has failed
    await asyncio.wait([striking])
    await fault.heal(scene)
    never_ended = await scene.load.finish(_HEAL_SECONDS)
    violations = [f"never ended: {run}" for run in never_ended]
    await keeping_up
    try:
        await striking
    except TimeoutError:
        violations.append("a strike had no effect: what was to take over from the one who was struck did not")
    except asyncio.CancelledError:
        violations.append("the client gave up before the last strike")
    return violations


async def _gather(fault: Fault, verdict: Verdict, effects: str, begun: Sequence[str]) -> Evidence:
    store = store_from_url(fault.url)
    await store.open()
    try:
        verdict.violations += await store.check()
        evidence = await gather_evidence(store, FileWorld(effects), AgentSet(AGENTS), begun=begun)
    finally:
        await store.close()
    verdict.runs = len(evidence.runs)
    verdict.steps = sum(event.type == "step.completed" for events in evidence.journals.values() for event in events)
    verdict.effects = len(evidence.world.deeds)
    return evidence


def _read_history(path: str) -> list[dict[str, object]]:
    return [decode(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def _witness(url: str) -> Witness | None:
    if not url.startswith("postgres"):
        return None
    from perdure.testing.chaos.witness import Witness  # noqa: PLC0415 - only who strikes a cluster needs the driver

    return Witness(url)
