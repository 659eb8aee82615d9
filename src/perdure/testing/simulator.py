"""Does the kernel keep its promises in worlds that nobody would think of? Seeded, in one thread, in virtual time.

    python -m perdure.testing.simulator [--seeds 2000] [--first 0] [--processes 2] [--json]
    python -m perdure.testing.simulator --seed 1234        # one seed again, with all it did

A seed draws a mix of faults (swarm.py), the clients' requests and the code of the agents (plans.py), and runs one or two
nodes on one store for some virtual seconds: they die, freeze and come back, lose acknowledgements, find the disk full,
and their clocks jump. Then everything heals, and every run must come to its end. Everything that was promised is checked
on the way and afterwards. The same seed gives the same trace, byte for byte; every hundredth is run twice to prove it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import logging
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

from perdure.errors import PerdureError
from perdure.kernel.activation import Activation
from perdure.runtime import AgentSet, Runtime
from perdure.store import MemoryStore
from perdure.store.contract import Ask, RunFilter, Store
from perdure.testing.commit_log import CommitLog
from perdure.testing.history import History, check_history
from perdure.testing.host import SimulatedClock, SimulatedHost, Stuck, run_simulated
from perdure.testing.invariants import Evidence, find_violations, gather_evidence
from perdure.testing.plans import AGENTS, Planner, fits, foretell, tally, the_pace, wanderer
from perdure.testing.swarm import Mix, Weather
from perdure.testing.watched import WatchedHands, WatchedStore
from perdure.testing.workflows import settle_unknown, the_world
from perdure.testing.world import World
from perdure.values import ids
from perdure.values.events import Event
from perdure.values.json import decode
from perdure.values.runs import Run, RunStatus
from perdure.values.settings import Settings

_STORMY_SECONDS = 12.0
_HEALING_SECONDS = 240.0
#: A frozen node's leases run out meanwhile.
_FREEZE_SECONDS = (4.0, 20.0)
_LEASE_SECONDS = 3.0
_REPLY_SECONDS = 2.0
_TWICE_EVERY = 100
#: Word that its parent has ended reaches a child within this time, or when all has healed.
_ORPHAN_SECONDS = 100.0


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
        except Stuck as stuck:
            simulation.report.violations.append(f"stuck: {stuck}")
            return simulation.report


@contextlib.contextmanager
def _seeded_names(dice: random.Random) -> Iterator[None]:
    """Ids are drawn from `dice`."""
    # Sets of live runs are in the order of their hashes, which are addresses otherwise.
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
        self._planner = Planner(dice, self._mix.poison_rate)
        self._plans: dict[str, Any] = {}
        self._nodes: dict[str, Runtime] = {}
        self._clocks: list[SimulatedClock] = []
        self._frozen: set[str] = set()
        self._kept: list[Any] = []
        self._storming = True
        self._letters = 0

    async def run(self, host: SimulatedHost) -> Report:
        self._host = host
        self._log = CommitLog(host.time)
        self._weather = Weather(host, self._mix, self._dice)
        self._mild = Weather(host, self._mix, self._dice, deadly=False)
        # A frozen worker that comes back would act once more, however its runs were settled meanwhile: nobody can hinder
        # that but the service it calls. So this one takes fencing tokens.
        self._world.is_stale = lambda run: not self._log.owned_here(run)
        the_world.set(self._world)
        the_pace.set(self._weather.reach)
        self._store = MemoryStore(clock=SimulatedClock(host), slots=2)
        client = self._runtime(self._mild, work=False)
        await client.kernel.start(work=False)
        places = [asyncio.create_task(self._keep_node(f"node {name}")) for name in "AB"[: self._mix.nodes]]
        storm = [asyncio.create_task(work) for work in (self._kill(), self._freeze(), self._jump(), self._fill())]
        await self._make_requests(client)
        self._storming = False
        self._weather.fine = self._mild.fine = True
        for node in self._frozen:
            host.resume(node)
        unfinished = await self._heal(client)
        for task in (*storm, *places):
            task.cancel()
        await self._judge(unfinished)
        return self.report

    def _runtime(self, weather: Weather, *, work: bool = True) -> Runtime:
        clock = SimulatedClock(self._host)
        self._clocks += [clock] if work else []
        store = cast("Store", WatchedStore(self._store, weather, self._log))
        settings = Settings(
            lease_seconds=_LEASE_SECONDS, idle_most=self._mix.idle_most, idle_seconds=self._mix.idle_seconds,
            strikes_most=8,
        )  # fmt: skip
        runtime = Runtime(store, AGENTS, work=work, clock=clock, settings=settings, dice=self._dice.random)
        runtime.kernel.hands = WatchedHands(runtime.kernel.hands, weather, self._log)
        self._kept.append(runtime)
        return runtime

    # Nodes, and what becomes of them.

    async def _keep_node(self, place: str) -> None:
        for life in range(1_000):
            name = f"{place}{life}"
            runtime = self._runtime(self._weather)
            death = self._host.death_of(name)
            working = self._host.start_on(name, runtime.kernel.start())
            self._nodes[name] = runtime
            while not death.done() and runtime.kernel.failure is None:
                if working.done() and working.exception() is not None:
                    break
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
            self._kept.append(asyncio.create_task(self._thaw(name, self._dice.uniform(*_FREEZE_SECONDS))))

    async def _thaw(self, name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._host.resume(name)

    async def _jump(self) -> None:
        async for _ in self._victims(self._mix.jump_rate):
            clock = self._dice.choice(self._clocks)
            clock.ahead_us = self._dice.choice([0, self._dice.randint(-60_000_000, 60_000_000)])

    async def _fill(self) -> None:
        async for _ in self._victims(self._mix.full_rate):
            self._weather.full_until = self._mild.full_until = self._host.time() + self._dice.random() * 3

    async def _victims(self, rate: float) -> Any:
        while rate and self._storming:
            await asyncio.sleep(self._dice.expovariate(rate))
            if self._nodes and self._storming:
                yield self._dice.choice(sorted(self._nodes))

    # Clients.

    async def _make_requests(self, client: Runtime) -> None:
        while self._host.time() < _STORMY_SECONDS:
            await asyncio.sleep(self._dice.expovariate(self._mix.requests_rate))
            inside = sorted(self._nodes) if self._dice.random() < self._mix.inside_share else []
            name = self._dice.choice(inside) if inside else ""
            request = self._draw_request(self._nodes[name] if name else client)
            task = self._host.start_on(name or "client", self._politely(request))
            self._kept.append(task)
            await asyncio.wait({task}, timeout=self._dice.choice([0.0, 0.0, _REPLY_SECONDS]))

    async def _politely(self, request: Coroutine[Any, Any, None]) -> None:
        with contextlib.suppress(PerdureError):
            await request

    def _draw_request(self, runtime: Runtime) -> Coroutine[Any, Any, None]:
        requests: list[Callable[[Runtime], Coroutine[Any, Any, None]]] = [
            self._start, self._start, self._start, self._start_tally, self._send, self._decide, self._decide,
            self._control, self._resolve, self._fork,
        ]  # fmt: skip
        return self._dice.choice(requests)(runtime)

    async def _start(self, runtime: Runtime) -> None:
        session = self._dice.choice([None, None, "a", "b", "c"])
        await self._start_run(runtime, wanderer, self._planner.draw(), session)

    async def _start_tally(self, runtime: Runtime) -> None:
        await self._start_run(runtime, tally, self._dice.randint(1, 9), self._dice.choice("xy"))

    async def _start_run(self, runtime: Runtime, agent: Any, argument: Any, session: str | None) -> None:
        key = f"key {len(self._plans)}"
        self._plans[key] = argument
        self._history.note("start", key=key)
        for _ in range(self._dice.choice([1, 1, 2])):
            handle = await runtime.start(agent, argument, session=session, idempotency_key=key)
            self._history.note("start!", key=key, run=handle.id)

    async def _send(self, runtime: Runtime) -> None:
        run = await self._some_run(runtime)
        self._letters += 1
        letter = self._letters
        if run is not None and self._dice.random() < 0.5:
            self._history.note("send", letter=letter, run=run.id)
            await runtime.send(run.id, "unasked", letter)
            self._history.note("send!", letter=letter, run=run.id)
        else:
            self._history.note("send", letter=letter, run=None)
            await runtime.send(self._dice.choice("abc"), "unasked", letter, agent="wanderer")
            self._history.note("send!", letter=letter, run=None)

    async def _decide(self, runtime: Runtime) -> None:
        asks = await runtime.inbox()
        for ask in self._dice.sample(asks, min(len(asks), 3)):
            await self._decide_ask(runtime, ask)

    async def _decide_ask(self, runtime: Runtime, ask: Ask) -> None:
        with contextlib.suppress(PerdureError):
            if ask.kind == "ask":
                await runtime.answer(ask.id, f"answer {ask.title}")
            elif self._dice.random() < 0.3:
                await runtime.reject(ask.id)
            elif self._dice.random() < 0.2:
                await runtime.approve(ask.id, edit={"tag": f"{decode(ask.detail)['args']['tag']} edited"})
            else:
                await runtime.approve(ask.id)
            self._history.note("answer!", ask=ask.id)

    async def _control(self, runtime: Runtime) -> None:
        run = await self._some_run(runtime)
        if run is not None:
            verb = self._dice.choice(["pause", "pause", "resume", "resume", "cancel", "retry"])
            await getattr(runtime, verb)(run.id)

    async def _resolve(self, runtime: Runtime) -> None:
        for run in await self._open_runs(runtime):
            if (run.wait or {}).get("kind") == "unknown":
                await settle_unknown(runtime, self._world, run.id, (run.wait or {})["step"])

    async def _fork(self, runtime: Runtime) -> None:
        run = await self._some_run(runtime)
        if run is not None and run.steps and not _is_family(run) and not self._is_poisoned(run):
            await runtime.fork(run.id, at=self._dice.randint(1, run.steps))

    async def _some_run(self, runtime: Runtime) -> Run | None:
        runs = await runtime.runs(RunFilter(limit=30))
        return self._dice.choice(runs) if runs else None

    async def _open_runs(self, runtime: Runtime) -> list[Run]:
        statuses = tuple(status for status in RunStatus if not status.terminal)
        return await runtime.runs(RunFilter(statuses=statuses, limit=1_000))

    # Afterwards.

    async def _heal(self, client: Runtime) -> list[Run]:
        until = self._host.time() + _HEALING_SECONDS
        while (unfinished := await self._open_runs(client)) and self._host.time() < until:
            for run in unfinished:
                with contextlib.suppress(PerdureError):
                    if (run.wait or {}).get("kind") == "pause":
                        await client.resume(run.id)
                    elif run.status is RunStatus.QUARANTINED:
                        await (client.cancel if self._is_poisoned(run) else client.retry)(run.id)
            await self._resolve(client)
            for ask in await client.inbox():
                await self._decide_ask(client, ask)
            await asyncio.sleep(0.5)
        return unfinished

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
        trace = hashlib.sha256()
        for event in self._log.events:
            trace.update(repr((event.run, event.seq, event.type, event.time_us, event.raw)).encode())
        trace.update(repr((self._world.deeds, self._history.lines)).encode())
        report.trace = trace.hexdigest()[:16]

    def _check_results(self, evidence: Evidence) -> Iterator[str]:
        for run in evidence.runs.values():
            plan = self._plans.get(run.idempotency_key or "")
            last = evidence.journals[run.id][-1]
            # A child that somebody cancelled fails its parent's line.
            disturbed = any(other.status is RunStatus.CANCELLED and other.parent for other in evidence.runs.values())
            if run.agent == "wanderer" and plan is not None and last.type == "run.succeeded" and not disturbed:
                if not fits(last.data["result"], foretell(plan)):
                    yield f"{run.id}: came to {last.raw} with the plan {plan}"

    def _check_orphans(self, evidence: Evidence) -> Iterator[str]:
        detached = {
            event.data["run"]
            for events in evidence.journals.values()
            for event in events
            if event.type == "child.spawned" and event.data["detach"]
        }
        for run in evidence.runs.values():
            alone = self._log.ended.get(run.id, 0.0) - self._log.ended.get(run.parent or "", 1e9)
            told = any(event.type in {"run.cancelling", "run.cancelled"} for event in evidence.journals[run.id])
            if alone > _ORPHAN_SECONDS and not told and run.id not in detached:
                yield f"{run.id}: went on for {alone:.0f} s after its parent had ended"

    def _is_poisoned(self, run: Run) -> bool:
        plan = self._plans.get(run.idempotency_key or "")
        return isinstance(plan, list) and plan[0][0] == "poison"


def _is_family(run: Run) -> bool:
    """Forks of parents and children share children with their originals; what that means is not for dice to say."""
    return run.parent is not None


# The campaign.


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 1 when anything was violated."""
    parser = argparse.ArgumentParser(prog="python -m perdure.testing.simulator", description=__doc__)
    parser.add_argument("--seed", type=int, help="this one only, in detail")
    parser.add_argument("--seeds", type=int, default=2_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args(arguments)
    if os.environ.get("PYTHONHASHSEED") != "0":
        # Sets of strings are part of the trace.
        command = [
            sys.executable,
            "-m",
            "perdure.testing.simulator",
            *(sys.argv[1:] if arguments is None else arguments),
        ]
        return subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": "0"}, check=False).returncode
    logging.disable(logging.CRITICAL)
    if options.seed is not None:
        return _show(simulate(options.seed))
    if options.processes > 1:
        return _share_out(options)
    totals = run_campaign(range(options.first, options.first + options.seeds))
    print(json.dumps(totals) if options.json else _summary(totals))
    return 1 if totals["failures"] else 0


def run_campaign(seeds: range) -> dict[str, Any]:
    """Simulate `seeds`, each hundredth twice; totals, and for each failing seed its violations."""
    began = time.monotonic()
    totals: dict[str, Any] = {"seeds": 0, "runs": 0, "events": 0, "deaths": 0, "turns": 0, "failures": {}}
    for seed in seeds:
        report = simulate(seed)
        for name in ("runs", "events", "deaths", "turns"):
            totals[name] += getattr(report, name)
        totals["seeds"] += 1
        if seed % _TWICE_EVERY == 0 and simulate(seed).trace != report.trace:
            report.violations.append("the same seed gave another trace")
        if report.violations:
            totals["failures"][str(seed)] = report.violations
            print(f"seed {seed} failed; again with: {again(seed)}", file=sys.stderr)
    return {**totals, "seconds": round(time.monotonic() - began, 1)}


def again(seed: int) -> str:
    """The command that repeats a seed."""
    return f"python -m perdure.testing.simulator --seed {seed}"


def _share_out(options: argparse.Namespace) -> int:
    share = -(-options.seeds // options.processes)
    began = time.monotonic()
    children = []
    for first in range(options.first, options.first + options.seeds, share):
        count = min(share, options.first + options.seeds - first)
        command = [sys.executable, "-m", "perdure.testing.simulator", "--processes", "1", "--json"]
        command += ["--first", str(first), "--seeds", str(count)]
        children.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    parts = [json.loads(child.communicate()[0]) for child in children]
    totals = {name: sum(part[name] for part in parts) for name in ("seeds", "runs", "events", "deaths", "turns")}
    totals["failures"] = {seed: found for part in parts for seed, found in part["failures"].items()}
    totals["seconds"] = round(time.monotonic() - began, 1)
    print(json.dumps(totals) if options.json else _summary(totals))
    return 1 if totals["failures"] else 0


def _summary(totals: dict[str, Any]) -> str:
    failed = [f"  seed {seed}: {found[0]}" for seed, found in totals["failures"].items()]
    figures = ", ".join(f"{name} {value}" for name, value in totals.items() if name != "failures")
    return "\n".join([f"{figures}, failing seeds {len(failed)}", *failed])


def _show(report: Report) -> int:
    print(report.mix)
    print(f"{report.runs} runs, {report.events} events, {report.deaths} deaths, trace {report.trace}")
    for run, events in report.journals.items():
        print(run)
        for event in events:
            print(
                f"  {event.seq:3} {event.time[11:23]} {event.type} {event.step or ''} {event.attempt or ''} {event.raw}"
            )
    print("\n".join(report.violations) or "nothing was violated")
    return 1 if report.violations else 0


if __name__ == "__main__":
    raise SystemExit(main())
