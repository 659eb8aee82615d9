"""How large is each workload? As docs/benchmarks.md has them, or smaller for a quick look."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


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


MEASUREMENT = Sizes()
QUICK = Sizes(
    rounds=1, sequential_runs=5, idle_calls=100, parked_runs=10_000, idle_seconds=2.0, wakes=100,
    returns=3, stored_events=0, starts=3,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Bench:
    """What a workload is given: an empty directory, and its sizes."""

    directory: Path
    sizes: Sizes

    @property
    def url(self) -> str:
        """A store in that directory."""
        return store_url(self.directory)

    @property
    def file(self) -> Path:
        """The file of that store."""
        return self.directory / _FILE


def store_url(directory: Path) -> str:
    """The store that a workload and its processes share."""
    return f"sqlite:///{directory / _FILE}"


_FILE = "bench.db"
