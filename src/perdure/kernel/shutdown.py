"""How does a node end in good order? It gives everything up (handover.py), and writes what others asked of it.

The end takes as long as the steps may have and no longer: callers who go on calling do not hold it up, and a disk that
is full when the time is up is as bad as a broken one.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from perdure.errors import PerdureError, StoreError
from perdure.kernel.handover import Handover
from perdure.values.clock import Alarm

if TYPE_CHECKING:
    from perdure.kernel.kernel import Kernel


class Shutdown:
    """The orderly end of one node. It goes on although whoever asked for it gives up waiting."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._handovers = [*kernel.membership.handovers, Handover(kernel, kernel.leases.shards)]
        self._alarms: list[Alarm] = []
        self._task = asyncio.create_task(self._run(), name="perdure shutdown")

    def finish_within(self, seconds: float) -> None:
        """Steps may take so long from now on, unless somebody was less patient before."""
        if seconds <= 0:
            self._hurry()
        elif not self._task.done():
            self._alarms.append(self._kernel.clock.call_later(seconds, self._hurry))

    async def over(self) -> None:
        """Return when the node has ended."""
        await asyncio.shield(self._task)

    def _hurry(self) -> None:
        for handover in self._handovers:
            handover.hurry()
        self._kernel.commits.lose_patience()

    async def _run(self) -> None:
        kernel = self._kernel
        try:
            kernel.membership.retire()
            for handover in self._handovers:
                await handover.over()
            await kernel.rest()
            if kernel.failure is None:
                await kernel.commits.close()
            if kernel.failure is None:
                with contextlib.suppress(StoreError):  # its entry runs out by itself
                    await kernel.membership.leave()
                kernel.followers.fail(PerdureError("this node has stopped; its runs go on when a worker runs again"))
        finally:
            for alarm in self._alarms:
                alarm.cancel()
            await kernel.store.close()
