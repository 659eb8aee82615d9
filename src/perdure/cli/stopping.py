"""Ctrl-C and SIGTERM as something to wait for: whoever works stops in good order first."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def stop_signals() -> Iterator[asyncio.Event]:
    """An event that the first Ctrl-C or SIGTERM sets; a second one acts as it always does."""
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    signals = (signal.SIGINT, signal.SIGTERM)

    def stop() -> None:
        stopped.set()
        release()

    def release() -> None:
        for number in signals:
            with suppress(NotImplementedError):
                loop.remove_signal_handler(number)

    for number in signals:
        with suppress(NotImplementedError):  # Windows: Ctrl-C then ends the process, which loses nothing either
            loop.add_signal_handler(number, stop)
    try:
        yield stopped
    finally:
        release()
