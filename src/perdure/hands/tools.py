"""Runs tools: async ones on the host's loop, sync ones in a thread of a bounded pool."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from threading import Semaphore, Thread
from typing import Any

from perdure.agents.attempt import Attempt, current_attempt
from perdure.agents.tool import STILL_UNKNOWN
from perdure.journal.commands import Call


class ToolHands:
    """The kernel's Hands for functions in this process."""

    def __init__(self, threads: int) -> None:
        self._pool = _ThreadPool(threads)

    async def execute(self, call: Call, attempt: Attempt) -> str:
        """Run the call's tool; its result as JSON text. Raises what the tool raises."""
        tool = call.target
        # This coroutine has a task, and so a context, of its own: nothing to reset.
        current_attempt.set(attempt)
        if tool.is_async:
            result = await tool.signature.call(call.arguments)
        else:
            result = await self._in_thread(tool.signature.call, call.arguments)
            if inspect.isawaitable(result):  # a lambda around an async function, a partial
                result = await result
        return str(tool.signature.encode_result(result))

    async def probe(self, call: Call) -> Any:
        """What the tool's reconcile probe says; without one nobody can tell."""
        probe = call.target.probe
        if probe is None:
            return STILL_UNKNOWN
        arguments = call.target.signature.validate_json(call.arguments_json)
        if asyncio.iscoroutinefunction(probe):
            return await probe(**arguments)
        return await self._in_thread(lambda: probe(**arguments))

    def close(self) -> None:
        """Take no more work; threads that still run are left to end by themselves, or with the process."""
        self._pool.close()

    async def _in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        context = contextvars.copy_context()

        def call() -> Any:
            try:
                return context.run(function, *args)
            except StopIteration as error:  # no future can hold one
                raise RuntimeError(f"{getattr(function, '__name__', 'a tool')} raised StopIteration") from error

        return await asyncio.wrap_future(self._pool.submit(call))


class _ThreadPool:
    """At most so many threads, started when needed.

    They are daemons: for a ThreadPoolExecutor's the process waits at its end, and a tool that hangs would hold it.
    """

    def __init__(self, threads_most: int) -> None:
        self._threads_most = threads_most
        self._threads = 0
        self._idle = Semaphore(0)
        self._closed = False
        self._work: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()

    def submit(self, function: Callable[[], Any]) -> Future[Any]:
        """Have `function` called in a thread. From one thread only."""
        if self._closed:
            raise RuntimeError("no tool can begin: this worker has stopped")
        future: Future[Any] = Future()
        self._work.put((future, function))
        if not self._idle.acquire(blocking=False) and self._threads < self._threads_most:
            self._threads += 1
            Thread(target=self._serve, name=f"perdure-tool_{self._threads}", daemon=True).start()
        return future

    def close(self) -> None:
        """Drop what has not begun."""
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
