"""The command line of chaos."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from perdure.testing import chaos
from perdure.testing.chaos.campaign import Verdict, run_campaign
from perdure.testing.chaos.kills import KillsOfOne

_SHOWN_MOST = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """1 when anything was violated."""
    options = _parse(arguments)
    logging.disable(logging.CRITICAL)
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    violated = False
    with tempfile.TemporaryDirectory() as temporary:
        for verdict in _campaigns(options, seed, Path(options.dir or temporary)):
            violated |= bool(verdict.violations)
            print(json.dumps(asdict(verdict)) if options.json else _show(verdict), flush=True)
    return int(violated)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m perdure.testing.chaos", description=chaos.__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--store", help="postgresql://user@host/database, or postgresql:// for a server of its own")
    parser.add_argument("--fault", help="only this one of a cluster's faults")
    parser.add_argument("--count", "--kills", type=int, help="how often it strikes")
    parser.add_argument("--seed", type=int, help="repeats the client's and the striker's choices")
    parser.add_argument("--dir", help="keep what was noted here")
    parser.add_argument("--json", action="store_true", help="one JSON object for each fault")
    return parser.parse_args(arguments)


def _campaigns(options: argparse.Namespace, seed: int, directory: Path) -> Iterator[Verdict]:
    if not options.store:
        fault = KillsOfOne(f"sqlite:///{directory / 'chaos.db'}")
        yield asyncio.run(run_campaign(fault, options.count or 100, seed, str(directory)))
        return
    from perdure.testing.chaos.cluster import FAULTS, cluster, fault_in  # noqa: PLC0415 - who has no cluster has no driver

    with cluster(options.store) as url:
        for name in [options.fault] if options.fault else FAULTS:
            folder = directory / name
            folder.mkdir(parents=True, exist_ok=True)
            with fault_in(url, FAULTS[name], f"chaos_{name}_{seed}") as ready:
                yield asyncio.run(run_campaign(ready, options.count or FAULTS[name].count, seed, str(folder)))


def _show(verdict: Verdict) -> str:
    figures = {name: value for name, value in asdict(verdict).items() if name != "violations"}
    told = ", ".join(f"{name} {value}" for name, value in figures.items())
    return "\n".join([f"{told}, violations {len(verdict.violations)}", *verdict.violations[:_SHOWN_MOST]])


if __name__ == "__main__":
    raise SystemExit(main())
