"""What may happen to the world when a step runs, and what may be repeated."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from enum import StrEnum


class Effect(StrEnum):
    """What a tool does to the world; decides what happens after a crash in flight."""

    #: changes nothing: run it again
    READ = "read"
    #: safe to repeat with the same idempotency key: run it again with that key
    KEYED = "keyed"
    #: must not happen twice: the outcome is unknown until a probe or a person says
    ONCE = "once"
    #: writes only in the store's own database: commits together with the step
    TRANSACTION = "transaction"

    @property
    def repeatable(self) -> bool:
        """True when running it again after a crash does no harm."""
        return self is not Effect.ONCE

    @property
    def admitted(self) -> bool:
        """True when `step.started` must be committed before it runs (fence before spend)."""
        return self in (Effect.KEYED, Effect.ONCE)


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a failing step is tried again, and how long to wait in between.

    Waits grow from `first_seconds` by `factor` up to `most_seconds`, each shortened by up to half at random
    (equal jitter: https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/).
    """

    #: attempts after the first; 0 means never again
    retries: int = 0
    first_seconds: float = 0.5
    factor: float = 2.0
    most_seconds: float = 60.0
    #: names of exception types that deserve no retry
    never: tuple[str, ...] = ()

    def wait_seconds(self, failed_attempt: int, dice: float) -> float:
        """Seconds before the attempt after `failed_attempt` (from 1); `dice` is a random number in [0, 1)."""
        try:
            grown = float(self.factor) ** (failed_attempt - 1)
        except OverflowError:  # `retries` may be any number
            grown = sys.float_info.max
        longest = min(self.most_seconds, self.first_seconds * grown)
        return longest * (1 - dice / 2)


@dataclass(frozen=True, slots=True)
class StepOptions:
    """How the kernel treats a tool's steps."""

    effect: Effect = Effect.ONCE
    retries: Retries = field(default_factory=Retries)
    #: seconds one attempt may take; None means no limit
    timeout: float | None = None
    #: seconds without a heartbeat after which an attempt counts as dead; None means none are expected
    heartbeat_timeout: float | None = None
    #: who must consent before each call; None means nobody
    approval: str | None = None


class Busy(StrEnum):
    """What happens to a new run when its session has another: the one that has begun, else the one that goes next."""

    #: it waits its turn
    QUEUE = "queue"
    #: it is refused
    REJECT = "reject"
    #: that run is cancelled, then it starts
    INTERRUPT = "interrupt"
    #: its input becomes a message (topic `steer`) to that run; an idempotency key is refused then
    STEER = "steer"
