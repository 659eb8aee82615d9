"""A deterministic asyncio event loop: the same results in the same order give the same run.

asyncio.Task, Future, gather, TaskGroup, timeout, Queue and the rest ask surprisingly little of their loop:
`call_soon`, `call_at`, `time`, `create_future`, `create_task` and an exception handler. This loop answers
those from a queue and a virtual clock and refuses everything that would reach outside. It never blocks and
never looks at a real clock: `run` does what is to be done, runs what is ready, and returns.

Nesting. The host's asyncio loop is running (somewhere up the stack) while this one runs; asyncio keeps "the
running loop" per thread, so `run` swaps itself in and the host back out. Up to CPython 3.13 the current task is
kept per loop, so the two do not meet; from 3.14 on it is kept per thread and swapped as well.

Timers are given to the owner (`on_timer`), which makes them durable; a timer that fires comes back through
`fire`. Async-generator hooks are swapped too: the host's would finalise our generators on the host's loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import sys
import threading
from asyncio import events as asyncio_events
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, NoReturn, TypeVar, TypeVarTuple

from perdure.errors import AgentError, BrainIOError
from perdure.journal import isolation
from perdure.journal.order import RunFuture, RunTask, first_birth, refuse_unordered

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
log = logging.getLogger("perdure.agent")

#: Callbacks that one event may set off. Polling with `sleep(0)` would otherwise hang the whole node for ever.
CALLBACKS_MOST = 1_000_000
#: How often the clean-up code of a discarded task may stop and wait before it is given up.
_UNWINDINGS_MOST = 100
#: Those given up. The garbage collector would let them run on, as plain code, with tools that act.
_undying: list[object] = []
#: The thread on which the garbage collector is at work, or None.
_collecting: int | None = None


class Evicted(BaseException):
    """The run leaves memory: raised where its code waits. A BaseException so that no `except Exception` catches it."""


class _Handle(asyncio.Handle):
    """A callback of a run. Made for every wake-up, so it does without asyncio's questions about debug mode."""

    __slots__ = ()

    def __init__(
        self, callback: Callable[..., object], args: tuple[Any, ...], loop: RunLoop, context: contextvars.Context | None
    ) -> None:
        self._context = contextvars.copy_context() if context is None else context
        self._loop = loop
        self._callback = callback
        self._args = args
        self._cancelled = False
        self._repr = None
        self._source_traceback = None


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
        #: what happens now has happened before
        self.replaying = False
        self.births = first_birth()
        self._ready: deque[asyncio.Handle] = deque()
        #: those that are not done, each with the context that its code runs in
        self._tasks: dict[asyncio.Task[Any], contextvars.Context] = {}
        #: names of generators that ended outside of the code's order
        self._lost: list[str] = []
        self._on_timer = on_timer
        self._on_timer_cancelled = on_timer_cancelled
        self._running = False

    def run(self, work: Callable[[], None]) -> None:
        """Do `work` as the running loop of this thread. Work that makes something ready calls `run_ready`."""
        host = asyncio_events._get_running_loop()
        host_task = _take_task(host)
        hooks = sys.get_asyncgen_hooks()
        entered = isolation.enter()
        sys.set_asyncgen_hooks(firstiter=None, finalizer=self._finalize_generator)
        asyncio_events._set_running_loop(self)
        self._running = True
        try:
            work()
        finally:
            self._running = False
            asyncio_events._set_running_loop(host)
            sys.set_asyncgen_hooks(*hooks)
            isolation.leave(entered)
            _return_task(host, host_task)
            if self._lost:
                self._report_lost()

    def run_ready(self) -> None:
        """Run callbacks until none is ready or `stopped` is set. Raises AgentError when that never ends."""
        ready = self._ready
        for _ in range(CALLBACKS_MOST):
            if not ready or self.stopped:
                return
            handle = ready.popleft()
            if not handle._cancelled:
                try:
                    handle._run()
                except SystemExit:
                    continue  # its task holds it: `sys.exit()` ends a run, not the worker
        raise AgentError(
            f"agent code went round {CALLBACKS_MOST:,} times without waiting for anything that can happen; while it "
            "runs nothing does. Do not poll with sleep(0): await an asyncio.Event, a message or a step"
        )

    def fire(self, handle: RunTimer) -> None:
        """Make a due timer's callback ready."""
        handle._scheduled = False  # type: ignore[attr-defined]
        self._ready.append(handle)

    def discard(self) -> None:
        """Forget every task: the run is evicted or over.

        Their `finally` blocks run, still as agent code: no tool may act there.
        """
        if self._running:
            self._discard()
        else:
            self.run(self._discard)

    def _discard(self) -> None:
        self.stopped = True
        self._ready.clear()
        while self._tasks:  # clean-up code may try to make new ones
            for task, context in list(self._tasks.items()):
                del self._tasks[task]
                self._unwind(task, context)
        self._ready.clear()
        self._on_timer = self._on_timer_cancelled = _forget

    # What asyncio asks of its loop.

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = _Handle(callback, args, self, context)
        if self._running:
            task = getattr(callback, "__self__", None)
            if type(task) is not RunTask and isinstance(task, asyncio.Task) and task not in self._tasks:
                self._adopt(task, handle._context)  # made by `asyncio.Task(...)`, past `create_task`
            self._ready.append(handle)
        elif not self.stopped:
            raise BrainIOError(f"an event, queue or future of a run was touched from outside of it; {isolation.REMEDY}")
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        if asyncio_events._get_running_loop() is not self:
            raise BrainIOError(f"a thread or another loop called into a run; {isolation.REMEDY}")
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:  # fmt: skip
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:  # fmt: skip
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
        return RunFuture(loop=self)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None,
        context: contextvars.Context | None = None, **options: Any,
    ) -> asyncio.Task[T]:  # fmt: skip
        refuse_unordered(sys._getframe(1))
        options.pop("eager_start", None)
        if context is None:
            context = contextvars.copy_context()
        # Naming a task after its number of birth would leak a process-wide counter into the run.
        task = RunTask(coro, loop=self, name=name or "task", context=context, **options)
        self._adopt(task, context)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self.stopped and not self.replaying:  # it was told when it happened
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

    # Details.

    def _adopt(self, task: asyncio.Task[Any], context: contextvars.Context) -> None:
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # an evicted run's tasks are no accident
        self._tasks[task] = context
        task.add_done_callback(self._tasks.pop)

    def _unwind(self, task: asyncio.Task[Any], context: contextvars.Context) -> None:
        # Not close(): it gives only the outermost coroutine a second chance when clean-up code awaits something.
        coroutine = task.get_coro()
        assert coroutine is not None  # tasks of a run are not made eagerly
        for _ in range(_UNWINDINGS_MOST):
            # As the current task: `timeout` and TaskGroup refuse to work without one, at once, and code that tries
            # again whatever happens would try for ever, without once waiting.
            asyncio.tasks._enter_task(self, task)
            try:
                context.run(coroutine.throw, Evicted())
            except KeyboardInterrupt:
                raise
            except BaseException:  # noqa: BLE001 - it has ended; what clean-up code raises then concerns nobody
                return
            finally:
                asyncio.tasks._leave_task(self, task)
        _undying.append(coroutine)
        log.warning("%s swallows whatever is raised in it and cannot be ended: catch Exception, not more", coroutine)

    def _finalize_generator(self, generator: AsyncGenerator[Any, Any]) -> None:
        if self.stopped:
            return
        if _collecting == threading.get_ident() or asyncio_events._get_running_loop() is not self:
            # The collector comes at another moment in every process: steps that it sets off would fit no replay. Told
            # later: it may have come in the middle of logging.
            self._lost.append(getattr(generator, "__qualname__", repr(generator)))
        else:
            self.create_task(generator.aclose())

    def _report_lost(self) -> None:
        names, self._lost = ", ".join(self._lost), []
        log.warning(
            "the clean-up code of async generator %s did not run: nothing ended it but the garbage collector, which "
            "comes at another moment in every replay. Loop over it in `async with contextlib.aclosing(...)`",
            names,
        )


def _forget(_: RunTimer) -> None:
    """What becomes of timers after the end."""


def _note_collection(phase: str, _: dict[str, int]) -> None:
    global _collecting  # noqa: PLW0603 - there is one collector
    _collecting = threading.get_ident() if phase == "start" else None


gc.callbacks.append(_note_collection)


def _take_task(loop: asyncio.AbstractEventLoop | None) -> asyncio.Task[Any] | None:
    if sys.version_info >= (3, 14) and loop is not None:
        return asyncio.tasks._swap_current_task(loop, None)
    return None


def _return_task(loop: asyncio.AbstractEventLoop | None, task: asyncio.Task[Any] | None) -> None:
    if sys.version_info >= (3, 14) and loop is not None:
        asyncio.tasks._swap_current_task(loop, task)


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
RunLoop.__abstractmethods__ = frozenset()  # type: ignore[attr-defined]  # refused is implemented, too
