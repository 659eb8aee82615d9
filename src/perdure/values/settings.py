"""Every setting of a node, with its default and unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf

from perdure.errors import InvalidSetting


@dataclass(frozen=True, slots=True)
class Settings:
    """How a node behaves. None of these changes what a run means, only when it happens."""

    #: a node that does not renew within this time may lose its shards (seconds)
    lease_seconds: float = 5.0
    #: runs of this node that may move at once
    moving_most: int = 2_000
    #: waiting runs kept in memory, so that waking them needs no replay
    idle_most: int = 256
    #: how long a waiting run stays in memory (seconds)
    idle_seconds: float = 10.0
    #: crashes in a row without a completed step before a run is quarantined
    strikes_most: int = 5
    #: how long a shutdown lets steps finish before it abandons them (seconds)
    finish_seconds: float = 10.0
    #: how long agent code may hold the loop before it is reported (seconds)
    hog_seconds: float = 1.0
    #: threads for sync tools
    threads: int = 16
    #: cpus that tools with `compute=` may take on this node, and so their processes; None means those of the machine
    processes: int | None = None
    #: the Ray cluster that runs tools with `compute=` instead: HOST:PORT, or `local` for one of this node's own
    ray: str | None = None
    #: how many turns each concurrency key gets while others have one, where places are short; 1.0 for those not named
    weights: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key, weight in self.weights.items():
            if not 0 < weight < inf:
                raise InvalidSetting(f"weights: that of {key!r} must be a number above 0, not {weight!r}")
