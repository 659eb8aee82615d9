"""What is an answer made of? Rows and reasons, put together the same way for every endpoint."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from perdure.errors import NotFound
from perdure.runtime import Runtime
from perdure.values.events import Event
from perdure.values.runs import Run
from perdure.views.runs import ends_json, run_row_json
from perdure.views.why import Explainer

#: One look at who is alive serves the questions of so many seconds.
_LOOK_SECONDS = 0.2


class Shown:
    """How a gateway shows runs."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._clock = runtime.kernel.clock
        self._explainer: Explainer | None = None
        self._looked = 0.0

    async def explainer(self) -> Explainer:
        """Reasons of runs, as of a moment ago."""
        now = self._clock.monotonic()
        if self._explainer is None or now - self._looked > _LOOK_SECONDS:
            self._looked, self._explainer = now, await Explainer.look(self._runtime)
        return self._explainer

    async def row(self, run: Run) -> dict[str, Any]:
        """A run as lists show it."""
        return run_row_json(run, await (await self.explainer()).why(run, self._clock.now_us()))

    async def rows(self, runs: Iterable[Run]) -> list[dict[str, Any]]:
        """Runs as lists show them."""
        return [await self.row(run) for run in runs]

    async def detail(self, run: Run) -> dict[str, Any]:
        """A run with what it was given and what it brought."""
        store = self._runtime.store
        journal: list[Event] = await store.events(run.id, 0, 1)
        if run.forked_from is not None:
            journal += await store.events(run.id, run.forked_from[1], 1)
        if run.status.terminal:
            journal += await store.events(run.id, run.seq - 1, 1)
        if not journal:
            raise NotFound(f"{run.id} is gone")
        return {**await self.row(run), **ends_json(run, journal)}
