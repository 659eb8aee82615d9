"""One seed, lived through: nodes that come and go on one store, clients, and the faults of a mix.

There is a storm, in which the faults of the seed happen, and then fine weather, in which every run must come to its end.
What was promised is checked while it happens (commit_log.py, watched.py) and when it is over (invariants.py,
history.py). Nothing here is random but through the dice, and nothing takes real time.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

from perdure.kernel.activation import Activation
from perdure.runtime import AgentSet, Runtime
from perdure.store import MemoryStore
from perdure.store.contract import Store
from perdure.testing.clients import Clients
from perdure.testing.commit_log import CommitLog
from perdure.testing.history import History, check_history
from perdure.testing.host import SimulatedClock, SimulatedHost, run_simulated
from perdure.testing.invariants import Evidence, find_violations, gather_evidence
from perdure.testing.plans import AGENTS, Planner, fits, foretell, the_pace
from perdure.testing.swarm import Mix, Weather
from perdure.testing.watched import WatchedHands, WatchedStore
from perdure.testing.workflows import the_world
from perdure.testing.world import World
from perdure.values import ids
from perdure.values.events import Event
from perdure.values.runs import Run, RunStatus
from perdure.values.settings import Settings

_STORM_SECONDS = 12.0
_HEALING_SECONDS = 240.0
#: How long a frozen node stays so: the leases of some run out meanwhile.
_FREEZE_SECONDS = (1.0, 20.0)
_LEASE_SECONDS = 3.0
#: How long a client waits for a reply before it goes on.
_REPLY_SECONDS = 2.0


@dataclass(slots=True)
class Report:
    """What became of one seed."""

    seed: int
    mix: Mix
    runs: int = 0
    events: int = 0
    deaths: int = 0
    turns: int = 0
    #: hash of everything that was committed, done and acknowledged
    trace: str = ""
    violations: list[str] = field(default_factory=list)
    #: of the runs that violations name
    journals: dict[str, list[Event]] = field(default_factory=dict)


def simulate(seed: int) -> Report:
    """Live through `seed`. Deterministic as long as PYTHONHASHSEED is the same."""
    dice = random.Random(seed)
    with _seeded_names(random.Random(seed + 1)):
        simulation = _Simulation(seed, dice)
        try:
            return run_simulated(simulation.run, pick=dice.randrange)
        except Exception as error:  # noqa: BLE001 - whatever breaks a simulation is what it found
            simulation.report.violations.append(f"broken off by {type(error).__name__}: {error}")
            return simulation.report


@contextlib.contextmanager
def _seeded_names(dice: random.Random) -> Iterator[None]:
    """Ids are drawn from `dice`, and sets of live runs are in the order of their names, not of their addresses."""
    by_name = mock.patch.object(Activation, "__hash__", lambda activation: hash(activation.run.id))
    with by_name, mock.patch.object(ids, "secrets", SimpleNamespace(randbits=dice.getrandbits)):
        yield


class _Simulation:
    def __init__(self, seed: int, dice: random.Random) -> None:
        self.report = Report(seed, Mix.draw(dice))
        self._dice = dice
        self._mix = self.report.mix
        self._world = World()
        self._history = History()
        self._clients = Clients(dice, Planner(dice, self._mix.poison_rate), self._world, self._history)
        self._nodes: dict[str, Runtime] = {}
        self._clocks: list[SimulatedClock] = []
        self._most_ahead_us = 0
        self._frozen: set[str] = set()
        self._kept: list[Any] = []

    async def run(self, host: SimulatedHost) -> Report:
        self._host = host
        self._true_clock = SimulatedClock(host)
        self._log = CommitLog(host.time, lambda: self._true_clock.now_us() + self._most_ahead_us)
        self._weather = Weather(host, self._mix, self._dice)
        self._mild = Weather(host, self._mix, self._dice, deadly=False)
        self._store = MemoryStore(clock=SimulatedClock(host), slots=2)
        # A frozen worker that comes back would act once more, however its runs were settled meanwhile: nobody can hinder
        # that but the service it calls. So this one takes fencing tokens.
        self._world.is_stale = lambda run: not self._log.owned_here(run)
        the_world.set(self._world)
        the_pace.set(self._weather.reach)
        client = self._runtime(self._mild)
        await client.kernel.start(work=False)
        places = [asyncio.create_task(self._keep_node(f"node {name}")) for name in "AB"[: self._mix.nodes]]
        storm = [asyncio.create_task(work) for work in (self._kill(), self._freeze(), self._jump(), self._fill())]
        await self._make_requests(client)
        for task in storm:
            task.cancel()
        unfinished = await self._heal(client)
        for task in places:
            task.cancel()
        await self._judge(unfinished)
        return self.report

    def _runtime(self, weather: Weather) -> Runtime:
        clock = SimulatedClock(self._host)
        store = cast("Store", WatchedStore(self._store, weather, self._log))
        settings = Settings(
            lease_seconds=_LEASE_SECONDS, idle_most=self._mix.idle_most, idle_seconds=self._mix.idle_seconds,
            strikes_most=8,
        )  # fmt: skip
        runtime = Runtime(store, AGENTS, clock=clock, settings=settings, dice=self._dice.random)
        runtime.kernel.hands = WatchedHands(runtime.kernel.hands, weather, self._log)
        self._clocks.append(clock)
        self._kept.append(runtime)
        return runtime

    # The storm.

    async def _keep_node(self, place: str) -> None:
        for life in range(1_000):
            name = f"{place}{life}"
            runtime = self._nodes[name] = self._runtime(self._weather)
            death = self._host.death_of(name)
            starting = self._host.start_on(name, runtime.kernel.start())
            while not (death.done() or runtime.kernel.failure or (starting.done() and starting.exception())):
                await asyncio.wait({death}, timeout=0.2)
            self.report.deaths += 1
            del self._nodes[name]
            self._host.kill(name)
            if self._mix.death_is_known:
                self._store.bury(runtime.kernel.node)
            await asyncio.sleep(self._dice.random() * 0.5)

    async def _kill(self) -> None:
        async for name in self._victims(self._mix.kill_rate):
            self._host.kill(name)

    async def _freeze(self) -> None:
        async for name in self._victims(self._mix.freeze_rate):
            self._host.pause(name)
            self._frozen.add(name)
            self._host.call_later(self._dice.uniform(*_FREEZE_SECONDS), self._host.resume, name)

    async def _jump(self) -> None:
        async for _ in self._victims(self._mix.jump_rate):
            clock = self._dice.choice(self._clocks)
            clock.ahead_us = self._dice.choice([0, self._dice.randint(-60_000_000, 60_000_000)])
            self._most_ahead_us = max(self._most_ahead_us, clock.ahead_us)

    async def _fill(self) -> None:
        async for _ in self._victims(self._mix.full_rate):
            self._weather.full_until = self._mild.full_until = self._host.time() + self._dice.random() * 3

    async def _victims(self, rate: float) -> AsyncIterator[str]:
        while rate:
            await asyncio.sleep(self._dice.expovariate(rate))
            if self._nodes:
                yield self._dice.choice(sorted(self._nodes))

    async def _make_requests(self, client: Runtime) -> None:
        while self._host.time() < _STORM_SECONDS:
            await asyncio.sleep(self._dice.expovariate(self._mix.requests_rate))
            inside = sorted(self._nodes) if self._dice.random() < self._mix.inside_share else []
            name = self._dice.choice(inside) if inside else "client"
            task = self._host.start_on(name, self._clients.draw_request(self._nodes.get(name, client)))
            self._kept.append(task)
            await asyncio.wait({task}, timeout=self._dice.choice([0.0, 0.0, _REPLY_SECONDS]))

    async def _heal(self, client: Runtime) -> list[Run]:
        self._weather.fine = self._mild.fine = True
        for node in self._frozen:
            self._host.resume(node)
        until = self._host.time() + _HEALING_SECONDS
        while (unfinished := await self._clients.help_on(client)) and self._host.time() < until:
            await asyncio.sleep(0.5)
        return unfinished

    # The verdict.

    async def _judge(self, unfinished: list[Run]) -> None:
        evidence = await gather_evidence(self._store, self._world, AgentSet(AGENTS), self._log.events)
        report = self.report
        report.runs, report.events, report.turns = len(evidence.runs), len(self._log.events), self._host.turns
        report.violations += [f"{run.id} never ended: {run.status}, {run.reason}" for run in unfinished]
        report.violations += self._log.violations + find_violations(evidence)
        report.violations += [*check_history(evidence, self._history.lines), *self._check_results(evidence)]
        report.violations += self._check_orphans(evidence)
        named = " ".join(report.violations)
        report.journals = {run: events for run, events in evidence.journals.items() if run in named}
        report.trace = self._trace()

    def _check_results(self, evidence: Evidence) -> Iterator[str]:
        """A run that succeeded came to what its plan foretold, unless somebody cancelled a child of somebody."""
        if any(run.status is RunStatus.CANCELLED and run.parent for run in evidence.runs.values()):
            return
        for run in evidence.runs.values():
            plan = self._clients.arguments.get(run.idempotency_key or "")
            last = evidence.journals[run.id][-1]
            if run.agent == "wanderer" and plan is not None and last.type == "run.succeeded":
                if not fits(last.data["result"], foretell(plan)):
                    yield f"{run.id}: came to {last.raw} with the plan {plan}"

    def _check_orphans(self, evidence: Evidence) -> Iterator[str]:
        """A child that outlived its parent was told to stop, unless it is detached."""
        place = {run: place for place, run in enumerate(self._log.ended)}
        for id, run in evidence.runs.items():
            if run.parent in place and place.get(id, 0) > place[run.parent] and id not in self._log.told_to_stop:
                journal = evidence.journals[run.parent]
                if any(e.type == "child.spawned" and e.data["run"] == id and not e.data["detach"] for e in journal):
                    yield f"{id}: outlived its parent, and nobody told it to stop"

    def _trace(self) -> str:
        trace = hashlib.sha256(repr((self._world.deeds, self._history.lines)).encode())
        for event in self._log.events:
            trace.update(repr((event.run, event.seq, event.type, event.time_us, event.raw)).encode())
        return trace.hexdigest()[:16]
