"""Runs of a store, reached from this process."""

from __future__ import annotations

from perdure.runtime import Runtime
from perdure.views.why import Explainer


class Here(Runtime):
    """A Runtime that says why its runs are not moving."""

    async def reasons(self) -> Explainer:
        """Look at the store's shards and nodes now."""
        return await Explainer.look(self)
