"""When does this process deliver, and finish what others left? At once when something was posted, and now and then."""

from __future__ import annotations

import asyncio
import logging

from perdure.errors import StoreError
from perdure.store.many.moves import Moves
from perdure.store.many.relay import Relay
from perdure.values.clock import Alarm, Clock

log = logging.getLogger("perdure.store")

#: How often to look for what another process posted, or began to move, and did not live to finish.
_LOOK_SECONDS = 1.0


class Rounds:
    """One round at a time, in the background."""

    def __init__(self, relay: Relay, moves: Moves, clock: Clock) -> None:
        self._relay = relay
        self._moves = moves
        self._clock = clock
        self._round: asyncio.Task[None] | None = None
        self._posted = self._look_due = False
        self._alarm: Alarm | None = None

    def start(self) -> None:
        """Look now and then, from now on."""
        if self._alarm is None:
            self._look()

    async def stop(self) -> None:
        """Look no more; what is under way is finished."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._look_due = False
        while self._round is not None:
            await asyncio.wait([self._round])

    def nudge(self) -> None:
        """Something was posted: deliver it, without keeping whoever calls."""
        self._posted = True
        self._begin()

    def _look(self) -> None:
        self._alarm = self._clock.call_later(_LOOK_SECONDS, self._look, upkeep=True)
        self._look_due = True
        self._begin()

    def _begin(self) -> None:
        if self._round is None:
            self._round = asyncio.get_running_loop().create_task(self._go())

    async def _go(self) -> None:
        try:
            while self._posted or self._look_due:
                look, self._posted, self._look_due = self._look_due, False, False
                if look:
                    await self._moves.heal()
                await self._relay.deliver()
        except StoreError as error:
            log.warning("a round over the databases was cut short; the next one goes on: %s", error)
        except Exception:
            log.exception("a fault of the rounds over the databases")
        finally:
            self._round = None
