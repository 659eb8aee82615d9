"""Does the kernel keep its promises in worlds that nobody would think of? Many seeds, each a world of its own.

    python -m perdure.testing.simulator [--seeds 2000] [--first 0] [--processes 2] [--json]
    python -m perdure.testing.simulator --seed 1234        # one seed again, with the journals of whom it hit

A seed draws a mix of faults (swarm.py), the requests of clients (clients.py) and the code of the agents (plans.py), and
is lived through in virtual time (simulation.py). The same seed gives the same trace, byte for byte; every hundredth is
run twice to prove it. A seed that fails prints the command that repeats it.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from perdure.testing.simulation import Report, simulate

_TWICE_EVERY = 100
_COLLECT_EVERY = 20
_FIGURES = ("seeds", "runs", "events", "deaths", "departures", "freezes", "cuts", "turns")


def run_campaign(seeds: range) -> dict[str, Any]:
    """Simulate `seeds`, each hundredth twice; totals, and for each failing seed its violations."""
    began = time.monotonic()
    gc.freeze()  # what is loaded by now need not be looked at in each collection
    totals: dict[str, Any] = {**dict.fromkeys(_FIGURES, 0), "failures": {}}
    for seed in seeds:
        report, *again = [simulate(seed) for _ in range(2 if seed % _TWICE_EVERY == 0 else 1)]
        for name in _FIGURES[1:]:
            totals[name] += getattr(report, name)
        totals["seeds"] += 1
        if any(other.trace != report.trace for other in again):
            report.violations.append("the same seed gave another trace")
        if seed % _COLLECT_EVERY == 0:
            gc.collect()  # each simulation runs with it off, and leaves its worlds behind
        if report.violations:
            totals["failures"][str(seed)] = report.violations
            print(f"seed {seed} failed; again with: python -m perdure.testing.simulator --seed {seed}", file=sys.stderr)
    return {**totals, "seconds": round(time.monotonic() - began, 1)}


def hash_alike(module: str, arguments: Sequence[str] | None) -> int | None:
    """Run `module` again with the hashes of strings fixed, and give its exit code; None where they are.

    Sets of strings are part of the trace.
    """
    if os.environ.get("PYTHONHASHSEED") == "0":
        return None
    command = [sys.executable, "-m", module, *(sys.argv[1:] if arguments is None else arguments)]
    return subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": "0"}, check=False).returncode


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 1 when anything was violated."""
    parser = argparse.ArgumentParser(prog="python -m perdure.testing.simulator", description=__doc__)
    parser.add_argument("--seed", type=int, help="this one only, in detail")
    parser.add_argument("--seeds", type=int, default=2_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args(arguments)
    if (code := hash_alike("perdure.testing.simulator", arguments)) is not None:
        return code
    logging.disable(logging.CRITICAL)
    if options.seed is not None:
        return _show(simulate(options.seed))
    first, last = options.first, options.first + options.seeds
    totals = _share_out(first, last, options.processes) if options.processes > 1 else run_campaign(range(first, last))
    print(json.dumps(totals) if options.json else _summary(totals))
    return 1 if totals["failures"] else 0


def _share_out(first: int, last: int, processes: int) -> dict[str, Any]:
    began = time.monotonic()
    share = -(-(last - first) // processes)
    command = [sys.executable, "-m", "perdure.testing.simulator", "--processes", "1", "--json"]
    children = [
        subprocess.Popen(
            [*command, "--first", str(start), "--seeds", str(min(share, last - start))], stdout=subprocess.PIPE
        )
        for start in range(first, last, share)
    ]
    parts = [json.loads(child.communicate()[0]) for child in children]
    totals: dict[str, Any] = {name: sum(part[name] for part in parts) for name in _FIGURES}
    totals["failures"] = {seed: found for part in parts for seed, found in part["failures"].items()}
    return {**totals, "seconds": round(time.monotonic() - began, 1)}


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
