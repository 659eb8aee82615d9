"""A deterministic asyncio event loop: the same results in the same order give the same run.

asyncio.Task, Future, gather, TaskGroup, timeout, Queue and the rest ask surprisingly little of their loop:
`call_soon`, `call_at`, `time`, `create_future`, `create_task` and an exception handler. This loop answers
those from a queue and a virtual clock and refuses everything that would reach outside. It never blocks and
never looks at a real clock: `run_ready` runs what is ready and returns.

Nesting. The host's asyncio loop is running (somewhere up the stack) while this one runs; asyncio keeps "the
running loop" per thread, so `run_ready` swaps itself in and the host back out. The C task code keeps the
current task per loop, so the two do not meet.

Timers are given to the owner (`on_timer`), which makes them durable; a timer that fires comes back through
`fire`. Async-generator hooks are swapped too: the host's would finalise our generators on the host's loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sys
from asyncio import events as asyncio_events
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, NoReturn, TypeVar

from perdure.errors import BrainIOError
from perdure.journal import isolation

T = TypeVar("T")
log = logging.getLogger("perdure.agent")


class RunTimer(asyncio.TimerHandle):
    """A timer of a run; `step` is the number of its command."""

    __slots__ = ("step",)
    step: int


class RunLoop(asyncio.AbstractEventLoop):
    """The event loop of one run. `on_timer(handle)` and `on_timer_cancelled(handle)` are its way out."""

    def __init__(
        self,
        on_timer: Callable[[RunTimer], None],
        on_timer_cancelled: Callable[[RunTimer], None],
    ) -> None:
        self.now_us = 0
        self.stopped = False
        self._ready: deque[asyncio.Handle] = deque()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._on_timer = on_timer
        self._on_timer_cancelled = on_timer_cancelled
        self._running = False

    def run_ready(self) -> None:
        """Run callbacks until none is ready or `stopped` is set."""
        ready = self._ready
        host = asyncio_events._get_running_loop()
        hooks = sys.get_asyncgen_hooks()
        thread = isolation.enter()
        sys.set_asyncgen_hooks(firstiter=None, finalizer=self._finalize_generator)
        asyncio_events._set_running_loop(self)
        self._running = True
        try:
            while ready and not self.stopped:
                handle = ready.popleft()
                if not handle._cancelled:  # type: ignore[attr-defined]
                    handle._run()
        finally:
            self._running = False
            asyncio_events._set_running_loop(host)
            sys.set_asyncgen_hooks(*hooks)
            isolation.leave(thread)

    def fire(self, handle: RunTimer) -> None:
        """Make a due timer's callback ready."""
        handle._scheduled = False  # type: ignore[attr-defined]
        self._ready.append(handle)

    def discard(self) -> None:
        """Forget every task without running the loop again: the run is evicted or over.

        Coroutines are closed, so `finally` blocks run; the first command they issue ends them.
        """
        self.stopped = True
        self._ready.clear()
        tasks = [task for task in self._tasks if not task.done()]
        self._tasks.clear()
        for task in tasks:
            coroutine = task.get_coro()
            try:
                if coroutine is not None:
                    coroutine.close()
            except BaseException:  # noqa: BLE001 - whatever clean-up code of a discarded run raises concerns nobody
                log.debug("clean-up code of an evicted run raised", exc_info=True)

    # What asyncio asks of its loop.

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        if not self._running:
            raise BrainIOError(f"a thread or another loop called into a run; {isolation.REMEDY}")
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        handle = RunTimer(when, callback, args, self, context)
        if when <= self.time():
            self._ready.append(handle)
        else:
            handle._scheduled = True  # type: ignore[attr-defined]
            self._on_timer(handle)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        if isinstance(handle, RunTimer) and handle._scheduled:  # type: ignore[attr-defined]
            self._on_timer_cancelled(handle)

    def time(self) -> float:
        return self.now_us / 1e6

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None,
        context: contextvars.Context | None = None, **options: Any,
    ) -> asyncio.Task[T]:  # fmt: skip
        # Naming a task after its number of birth would leak a process-wide counter into the run.
        options.pop("eager_start", None)
        task = asyncio.Task(coro, loop=self, name=name or "task", context=context, **options)
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # an evicted run's tasks are no accident
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        log.error("%s", context.get("message", "unhandled error in agent code"), exc_info=context.get("exception"))

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.call_exception_handler(context)

    def get_exception_handler(self) -> None:
        return None

    def set_exception_handler(self, handler: object) -> None:
        """Ignored: a run's errors belong to its journal."""

    def get_task_factory(self) -> None:
        return None

    def set_task_factory(self, factory: object) -> None:
        """Ignored: tasks of a run must be deterministic."""

    def get_debug(self) -> bool:
        return False

    def set_debug(self, enabled: bool) -> None:
        """Ignored: debug mode reads the clock."""

    def is_running(self) -> bool:
        return self._running

    def is_closed(self) -> bool:
        return self.stopped

    async def shutdown_asyncgens(self) -> None:
        """Nothing to do: generators die with the run."""

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Nothing to do: a run has no threads."""

    def _finalize_generator(self, generator: AsyncGenerator[Any, Any]) -> None:
        if self._running:
            self.create_task(generator.aclose())


def _refuse(name: str) -> Callable[..., NoReturn]:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise BrainIOError(f"agent code called loop.{name}(); {isolation.REMEDY}")

    refuse.__name__ = name
    return refuse


for _name in (
    "run_forever", "run_until_complete", "stop", "close", "run_in_executor", "set_default_executor", "getaddrinfo",
    "getnameinfo", "create_connection", "create_server", "start_tls", "sendfile", "create_unix_connection",
    "create_unix_server", "connect_accepted_socket", "create_datagram_endpoint", "connect_read_pipe",
    "connect_write_pipe", "subprocess_shell", "subprocess_exec", "add_reader", "remove_reader", "add_writer",
    "remove_writer", "sock_recv", "sock_recv_into", "sock_recvfrom", "sock_recvfrom_into", "sock_sendall",
    "sock_sendto", "sock_connect", "sock_accept", "sock_sendfile", "add_signal_handler", "remove_signal_handler",
):  # fmt: skip
    setattr(RunLoop, _name, _refuse(_name))
RunLoop.__abstractmethods__ = frozenset()
