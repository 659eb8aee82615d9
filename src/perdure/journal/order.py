"""Order where asyncio has none: what it keeps in sets comes out in the order of the code, in every process.

asyncio puts tasks and futures into sets (`TaskGroup` cancels its tasks from one, `wait` returns two), and a set
follows the hashes of its members. The default hash is the object's address, so the same code would cancel, and
clean up, in another order after a restart. Here the hash is a number of birth.

What gather() gives goes by the number of its first child. A bare `asyncio.Future()` has no number: where `wait` is
handed one, the sets that it returns come out in the order in which it was handed their members.

Coroutines cannot be given a hash, and `as_completed` starts the coroutines it is handed from a set of them. So
within a run it is handed tasks instead. Outside of runs it is untouched.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from asyncio import events as asyncio_events
from collections.abc import Callable, Coroutine, Iterable, Iterator
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


def _hash_of_gathering(gathering: Any) -> int:
    return hash(gathering._children[0])


# A counter of their own would do, but not the one of tasks: those of runs that are under way must keep their numbers.
_Gathering: Any = asyncio.tasks._GatheringFuture  # type: ignore[attr-defined]
_Gathering.__hash__ = _hash_of_gathering


class _InOrder(set[Any]):
    """A set that comes out in the order of `places`."""

    def __init__(self, members: Iterable[Any], places: dict[Any, int]) -> None:
        super().__init__(members)
        self._places = places

    def __iter__(self) -> Iterator[Any]:
        return iter(sorted(super().__iter__(), key=lambda member: self._places.get(member, len(self._places))))

    def pop(self) -> Any:
        for member in self:
            self.remove(member)
            return member
        raise KeyError("pop from an empty set")


_wait_unordered: Callable[..., Any] = asyncio.wait


@functools.wraps(_wait_unordered)
async def _wait(fs: Any, **options: Any) -> Any:
    if not _in_run() or inspect.isawaitable(fs):
        return await _wait_unordered(fs, **options)
    futures = list(fs)
    done, pending = await _wait_unordered(futures, **options)
    if all(_has_number(future) for future in futures):
        return done, pending
    places = {future: place for place, future in enumerate(futures)}
    return _InOrder(done, places), _InOrder(pending, places)


def _has_number(future: Any) -> bool:
    while isinstance(future, _Gathering):
        future = future._children[0]
    return isinstance(future, RunTask | RunFuture)


_unordered: Callable[..., Any] = asyncio.as_completed


@functools.wraps(_unordered)
def _as_completed(fs: Iterable[Any], *, timeout: float | None = None) -> Any:
    if _in_run() and not inspect.isawaitable(fs):
        fs = [asyncio.ensure_future(awaitable) for awaitable in dict.fromkeys(fs)]
    return _unordered(fs, timeout=timeout)


def _in_run() -> bool:
    return hasattr(asyncio_events._get_running_loop(), "births")


# When this module is imported, not when a kernel starts: agents are imported before, and take the names with them.
asyncio.as_completed = asyncio.tasks.as_completed = _as_completed
asyncio.wait = asyncio.tasks.wait = _wait


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
