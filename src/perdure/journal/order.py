"""Order where asyncio has none: what it keeps in sets comes out in the order of the code, in every process.

asyncio puts tasks and futures into sets (`TaskGroup` cancels its tasks from one, `wait` returns two), and a set
follows the hashes of its members. The default hash is the object's address, so the same code would cancel, and
clean up, in another order after a restart. Here the hash is a number of birth.

Coroutines cannot be given a hash, and `as_completed` starts the coroutines it is handed from a set of them. So
within a run it is handed tasks instead. Outside of runs it is untouched.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from asyncio import events as asyncio_events
from collections.abc import Callable, Coroutine, Iterable
from itertools import count
from types import FrameType
from typing import Any, Protocol

from perdure.errors import AgentError

_runs = count()


class Births(Protocol):
    """A loop that counts what is born in it."""

    births: int


def first_birth() -> int:
    """Where a run begins to count.

    The low bits, which place a member in a set of any real size, are the same in all runs. The high bits keep the
    tasks of thousands of runs apart in asyncio's own set of all tasks.
    """
    return (next(_runs) & 0x3FFF) << 48


class RunTask(asyncio.Task[Any]):
    """A task of a run."""

    __slots__ = ("_birth",)

    def __init__(self, coro: Coroutine[Any, Any, Any], *, loop: Any, **options: Any) -> None:
        loop.births += 1
        self._birth: int = loop.births
        super().__init__(coro, loop=loop, **options)

    def __hash__(self) -> int:
        return self._birth


class RunFuture(asyncio.Future[Any]):
    """A future of a run."""

    __slots__ = ("_birth",)

    def __init__(self, *, loop: Any) -> None:
        loop.births += 1
        self._birth: int = loop.births
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._birth


_unordered: Callable[..., Any] = asyncio.as_completed


@functools.wraps(_unordered)
def _as_completed(fs: Iterable[Any], *, timeout: float | None = None) -> Any:
    if hasattr(asyncio_events._get_running_loop(), "births") and not inspect.isawaitable(fs):
        fs = [asyncio.ensure_future(awaitable) for awaitable in dict.fromkeys(fs)]
    return _unordered(fs, timeout=timeout)


# When this module is imported, not when a kernel starts: agents are imported before, and take the name with them.
asyncio.as_completed = asyncio.tasks.as_completed = _as_completed


def refuse_unordered(caller: FrameType) -> None:
    """Raises AgentError when `caller`, about to make a task, does so for an `as_completed` that was imported too early.

    Results would then be handed to the wrong coroutines after a restart, silently.
    """
    if not caller.f_code.co_name.endswith("ensure_future"):
        return
    frame: FrameType | None = caller
    while frame is not None and frame.f_globals is asyncio.tasks.__dict__:
        if frame.f_code.co_qualname.startswith(("as_completed", "_AsCompleted")):
            raise AgentError(
                "`from asyncio import as_completed` before `import perdure` starts coroutines in the order of a set, "
                "which is another one after a restart; write `asyncio.as_completed(...)`, or hand it tasks"
            )
        frame = frame.f_back
