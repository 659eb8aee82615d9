"""How large is each workload? As docs/benchmarks.md has them, or smaller for a quick look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from perdure.bench.places import Place
from perdure.values.settings import Settings


@dataclass(frozen=True, slots=True)
class Sizes:
    """Counts of every workload; the defaults are the measurement."""

    #: how often a batch is measured; the median counts
    rounds: int = 3
    raw_commits: int = 2_000
    sequential_runs: int = 15
    sequential_steps: int = 200
    concurrent_runs: int = 100
    concurrent_steps: int = 20
    short_runs: int = 1_000
    idle_calls: int = 200
    children: int = 1_000
    parked_runs: int = 100_000
    #: how many are started at once
    parked_batch: int = 2_000
    #: parked before the first look, until what a node keeps for all its runs has its full size
    parked_warm_up: int = 8_000
    idle_seconds: float = 5.0
    wakes: int = 200
    killed_runs: int = 50
    killed_steps: int = 10
    kill_after_lines: int = 200
    short_journal_steps: int = 1_000
    long_journal_steps: int = 10_000
    #: how often a run with a long journal comes back
    returns: int = 5
    long_run_steps: int = 10_000
    #: steps in a row, by turns in a long and in a fresh run, and how often
    window_steps: int = 20
    windows: int = 15
    #: 0 leaves the figure out
    stored_events: int = 1_000_000
    #: how often the interpreter is started
    starts: int = 7
    #: parked on one node and woken from another
    remote_parked_runs: int = 2_000
    #: requests to a server, and followers of one of its runs
    http_reads: int = 20_000
    http_starts: int = 1_000
    followers: int = 10_000
    #: how often one node, or two, do a round of concurrent runs
    scaling_rounds: int = 5
    #: of the nodes of a cluster: the default
    lease_seconds: float = Settings().lease_seconds


MEASUREMENT = Sizes()
QUICK = Sizes(
    rounds=1, sequential_runs=5, idle_calls=100, parked_runs=10_000, idle_seconds=2.0, wakes=100,
    returns=3, stored_events=0, starts=3, remote_parked_runs=500, scaling_rounds=2, http_reads=2_000, http_starts=200,
    followers=1_000,
)  # fmt: skip


class Bench(NamedTuple):
    """What a workload is given: a place for its stores, and its sizes."""

    place: Place
    sizes: Sizes
