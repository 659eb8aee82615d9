"""How is a run followed over HTTP? A stream that is taken up again where it broke: nothing is missed, nothing comes twice.

Events are numbered, and the number of the last one that was given away is all that there is to remember: whoever answers
at the address then, goes on from there.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager

from perdure.client.connection import Connection
from perdure.client.reading import read_event, read_json
from perdure.errors import Unreachable
from perdure.values.events import Event

#: Unless the server says otherwise; doubled with each try in vain, up to the second.
_WAIT_SECONDS = 1.0
_WAIT_MOST_SECONDS = 10.0
_NOTHING_MORE = 204


async def follow(
    connection: Connection, run: str, after: int = 0, types: Sequence[str] = (), *, away_seconds: float
) -> AsyncGenerator[Event, None]:
    """The journal of `run` after `after` (of it, events of `types`), then live, until its last event.

    Raises Unreachable when the server is away for longer than `away_seconds`.
    """
    pause = _Pause(away_seconds)
    while True:
        try:
            headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
            async with connection.stream("runs", run, "events", headers=headers, type=list(types)) as source:
                if source.response.status_code == _NOTHING_MORE:
                    return
                with pause.met():
                    async for said in source:
                        if said.retry is not None:
                            pause.wait_seconds = said.retry / 1000
                        if not said.data:
                            continue
                        event = read_event(read_json(said.data))
                        if event.seq > after:
                            after = event.seq
                            pause.moved()
                            yield event
                        if event.terminal:
                            return
        except Unreachable:
            if pause.too_long():
                raise
        await pause()


class _Pause:
    """How long to wait for a server that went away, and when to give up."""

    def __init__(self, away_seconds: float) -> None:
        self.wait_seconds = _WAIT_SECONDS
        self._away_seconds = away_seconds
        self._tries = 0
        self._met = _now()

    @contextmanager
    def met(self) -> Iterator[None]:
        """While entered, the server is there."""
        try:
            yield
        finally:
            self._met = _now()

    def moved(self) -> None:
        """An event came: what follows is no vain try."""
        self._tries = 0

    def too_long(self) -> bool:
        """True when the server has been away for as long as anybody waits."""
        return _now() - self._met > self._away_seconds

    async def __call__(self) -> None:
        """Wait, longer each time; not all readers alike, who lost the same server at the same moment."""
        longest = min(_WAIT_MOST_SECONDS, self.wait_seconds * 2**self._tries)
        self._tries = min(self._tries + 1, 10)
        await asyncio.sleep(longest * random.uniform(0.5, 1.0))  # noqa: S311 - no secret


def _now() -> float:
    return time.monotonic()
