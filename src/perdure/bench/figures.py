"""Which figures are there, in which unit, and what is the bar for each? Also: how a sample becomes one figure.

Bars hold for an ordinary server's disk (a raw commit of about 0.12 ms in SQLite) and one quiet core, on PostgreSQL for
two that it shares with the node; ratios hold anywhere.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple


class Metric(NamedTuple):
    """What a figure measures, and its bar: at most, or at least; neither when it is there for information."""

    unit: str
    at_most: float | None = None
    at_least: float | None = None

    @property
    def bar(self) -> str | None:
        """The bar as people write it."""
        if self.at_most is not None:
            return f"<= {self.at_most:g}"
        return None if self.at_least is None else f">= {self.at_least:g}"

    def passed(self, value: float) -> bool | None:
        """Whether `value` reaches the bar; None without one."""
        if self.at_most is not None:
            return value <= self.at_most
        return None if self.at_least is None else value >= self.at_least


METRICS = {
    "step_ms_p50": Metric("ms", at_most=0.30),
    "step_vs_raw_commit": Metric("ratio", at_most=2.5),
    "raw_commit_ms_p50": Metric("ms"),
    "steps_per_second": Metric("1/s", at_least=10_000),
    "runs_per_second": Metric("1/s", at_least=3_000),
    "idle_call_ms_p50": Metric("ms", at_most=1.5),
    "idle_call_ms_p99": Metric("ms"),
    "rss_bytes_per_parked": Metric("bytes", at_most=100),
    "disk_bytes_per_parked": Metric("bytes", at_most=2_048),
    "idle_cpu_percent": Metric("% of a core", at_most=0.5),
    "wake_ms_p50": Metric("ms", at_most=1.5),
    "wake_ms_p99": Metric("ms", at_most=8),
    "all_resumed_seconds": Metric("s", at_most=0.3),
    "all_resumed_from_exec_seconds": Metric("s"),
    "lost": Metric("steps", at_most=0),
    "repeated": Metric("effects", at_most=0),
    "repeated_reads": Metric("effects"),
    "replay_1000_ms": Metric("ms", at_most=25),
    "replay_10000_ms": Metric("ms", at_most=250),
    "join_1000_seconds": Metric("s", at_most=0.6),
    "flat_step_ratio": Metric("ratio", at_most=1.2),
    "million_ratio": Metric("ratio", at_most=1.3),
    "journal_ratio": Metric("ratio", at_most=2),
    "remote_wake_ms_p50": Metric("ms", at_most=3),
    "remote_wake_ms_p99": Metric("ms"),
    "kill_takeover_seconds": Metric("s", at_most=6),
    "stop_takeover_seconds": Metric("s", at_most=0.5),
    "scaling": Metric("ratio", at_least=1.7),
    "import_seconds": Metric("s", at_most=0.3),
    "help_seconds": Metric("s", at_most=0.15),
    "idle_worker_mb": Metric("MB", at_most=70),
    "dev_ready_seconds": Metric("s", at_most=2),
    "dev_mb": Metric("MB", at_most=100),
    "http_reads_per_second": Metric("1/s", at_least=3_000),
    "http_read_ms_p99": Metric("ms", at_most=20),
    "http_start_ms_p50": Metric("ms", at_most=5),
    "told_ms_p50": Metric("ms", at_most=50),
    "followers_10000_mb": Metric("MB", at_most=400),
}


#: Figures whose bar is another one on PostgreSQL, or is not asked of it: there a server shares the cores, every read is a
#: round trip, and whoever was killed is known by its lease.
ON_POSTGRES = METRICS | {
    "step_ms_p50": Metric("ms", at_most=0.7),
    "step_vs_raw_commit": Metric("ratio", at_most=2),
    "steps_per_second": Metric("1/s", at_least=6_000),
    "runs_per_second": Metric("1/s", at_least=1_500),
    "idle_call_ms_p50": Metric("ms", at_most=3),
    "wake_ms_p50": Metric("ms", at_most=3),
    "wake_ms_p99": Metric("ms"),
    "join_1000_seconds": Metric("s", at_most=1),
    "disk_bytes_per_parked": Metric("bytes"),
    "idle_cpu_percent": Metric("% of a core"),
    "all_resumed_seconds": Metric("s"),
    "replay_1000_ms": Metric("ms"),
    "replay_10000_ms": Metric("ms"),
    "journal_ratio": Metric("ratio"),
}


class Figure(NamedTuple):
    """One measured value."""

    workload: str
    metric: str
    value: float
    on_postgres: bool = False

    def as_json(self) -> dict[str, Any]:
        """The public form: {workload, metric, value, unit, bar, pass}."""
        metric = (ON_POSTGRES if self.on_postgres else METRICS)[self.metric]
        return {
            "workload": self.workload,
            "metric": self.metric,
            "value": float(f"{self.value:.4g}"),
            "unit": metric.unit,
            "bar": metric.bar,
            "pass": metric.passed(self.value),
        }


def percentile(sample: Sequence[float], share: float) -> float:
    """Element floor(n * share) of the sorted sample."""
    return sorted(sample)[int(len(sample) * share)]


def settle(metric: str, values: Sequence[float]) -> float:
    """One value of several repetitions: the median; the worst where nothing at all is allowed."""
    return max(values) if METRICS[metric].at_most == 0 else statistics.median(values)
