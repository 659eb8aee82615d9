"""Is this worker alive? A file says so to probes, which should not start a Python each time they ask.

It is there once the node works, and fresh as long as its event loop turns. It says nothing of the database: a node that
cannot reach it waits, and to kill it for that would help nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

TOUCH_SECONDS = 1.0


@contextmanager
def alive(file: Path | None) -> Iterator[None]:
    """Keep `file` fresh meanwhile, on the running loop. Raises OSError when it cannot be written."""
    if file is None:
        yield
        return
    file.touch()
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle

    def touch() -> None:
        nonlocal timer
        with suppress(OSError):  # a disk that is full for a while is no reason to die
            file.touch()
        timer = loop.call_later(TOUCH_SECONDS, touch)

    timer = loop.call_later(TOUCH_SECONDS, touch)
    try:
        yield
    finally:
        timer.cancel()
        file.unlink(missing_ok=True)
