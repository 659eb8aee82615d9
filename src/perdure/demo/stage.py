"""How fast does the show go, and where does a worker stand still to be killed? Changes nothing that is computed.

A demo that is over in a blink shows nothing, so the tools take a moment for each batch and each payment. And a kill
proves most at the worst moment: a worker with a `Cue` stands still there until it is killed.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from dataclasses import dataclass

from perdure.errors import InvalidSetting

#: 1 is the pace to watch, 0 as fast as it goes
PACE = "PERDURE_DEMO_PACE"
#: of every scene so many beats take time; large files need no pauses to be watched
PACED_MOST = 80


@dataclass(frozen=True, slots=True)
class Cue:
    """The place to stand still: in the `count`-th beat of `scene` in this process, and in all after it."""

    scene: str
    count: int

    @classmethod
    def parse(cls, text: str) -> Cue:
        """The cue that `str` wrote."""
        scene, _, count = text.partition(":")
        return cls(scene, int(count))

    def __str__(self) -> str:
        return f"{self.scene}:{self.count}"


class Stage:
    """Where the tools of one process play."""

    def __init__(self) -> None:
        self.cue: Cue | None = None
        self.reached = asyncio.Event()
        self._beats: Counter[str] = Counter()

    async def beat(self, scene: str, seconds: float) -> None:
        """Take about so long in the middle of a step; at the cue, for ever."""
        self._beats[scene] += 1
        if self.cue and self.cue.scene == scene and self._beats[scene] >= self.cue.count:
            self.reached.set()
            await asyncio.Event().wait()
        if self._beats[scene] <= PACED_MOST:
            await pause(seconds * (1 + self._beats[scene] % 3) / 2)  # uneven, as real work is


stage = Stage()


async def pause(seconds: float) -> None:
    """Wait so long at pace 1. Raises InvalidSetting when the pace is no number."""
    await asyncio.sleep(seconds * _pace())


def _pace() -> float:
    text = os.environ.get(PACE, "1")
    try:
        return max(float(text), 0.0)
    except ValueError:
        raise InvalidSetting(f"{PACE} must be a number (1 to watch, 0 at full speed), not {text!r}") from None
