"""Where does code run that blocks? In a thread of a bounded pool, beside the host's loop."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from threading import Semaphore, Thread
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class ThreadPool:
    """At most so many threads, started when needed.

    They are daemons: for a ThreadPoolExecutor's the process waits at its end, and a tool that hangs would hold it.
    """

    def __init__(self, threads_most: int, name: str = "perdure-tool") -> None:
        self._threads_most = threads_most
        self._name = name
        self._threads = 0
        self._idle = Semaphore(0)
        self._closed = False
        self._work: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """What `function` returns or raises in a thread, where it sees the caller's context. On one loop only."""
        context = contextvars.copy_context()

        def call() -> R:
            try:
                return context.run(function, *args, **kwargs)
            except StopIteration as error:  # no future can hold one
                raise RuntimeError(f"{getattr(function, '__name__', 'a tool')} raised StopIteration") from error

        result: R = await asyncio.wrap_future(self.submit(call))
        return result

    def submit(self, function: Callable[[], Any]) -> Future[Any]:
        """Have `function` called in a thread. From one thread only."""
        if self._closed:
            raise RuntimeError("no tool can begin: this worker has stopped")
        future: Future[Any] = Future()
        self._work.put((future, function))
        if not self._idle.acquire(blocking=False) and self._threads < self._threads_most:
            self._threads += 1
            Thread(target=self._serve, name=f"{self._name}_{self._threads}", daemon=True).start()
        return future

    def close(self) -> None:
        """Drop what has not begun; threads that still run are left to end by themselves, or with the process."""
        self._closed = True
        with contextlib.suppress(Empty):
            while True:
                if (waiting := self._work.get_nowait()) is not None:
                    waiting[0].cancel()
        for _ in range(self._threads):
            self._work.put(None)

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            future, function = work
            if future.set_running_or_notify_cancel():
                try:
                    result = function()
                except BaseException as error:  # noqa: BLE001 - whoever waits for it decides what it means
                    future.set_exception(error)
                else:
                    future.set_result(result)
                    del result
            del work, future, function  # while it idles, it holds on to nothing
            self._idle.release()
