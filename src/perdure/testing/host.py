"""A whole machine room in one thread: virtual time, seeded turns, and nodes that can be paused or killed.

`SimulatedHost` is an asyncio event loop. Everything that runs on it belongs to a *node*, inherited like any context
variable by what it starts. Within a node callbacks run in the order asyncio promises; which node goes next is for the
dice to say. When nobody can go on, time jumps to the next timer, so a day costs no more than the callbacks in it.

A killed node stops between two callbacks, as a process does: no handler, no `finally`, nothing of it ever runs again.
A paused node loses time but not its memory: what came due in between happens at once when it resumes.

Nothing real is reachable from here: no threads, no sockets, no signals.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import sys
import warnings
from collections import deque
from collections.abc import Callable, Coroutine
from heapq import heappop, heappush
from itertools import count
from typing import Any, NoReturn, TypeVar

from perdure.values.clock import Alarm

T = TypeVar("T")

#: 2026-01-01, where virtual time begins (microseconds since 1970)
EPOCH_US = 1_767_225_600_000_000

#: A simulation that takes longer turns in circles.
_TURNS_MOST = 300_000

_node: contextvars.ContextVar[str] = contextvars.ContextVar("perdure_simulated_node", default="")


class Stuck(Exception):  # noqa: N818 - what the machine room is, not what somebody did wrong
    """Nothing is ready and no timer is set: whoever waits would wait for ever."""


class SimulatedHost(asyncio.BaseEventLoop):
    """The loop. `pick(n)` chooses among n nodes that could go on; the default is the first, for a fixed order."""

    def __init__(self, pick: Callable[[int], int] = lambda _: 0) -> None:
        super().__init__()
        self.turns = 0
        self._pick = pick
        self._now = 0.0
        self._queues: dict[str, deque[asyncio.Handle]] = {}
        self._paused: set[str] = set()
        self._paused_at: dict[str, float] = {}
        self._dead: set[str] = set()
        self._mourners: dict[str, list[asyncio.Future[None]]] = {}
        #: of dead nodes: kept, because collecting a coroutine would run its `finally` blocks
        self._remains: list[object] = []
        #: a heap of what is to happen when; of what is due at once, what was asked for first
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._numbers = count()
        self.set_exception_handler(lambda _loop, _context: None)
        self.set_task_factory(_quiet_task)  # type: ignore[arg-type]

    # Nodes.

    def start_on(self, node: str, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run `work` as part of `node`."""
        context = contextvars.copy_context()
        context.run(_node.set, node)
        return self.create_task(work, context=context)

    def kill(self, node: str) -> None:
        """`node` is gone, between two of its callbacks."""
        self._dead.add(node)
        self._remains.append(self._queues.pop(node, None))
        for mourner in self._mourners.pop(node, ()):
            mourner.set_result(None)

    def death_of(self, node: str) -> asyncio.Future[None]:
        """Done when `node` is killed."""
        death: asyncio.Future[None] = self.create_future()
        self._mourners.setdefault(node, []).append(death)
        return death

    def pause(self, node: str) -> None:
        """`node` does nothing until `resume`."""
        self._paused.add(node)
        self._paused_at[node] = self._now

    def resume(self, node: str) -> None:
        """`node` goes on where it was."""
        self._paused.discard(node)

    def freeze(self, node: str, seconds: float) -> None:
        """`node` does nothing for `seconds`."""
        self.pause(node)
        self.call_later(seconds, self.resume, node, context=contextvars.Context())  # of no node: it may be its own wish

    def awake_since(self, node: str, moment: float) -> bool:
        """True when `node` lives, and was not paused at or after `moment`."""
        return node not in self._dead and node not in self._paused and self._paused_at.get(node, -1.0) < moment

    async def die(self) -> NoReturn:
        """The node that awaits this is killed right here."""
        self.kill(current_node())
        await self.create_future()
        raise AssertionError("a dead node went on")

    # What asyncio asks of its loop.

    def time(self) -> float:
        """Virtual seconds since the host was made."""
        return self._now

    def run_in_executor(self, *_: object) -> NoReturn:
        """Refused: a thread's turns cannot be repeated."""
        raise RuntimeError("no threads in a simulation: use async tools")

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._enqueue(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heappush(self._timers, (when, next(self._numbers), timer))
        return timer

    def close(self) -> None:
        """Take everything down, the remains of dead nodes last and unheard."""
        super().close()
        hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for task in asyncio.all_tasks(self):
                    _close(task)
                self._queues.clear()
                self._remains.clear()
                self._timers.clear()
                gc.collect(0)
        finally:
            sys.unraisablehook = hook

    def _enqueue(self, handle: asyncio.Handle) -> None:
        node = handle._context.get(_node, "")  # type: ignore[attr-defined]
        if node in self._dead:
            self._remains.append(handle)
            return
        queue = self._queues.get(node)
        if queue is None:
            queue = self._queues[node] = deque()
        queue.append(handle)

    def _run_once(self) -> None:
        able = self._able()
        while not able:
            if not self._timers:
                raise Stuck(f"at {self._now:.3f} s nothing is ready and no timer is set")
            self._now = max(self._now, self._timers[0][0])
            able = self._able()
        queue = able[self._pick(len(able)) if len(able) > 1 else 0]
        handle = queue.popleft()
        self.turns += 1
        if self.turns > _TURNS_MOST:
            raise Stuck(f"at {self._now:.3f} s, after {self.turns} turns, there is no end in sight")
        if not handle._cancelled:
            handle._run()

    def _able(self) -> list[deque[asyncio.Handle]]:
        while self._timers and self._timers[0][0] <= self._now:
            self._enqueue(heappop(self._timers)[2])
        return [queue for node, queue in self._queues.items() if queue and node not in self._paused]


class SimulatedClock:
    """The clock of one node. Its wall time may be wrong and may jump; its monotonic time is the host's."""

    def __init__(self, host: SimulatedHost) -> None:
        self._host = host
        #: how far the wall clock is ahead of the true time, microseconds
        self.ahead_us = 0

    def now_us(self) -> int:
        return EPOCH_US + round(self._host.time() * 1e6) + self.ahead_us

    def monotonic(self) -> float:
        return self._host.time()

    def call_later(self, seconds: float, callback: Callable[[], object], *, upkeep: bool = False) -> Alarm:
        return self._host.call_later(seconds, callback)


def _quiet_task(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T], **options: Any) -> asyncio.Task[T]:
    task = asyncio.Task(work, loop=loop, **options)
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # dead nodes leave tasks behind: no accident
    return task


