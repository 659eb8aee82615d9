"""How does a reader of signals miss none? By what its last look could see, not by their numbers.

Several nodes put signals at the same time: number 7 may become visible before number 6. A reader that remembered "up to
7" would never see 6. So it remembers the snapshot of its last look, and asks for what that could not see.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

from perdure.store.contract import Cursor, Signal
from perdure.store.postgres.connections import Connections
from perdure.store.queries import load_queries
from perdure.store.rows import signal_of

_SQL = load_queries("postgres", "read")


@dataclass(frozen=True, slots=True)
class _Look:
    """What a reader has seen: all that was visible in `since`, and on the way to `until` those up to `id`."""

    since: str | None = None
    until: str | None = None
    id: int = 0


class Signals:
    """Reads signals. All methods raise StoreError."""

    def __init__(self, connections: Connections) -> None:
        self._fetch = connections.fetch

    async def read(self, shards: Iterable[str], after: Cursor, limit: int) -> tuple[list[Signal], Cursor]:
        """Signals for these shards that came after `after`, in order, and how far that was."""
        look = cast("_Look | None", after) or _Look()
        values = {"shards": list(shards), "since": look.since, "after": look.id, "limit": limit}
        rows = await self._fetch(_SQL["signals"], values)
        until = look.until or rows[0][0]
        signals = [signal_of(row[1:]) for row in rows if row[-1] is not None]
        if len(signals) < limit:
            return signals, _Look(until)
        return signals, _Look(look.since, until, signals[-1].id)

    async def of_run(self, run: str) -> list[Signal]:
        """Signals addressed to a run, or to its session at large, in order."""
        return [signal_of(row) for row in await self._fetch(_SQL["run_signals"], {"run": run})]
