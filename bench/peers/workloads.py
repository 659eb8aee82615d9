"""How large is each workload, what does a step return, and how is a sample summed up?

The seven workloads are the same for every peer; only the words differ. "Run" stands for workflow, task, thread or
invocation. This module knows no peer and starts nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: What every step returns: 1,022 characters, which are 1 KiB as JSON.
PAYLOAD = "x" * 1022

#: What one script reports: figures by metric name, and under "detail" whatever explains them.
Metrics = dict[str, Any]

TITLES = {
    "W1": "sequential steps",
    "W2": "concurrent runs of many steps",
    "W3": "many short runs, and one call on an idle system",
    "W4": "parked runs",
    "W5": "kill -9 and recover",
    "W6": "replay of 1,000 steps",
    "W7": "spawn and join 1,000 children",
}

METRICS = {
    "W1": ("step_ms_p50",),
    "W2": ("steps_per_second",),
    "W3": ("runs_per_second", "idle_call_ms_p50", "idle_call_ms_p99"),
    "W4": ("rss_bytes_per_parked", "disk_bytes_per_parked", "idle_cpu_percent", "wake_ms_p50", "wake_ms_p99"),
    "W5": ("all_resumed_seconds", "lost", "repeated"),
    "W6": ("replay_1000_ms",),
    "W7": ("join_1000_seconds",),
}

#: Metrics where more is better; everywhere else less is.
RATES = frozenset({"steps_per_second", "runs_per_second"})

#: Metrics that are compared by eye, because the good value is 0.
COUNTS = frozenset({"lost", "repeated"})


@dataclass(frozen=True)
class Sizes:
    """How much of each workload is done."""

    sequential_steps: int = 200
    sequential_runs: int = 15
    sequential_seconds: float = 12.0
    concurrent_runs: int = 100
    concurrent_steps: int = 20
    concurrent_repeats: int = 2
    short_runs: int = 1_000
    idle_calls: int = 200
    #: Calls and wakes of a peer that polls: each one may wait out a whole poll interval.
    polled_calls: int = 60
    parked_runs: int = 2_000
    wakes: int = 100
    wakes_seconds: float = 35.0
    idle_seconds: float = 3.0
    killed_runs: int = 50
    killed_steps: int = 10
    kill_after_lines: int = 200
    replay_repeats: int = 3
    fan_out_repeats: int = 2
    raw_seconds: float = 4.0
    #: These two are part of a metric's name, so no mode changes them.
    replay_steps: int = 1_000
    children: int = 1_000


FULL = Sizes()
QUICK = Sizes(
    sequential_steps=50,
    sequential_runs=3,
    sequential_seconds=4.0,
    concurrent_runs=20,
    concurrent_steps=10,
    concurrent_repeats=1,
    short_runs=100,
    idle_calls=20,
    polled_calls=10,
    parked_runs=100,
    wakes=10,
    wakes_seconds=15.0,
    idle_seconds=1.0,
    killed_runs=10,
    killed_steps=5,
    kill_after_lines=20,
    replay_repeats=1,
    fan_out_repeats=1,
    raw_seconds=1.0,
)


def percentile(sample: Sequence[float], share: float) -> float:
    """Element floor(n * share) of the sorted sample."""
    ordered = sorted(sample)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def latency(prefix: str, seconds: Sequence[float]) -> Metrics:
    """The p50 and p99 of a sample of seconds, in milliseconds, as `<prefix>_ms_p50` and `<prefix>_ms_p99`."""
    return {f"{prefix}_ms_p{share}": 1_000 * percentile(seconds, share / 100) for share in (50, 99)}


def better_first(metric: str, values: Sequence[float]) -> list[float]:
    """The values from best to worst."""
    return sorted(values, reverse=metric in RATES)


def best_variant(metric: str, variants: Mapping[str, Metrics]) -> Metrics:
    """The figures of the variant that does best on `metric`, with every variant kept under "detail".

    A peer with several ways to do the same thing is judged by its best one.
    """
    best = better_first(metric, [figures[metric] for figures in variants.values()])[0]
    chosen = next(name for name, figures in variants.items() if figures[metric] == best)
    return {**variants[chosen], "detail": {"variant": chosen, **variants}}
