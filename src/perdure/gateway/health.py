"""Are the machine and the store well? What `perdure doctor` finds, looked at again when somebody asks and it is old."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from perdure.values.clock import Clock

#: A look reads the whole store's integrity and syncs a file: not for every reader of a page.
_LOOK_SECONDS = 300.0


class Health:
    """What was found the last time."""

    def __init__(self, clock: Clock, examine: Callable[[], list[dict[str, Any]]] | None) -> None:
        self._clock = clock
        self._examine = examine
        self._found: list[dict[str, Any]] = []
        self._looked = -_LOOK_SECONDS
        self._looking = asyncio.Lock()

    async def checks(self) -> list[dict[str, Any]]:
        """`{check, verdict, found, remedy}` of everything that was looked at, as of five minutes ago at most."""
        async with self._looking:
            now = self._clock.monotonic()
            if self._examine is not None and now - self._looked >= _LOOK_SECONDS:
                self._looked = now
                self._found = await asyncio.to_thread(self._examine)
        return self._found