def _close(task: asyncio.Task[Any]) -> None:
    coroutine = task.get_coro()
    with contextlib.suppress(BaseException):
        if coroutine is not None:
            coroutine.close()


def current_node() -> str:
    """The node whose code is running."""
    return _node.get()


async def pass_time(host: SimulatedHost, seconds: float) -> None:
    """Return when `seconds` have passed."""
    over = host.create_future()
    host.call_later(seconds, lambda: over.done() or over.set_result(None))  # type: ignore[func-returns-value]
    await over


def run_simulated(
    work: Callable[[SimulatedHost], Coroutine[Any, Any, T]], pick: Callable[[int], int] | None = None
) -> T:
    """Run `work(host)` to its end on a host of its own. Raises Stuck when it could wait for ever."""
    host = SimulatedHost(pick) if pick is not None else SimulatedHost()
    collecting = gc.isenabled()
    gc.disable()  # a collection runs `finally` blocks of whoever died, at a moment nobody chose
    main = host.start_on("", work(host))
    try:
        return host.run_until_complete(main)
    except BaseException:
        _broken_off.append(main)
        raise
    finally:
        host.close()
        if collecting:
            gc.enable()


#: Kept for good, so that what a broken-off simulation left half done is not collected in the middle of something else.
_broken_off: list[object] = []
