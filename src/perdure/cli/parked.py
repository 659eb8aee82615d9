"""Does a run wait for something from outside: a person, a message, a decision, or a timer that is long?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from perdure.store.contract import RunFilter
from perdure.values.clock import SystemClock
from perdure.values.runs import Run, RunStatus
from perdure.views.why import Why, is_paused

if TYPE_CHECKING:
    from perdure.cli.reach import Reach

#: A timer or retry that is due within this time is waited for.
_SHORT_US = 5_000_000
#: Rows change without an event too, so they are looked at.
_LOOK_SECONDS = 0.05

_FROM_OUTSIDE = frozenset({"message", "unknown"})
_BEGUN = (RunStatus.RUNNING, RunStatus.WAITING, RunStatus.PAUSED, RunStatus.QUARANTINED)
_OPEN = (RunStatus.QUEUED, *_BEGUN)


async def until_parked(reach: Reach, run: Callable[[], str]) -> Why:
    """Return why `run()` is parked, once neither it nor a child can move by itself. Never for one that ends."""
    while True:
        row = await reach.find(run())
        blocking = await _blocking(reach, row)
        if blocking is not None:
            reasons = await reach.reasons()
            return await reasons.why(blocking, SystemClock().now_us())
        await asyncio.sleep(_LOOK_SECONDS)


async def _blocking(reach: Reach, run: Run) -> Run | None:
    """The run that must be moved from outside before `run` can move, or None while something moves by itself."""
    match run.status:
        case RunStatus.PAUSED | RunStatus.QUARANTINED:
            return run
        case RunStatus.QUEUED if is_paused(run):
            return run
        case RunStatus.QUEUED if run.session is not None:
            active = await reach.runs(RunFilter(run.agent, run.session, _BEGUN, limit=1))
            return await _blocking(reach, active[0]) if active and active[0].id != run.id else None
        case RunStatus.WAITING:
            return await _blocking_of_waiting(reach, run)
    return None


async def _blocking_of_waiting(reach: Reach, run: Run) -> Run | None:
    if run.wake_at is not None and run.wake_at - SystemClock().now_us() < _SHORT_US:
        return None
    first: Run | None = None
    for child in await reach.runs(RunFilter(parent=run.id, statuses=_OPEN, limit=1000)):
        blocking = await _blocking(reach, child)
        if blocking is None:
            return None
        first = first or blocking
    kind = (run.wait or {}).get("kind")
    if kind in ("ask", "approval"):
        return run if await reach.inbox(run=run.id) else None  # none open: its answer is on the way
    if kind in _FROM_OUTSIDE or (kind in ("timer", "retry") and first is None):
        return run
    return first
