"""Has a worker carried out what was recorded? Signals are durable at once; a live worker acts within moments."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, NamedTuple

from perdure.values.events import Event
from perdure.values.runs import Run, RunStatus
from perdure.views.why import is_paused

if TYPE_CHECKING:
    from perdure.cli.reach import Reach

#: How long a command waits to see what a live worker makes of it.
_PATIENCE_SECONDS = 1.0
#: It then looks a few times whether the run comes to rest, so that the status it prints is worth reading (seconds).
_LOOK_SECONDS = 0.02
_LOOKS = 10


class Effect(NamedTuple):
    """What became of a signal to a run, as far as one can tell within a second."""

    run: Run
    #: the event that the worker journaled, or None when none has yet
    event: Event | None
    has_worker: bool
    #: the run was as it is wanted before anything was said
    already: bool = False

    def as_json(self) -> dict[str, Any]:
        """The public form."""
        return {"run": self.run.id, "status": self.run.status, "carried_out": self.event is not None or self.already}

    def in_words(self) -> str:
        """The public form for people."""
        if self.already:
            return f"{self.run.id} is {self.run.status} already"
        if self.event is not None:
            return f"{self.run.id} is {self.run.status}"
        if self.has_worker:
            return f"recorded; {self.run.id} is {self.run.status} and its worker will act on it"
        return f"recorded; no worker has agent {self.run.agent}: perdure work FILE.py"


async def carry_out(reach: Reach, before: Run, *types: str) -> Effect:
    """Wait up to a second for the first event of `types` (or the end) that a run got since its row was `before`."""
    if not (await reach.reasons()).has_worker(before):
        return Effect(await reach.find(before.id), None, has_worker=False)
    if (types == ("run.paused",) and is_paused(before)) or (types == ("run.resumed",) and not is_paused(before)):
        return Effect(before, None, has_worker=True, already=True)
    event = await _first(reach, before, types)
    row = await reach.find(before.id)
    if event is not None:
        row = await _at_rest(reach, row)
    return Effect(row, event, has_worker=True)


async def _first(reach: Reach, before: Run, types: tuple[str, ...]) -> Event | None:
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS), aclosing(reach.events(before.id, before.seq)) as events:  # type: ignore[type-var]
            async for event in events:
                if event.terminal or event.type in types:
                    return event
    except TimeoutError:
        pass
    return None


async def _at_rest(reach: Reach, run: Run) -> Run:
    for _ in range(_LOOKS):
        if run.status not in (RunStatus.RUNNING, RunStatus.QUEUED):
            break
        await asyncio.sleep(_LOOK_SECONDS)
        run = await reach.find(run.id)
    return run
