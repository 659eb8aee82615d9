"""May this node still act? For so long after its last good beat; time is counted from before that beat was sent.

A node whose term is over begins nothing, and gives up what it has: others may own it by then. The store refuses its writes
anyway, but nobody refuses what its tools would do to the world. A process that was paused (stopped, swapped out, a laptop
asleep) wakes up in a term that is long over: nothing begins, and it may ask the store before it gives anything up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf

from perdure.values.clock import Alarm, Clock

#: An alarm that rings this late rang in a process that was paused; it may then ask the store for so long.
_PAUSE_SECONDS = 0.5


class Term:
    """The time until which this node may act. `ended` is called once when it is over and was not renewed."""

    def __init__(self, clock: Clock, seconds: float, ended: Callable[[], object]) -> None:
        self._clock = clock
        self._seconds = seconds
        self._ended = ended
        self._until = -inf
        self._alarm: Alarm | None = None
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def runs(self) -> bool:
        """True while nobody else may have taken over."""
        return self._clock.monotonic() < self._until

    def renew(self, sent: float) -> None:
        """A beat that was sent at `sent` (monotonic seconds) was heard."""
        self._until = sent + self._seconds
        self.cancel()
        self._alarm = self._clock.call_later(self._until - self._clock.monotonic(), self._ring, upkeep=True)
        if self.runs:
            waiting, self._waiting = self._waiting, []
            for future in waiting:
                if not future.done():
                    future.set_result(None)

    async def assured(self) -> None:
        """Return when this node may act: at once, as a rule. Who waits for ever is told to stop."""
        while not self.runs:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            await future

    def cancel(self) -> None:
        """Nothing is to happen when it is over."""
        if self._alarm is not None:
            self._alarm.cancel()

    def _ring(self) -> None:
        if self._clock.monotonic() - self._until > _PAUSE_SECONDS:
            self._alarm = self._clock.call_later(_PAUSE_SECONDS, self._ended, upkeep=True)
        else:
            self._ended()
