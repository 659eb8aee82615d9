"""Who began what, and when? The world's record of deeds does not say; this one does, in a file of its own.

A line is written before each deed, with the name of the worker and the machine's clock, whatever the worker's own says.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from perdure.agents.attempt import current_step
from perdure.testing.world import FileWorld
from perdure.values.json import decode, encode


@dataclass(frozen=True, slots=True)
class Begin:
    """A step that costs was begun."""

    run: str
    step: int
    worker: str
    time_us: int


class NotedWorld(FileWorld):
    """The world as one worker acts on it."""

    def __init__(self, path: str, worker: str) -> None:
        super().__init__(path)
        self._worker = worker
        self._begins = os.open(_path(path), os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)

    def act(self, name: str, result: str, *, keyed: bool = False) -> str:
        step = current_step()
        begin = Begin(step.run, step.step, self._worker, time.time_ns() // 1000)
        os.write(self._begins, encode(asdict(begin)).encode() + b"\n")
        return super().act(name, result, keyed=keyed)


def read_begins(path: str) -> Iterator[Begin]:
    """What was begun in the world at `path`, by all workers."""
    for line in Path(_path(path)).read_text(encoding="utf-8").splitlines():
        yield Begin(**decode(line))


def _path(world: str) -> str:
    return f"{world}.begins"
