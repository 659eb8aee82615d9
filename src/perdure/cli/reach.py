"""What does a command need of the place where runs are? The calls that Runtime and Client share, and reasons.

A store is reached through a Runtime of this process (here.py), a server through a Client (there.py). Commands take either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from perdure.client.service import Service

if TYPE_CHECKING:
    from perdure.values.runs import Run
    from perdure.views.why import Why


class Reasons(Protocol):
    """Why runs are not moving, as of one look at who is alive."""

    def has_worker(self, run: Run) -> bool:
        """True when a live worker owns the run's shard."""

    def has_worker_of(self, agent: str) -> bool:
        """True when some live worker has that agent."""

    async def why(self, run: Run, now_us: int) -> Why:
        """Why `run` is not moving."""


class Reach(Service, Protocol):
    """Where runs are, for commands."""

    async def reasons(self) -> Reasons:
        """Look at who is alive now."""
