"""Does a workflow survive a crash at every single point, and another one at every point of the recovery?

    python -m perdure.testing.boundaries [--pairs] [--store memory|sqlite] [--only TEXT] [--json]

The node dies at the chosen point; a new one opens the same store and the program is run again from the top, as a
supervisor would do it. Afterwards every invariant is checked, and the outcome and the deeds must be those of the run
that nothing happened to. All of it in virtual time, so that a crash costs milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import sys
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import apsw

from perdure.runtime import AgentSet, Runtime
from perdure.store import MemoryStore, SqliteStore
from perdure.store.contract import Store
from perdure.testing.commit_log import CommitLog
from perdure.testing.host import SimulatedClock, SimulatedHost, run_simulated
from perdure.testing.invariants import find_violations, gather_evidence
from perdure.testing.watched import CrashPoints, WatchedHands, WatchedStore
from perdure.testing.workflows import AGENTS, WORKFLOWS, Workflow, attend, the_world
from perdure.testing.world import World

#: Virtual seconds after which a recovery that has not ended counts as one that never will.
_PATIENCE_SECONDS = 120.0


class Disk(Protocol):
    """What survives a node: gives a store to each that comes."""

    def open(self, clock: SimulatedClock) -> Store:
        """The store, for a new node."""

    async def lose(self, store: Store, node: str) -> None:
        """The node that had `store` is dead, and everybody can know."""

    def bookings(self) -> list[str]:
        """What the `book` tool left in the database."""


class MemoryDisk:
    """One MemoryStore for all nodes."""

    def __init__(self) -> None:
        self._store: MemoryStore | None = None

    def open(self, clock: SimulatedClock) -> Store:
        self._store = self._store or MemoryStore(clock=clock, slots=4)
        return self._store

    async def lose(self, store: Store, node: str) -> None:
        cast("MemoryStore", store).bury(node)

    def bookings(self) -> list[str]:
        return _bookings(self._store.sql.db) if self._store is not None else []


class SqliteDisk:
    """A file; a dead node's handles on it are closed, as its system would do."""

    def __init__(self, directory: str) -> None:
        self._path = str(Path(directory, "perdure.db"))

    def open(self, clock: SimulatedClock) -> Store:
        return SqliteStore(self._path, clock=clock, slots=4)

    async def lose(self, store: Store, node: str) -> None:
        await store.close()

    def bookings(self) -> list[str]:
        return _bookings(apsw.Connection(self._path))


@dataclass(slots=True)
class Trial:
    """One workflow, crashed at `at` (point numbers; none for the run that nothing happens to)."""

    workflow: str
    at: tuple[int, ...]
    points: list[str] = field(default_factory=list)
    outcome: Any = None
    deeds: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        where = ", then ".join(f"{point} ({self.points[point - 1]})" for point in self.at if point <= len(self.points))
        return f"{self.workflow}, crash at {where or 'no point'}"


def try_out(workflow: Workflow, at: Collection[int], disk: Disk) -> Trial:
    """Run `workflow`, let nodes die at the points `at`, and judge what is left."""
    return run_simulated(lambda host: _Trial(host, workflow, tuple(sorted(at)), disk).run())


def crash_everywhere(workflow: Workflow, store: str = "memory", *, pairs: bool = False) -> Iterator[Trial]:
    """The undisturbed trial, then one for every point, and with `pairs` one for every point of every recovery."""
    with _disk(store) as disk:
        calm = try_out(workflow, (), disk)
    yield calm
    for first in range(1, len(calm.points) + 1):
        with _disk(store) as disk:
            single = _compared(try_out(workflow, (first,), disk), calm)
        yield single
        for second in range(first + 1, len(single.points) + 1) if pairs else ():
            with _disk(store) as disk:
                yield _compared(try_out(workflow, (first, second), disk), calm)


def _compared(trial: Trial, calm: Trial) -> Trial:
    if trial.outcome != calm.outcome:
        trial.violations.append(f"came to {trial.outcome} instead of {calm.outcome}")
    if trial.deeds != calm.deeds:
        trial.violations.append(f"did {dict(trial.deeds)} instead of {dict(calm.deeds)}")
    return trial


