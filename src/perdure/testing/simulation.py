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
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from unittest import mock

from perdure.errors import PerdureError
from perdure.kernel.activation import Activation
from perdure.runtime import AgentSet, Runtime
from perdure.store import MemoryStore
from perdure.testing.clients import Clients
from perdure.testing.history import History, check_history
from perdure.testing.host import SimulatedClock, SimulatedHost, run_simulated
from perdure.testing.invariants import Evidence, find_violations, gather_evidence
from perdure.testing.limited import LIMITED, Crowd
from perdure.testing.plans import AGENTS, Planner, fits, foretell, the_pace
from perdure.testing.record import ClusterRecord
from perdure.testing.room import Room
from perdure.testing.storm import Storm
from perdure.testing.swarm import Mix, Weather
from perdure.testing.workflows import the_world
from perdure.testing.world import World
from perdure.values import ids
from perdure.values.events import Event
from perdure.values.runs import Run, RunStatus

_STORM_SECONDS = 6.0
_HEALING_SECONDS = 150.0
#: How long a client waits for a reply before it goes on.
_REPLY_SECONDS = 2.0
#: For so many leases nothing may move once all shards have found their owners.
_QUIET_LEASES = 1.0
#: How often a shard may move, for each of them and each node that comes, after the storm.
_MOVES_MOST = 2


@dataclass(slots=True)
class Report:
    """What became of one seed."""

    seed: int
    mix: Mix
    runs: int = 0
    events: int = 0
    deaths: int = 0
    #: nodes that ended in good order, were frozen, were cut off
    departures: int = 0
    freezes: int = 0
    cuts: int = 0
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
        self._crowd = Crowd(dice)
        self._agents = AGENTS + LIMITED if self._mix.crowd_rate else AGENTS
        self._kept: list[Any] = []

    async def run(self, host: SimulatedHost) -> Report:
        mix, dice = self._mix, self._dice
        self._host = host
        true_clock = SimulatedClock(host)
        self._log = ClusterRecord(AgentSet(self._agents), host, lambda: true_clock.now_us() + self._storm.most_ahead_us)
        self._store = MemoryStore(clock=true_clock, slots=mix.slots)
        self._room = Room(host, dice, mix, self._store, self._agents, self._log)
        # A worker that is frozen in the middle of a tool goes on in it, however its runs were settled meanwhile: nobody
        # can hinder that but the service it calls. So this one takes fencing tokens.
        self._world.is_stale = lambda run: not self._log.owned_here(run)
        weather, mild = Weather(host, mix, dice), Weather(host, mix, dice, deadly=False)
        the_world.set(self._world)
        the_pace.set(weather.reach)
        node = self._room.make("client", mild)
        self._storm = Storm(host, dice, mix, self._room, node, [weather, mild])
        client = node.runtime
        await client.kernel.start(work=False)
        self._room.far = True
        places = [asyncio.create_task(self._room.keep(f"node {place}", weather)) for place in "ABCDE"[: mix.nodes]]
        self._storm.begin()
        await asyncio.gather(self._make_requests(client), self._press(client))
        unfinished = await self._heal(client)
        for task in places:
            task.cancel()
        await self._judge(unfinished)
        return self.report

    # The storm.

    async def _make_requests(self, client: Runtime) -> None:
        while self._host.time() < _STORM_SECONDS:
            await asyncio.sleep(self._dice.expovariate(self._mix.requests_rate))
            inside = sorted(self._room.nodes) if self._dice.random() < self._mix.inside_share else []
            name = self._dice.choice(inside) if inside else "client"
            runtime = self._room.nodes[name].runtime if inside else client
            task = self._host.start_on(name, self._clients.draw_request(runtime))
            self._kept.append(task)
            await asyncio.wait({task}, timeout=self._dice.choice([0.0, 0.0, _REPLY_SECONDS]))

    async def _press(self, client: Runtime) -> None:
        while self._mix.crowd_rate and self._host.time() < _STORM_SECONDS:
            await asyncio.sleep(self._dice.expovariate(self._mix.crowd_rate))
            with contextlib.suppress(PerdureError):
                await self._crowd.press(client)

    # Fine weather.

    async def _heal(self, client: Runtime) -> list[Run]:
        self._storm.clear_up()
        self._cleared_at = self._host.time()
        claims, joined = self._log.claims, self._room.joined
        until = self._host.time() + _HEALING_SECONDS
        while (unfinished := await self._clients.help_on(client)) and self._host.time() < until:
            await asyncio.sleep(0.5)
        violations = self.report.violations
        violations += filter(None, [await self._find_unrest(until)])
        most = _MOVES_MOST * len(await self._store.shards()) * (1 + self._room.joined - joined)
        if self._log.claims - claims > most:
            violations.append(f"{self._log.claims - claims} times a shard moved in fine weather")
        return unfinished

    async def _find_unrest(self, until: float) -> str:
        """Wait until all shards are owned, evenly and for a while; gives what hinders that, in words."""
        # Leases that could not be renewed in the storm run out after it.
        await asyncio.sleep(max(0.0, self._cleared_at + self._mix.lease_seconds - self._host.time()))
        while True:
            complaint, claims, present = await self._room.complaint(), self._log.claims, self._room.present
            await asyncio.sleep(_QUIET_LEASES * self._mix.lease_seconds)
            if not complaint and present == self._room.present:
                moved = self._log.claims - claims
                return f"{moved} shards moved although all were evenly owned" if moved else ""
            if self._host.time() > until:
                return complaint or "nodes came and went"

    # The verdict.

    async def _judge(self, unfinished: list[Run]) -> None:
        evidence = await gather_evidence(self._store, self._world, AgentSet(self._agents), self._log.events)
        report = self.report
        report.runs, report.events, report.turns = len(evidence.runs), len(self._log.events), self._host.turns
        report.deaths, report.departures = self._room.deaths, self._room.departures
        report.freezes, report.cuts = self._storm.freezes, self._storm.cuts
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
