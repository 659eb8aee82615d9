"""A run's outward record: what lists show. The journal is the truth; this row is a view of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class RunStatus(StrEnum):
    """Where a run stands."""

    #: recorded, not yet begun: no free worker, or its session is busy
    QUEUED = "queued"
    #: owned by a worker and moving
    RUNNING = "running"
    #: parked until a timer, message, answer, child or decision arrives; costs nothing
    WAITING = "waiting"
    #: stopped by a person until resumed
    PAUSED = "paused"
    #: ended with a result
    SUCCEEDED = "succeeded"
    #: ended with an error
    FAILED = "failed"
    #: ended because somebody cancelled it
    CANCELLED = "cancelled"
    #: parked because going on could do harm (crash loop, changed code): needs a person
    QUARANTINED = "quarantined"

    @property
    def terminal(self) -> bool:
        """True for an end: a terminal status never changes."""
        return self in _TERMINAL


_TERMINAL = frozenset({RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED})


@dataclass(frozen=True, slots=True)
class Run:
    """One run as the store lists it. Times are microseconds since the epoch."""

    id: str
    agent: str
    version: str
    session: str | None
    shard: str
    status: RunStatus
    created: int
    updated: int
    #: why the run is not moving, in words; None while it moves
    reason: str | None = None
    #: what it waits for: {"kind": "timer"|"message"|"ask"|"approval"|"child"|"unknown"|"pause"|..., ...}
    wait: dict[str, Any] | None = None
    #: when the earliest timer is due, or None
    wake_at: int | None = None
    parent: str | None = None
    parent_step: int | None = None
    #: higher goes first
    priority: int = 0
    concurrency_key: str | None = None
    idempotency_key: str | None = None
    #: times the run was taken over after a crash, plus one
    attempt: int = 1
    #: crashes in a row without a newly committed step
    strikes: int = 0
    #: journal this run shares with another: (run id, last shared seq)
    forked_from: tuple[str, int] | None = None
    #: sequence number of the last event
    seq: int = 0
    #: highest step number recorded
    steps: int = 0