def _bookings(db: apsw.Connection) -> list[str]:
    if not db.table_exists(None, "bookings"):
        return []
    return [name for (name,) in db.execute("select name from bookings")]


@contextlib.contextmanager
def _disk(store: str) -> Iterator[Disk]:
    if store == "memory":
        yield MemoryDisk()
    else:
        with tempfile.TemporaryDirectory() as directory:
            yield SqliteDisk(directory)


class _Trial:
    def __init__(self, host: SimulatedHost, workflow: Workflow, at: tuple[int, ...], disk: Disk) -> None:
        self._host = host
        self._workflow = workflow
        self._disk = disk
        self._points = CrashPoints(host, at)
        self._log = CommitLog()
        self._world = World()
        self._clock = SimulatedClock(host)
        self._trial = Trial(workflow.name, at, self._points.names)
        self._kept: list[Runtime] = []

    async def run(self) -> Trial:
        the_world.set(self._world)
        for life in range(1, 10):
            store = self._disk.open(self._clock)
            runtime = self._runtime(store)
            self._kept.append(runtime)
            node = f"node {life}"
            death = self._host.death_of(node)
            work = self._host.start_on(node, self._live(runtime))
            await asyncio.wait({death, work}, return_when=asyncio.FIRST_COMPLETED, timeout=_PATIENCE_SECONDS)
            if death.done():
                await self._disk.lose(store, runtime.kernel.node)
                continue
            if not work.done():
                self._trial.violations.append(await self._stuck(store))
                return self._trial
            self._trial.outcome = work.result()
            break
        await self._judge()
        return self._trial

    def _runtime(self, store: Store) -> Runtime:
        watched = cast("Store", WatchedStore(store, self._points, self._log))
        runtime = Runtime(watched, AGENTS, clock=self._clock, dice=lambda: 0.5)
        runtime.kernel.hands = WatchedHands(runtime.kernel.hands, self._points, self._log)
        return runtime

    async def _live(self, runtime: Runtime) -> Any:
        async with runtime:
            person = asyncio.create_task(attend(runtime, self._world))
            outcome = await self._workflow.program(runtime)
            person.cancel()
            return outcome

    async def _stuck(self, store: Store) -> str:
        evidence = await gather_evidence(store, self._world, AgentSet(AGENTS))
        stuck = [f"{run.id} {run.agent} {run.status} {run.reason}" for run in evidence.runs.values()]
        return f"is stuck: {stuck}"

    async def _judge(self) -> None:
        store = self._disk.open(self._clock)
        await store.open()
        evidence = await gather_evidence(store, self._world, AgentSet(AGENTS), self._log.events)
        await store.close()
        self._trial.deeds = Counter(deed.result for deed in self._world.deeds if not deed.repeated)
        self._trial.deeds.update(f"booked {name}" for name in self._disk.bookings())
        self._trial.violations += self._log.violations + find_violations(evidence)
        self._trial.violations += [
            f"{run.id} is {run.status}: {run.reason}" for run in evidence.runs.values() if not run.status.terminal
        ]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 1 when anything was violated."""
    parser = argparse.ArgumentParser(prog="python -m perdure.testing.boundaries", description=__doc__)
    parser.add_argument("--store", choices=["memory", "sqlite"], default="memory")
    parser.add_argument("--pairs", action="store_true", help="crash the recovery too, at each of its points")
    parser.add_argument("--only", default="", help="workflows whose name contains this")
    parser.add_argument("--json", action="store_true", help="one JSON object at the end")
    options = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    counts: Counter[str] = Counter()
    for workflow in (workflow for workflow in WORKFLOWS if options.only in workflow.name):
        trials = list(crash_everywhere(workflow, options.store, pairs=options.pairs))
        broken = [trial for trial in trials if trial.violations]
        counts.update(trials=len(trials), crashes=sum(len(trial.at) for trial in trials), violations=len(broken))
        if not options.json:
            print(f"{workflow.name}: {len(trials[0].points)} points, {len(trials)} trials, {len(broken)} violated")
        for trial in broken[:3]:
            print(f"  {trial}: {'; '.join(trial.violations[:3])}", file=sys.stderr)
    print(json.dumps(counts) if options.json else f"{dict(counts)}")
    return 1 if counts["violations"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
