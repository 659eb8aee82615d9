"""What if nobody can tell whether a commit has happened? Its request or its answer is lost on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from urllib.parse import urlsplit

from perdure.testing.chaos.fault import Fault, Scene
from perdure.testing.servers.proxy import FaultProxy

_POLL_SECONDS = 0.005
#: what every batch that goes out as one request contains
_MARKER = b"perdure.commit_1"


class Commits(Fault):
    """The connection breaks before a worker's commit arrives, or after it and before its answer."""

    count = 500
    #: a strike costs a few commits only: with few runs in flight the campaign is over before many have ended
    width = 48

    def __init__(self, url: str) -> None:
        super().__init__(url)
        place = urlsplit(url)
        self._proxy = FaultProxy(place.hostname or "localhost", place.port or 5432, marker=_MARKER)
        self._proxy.__enter__()

    @property
    def worker_urls(self) -> Sequence[str]:
        return [self._proxy.url(self.url)] * 3

    async def strike(self, scene: Scene) -> None:
        swallow = self._proxy.swallow_commit_reply if scene.dice.random() < 0.7 else self._proxy.swallow_commit
        before = self._swallowed
        swallow()
        while self._swallowed == before:
            await asyncio.sleep(_POLL_SECONDS)

    async def heal(self, scene: Scene) -> None:
        self._proxy.heal()

    def close(self) -> None:
        self._proxy.close()

    @property
    def _swallowed(self) -> int:
        return self._proxy.counts.commits_swallowed + self._proxy.counts.replies_swallowed
