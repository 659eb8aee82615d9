"""How is a bug put into running code, and taken out again? Tools for the files beside this one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

#: Puts a bug in and takes it out.
Patch = AbstractContextManager[Any]


def replaced(owner: Any, name: str, make: Callable[[Any], Any]) -> Patch:
    """`owner.name` is what `make` makes of it."""
    return mock.patch.object(owner, name, make(getattr(owner, name)))


def always(value: Any) -> Callable[[Any], Any]:
    """For `replaced`: a function that gives `value`, whatever it is asked."""
    return lambda _: lambda *_args, **_options: value


def always_soon(value: Any) -> Callable[[Any], Any]:
    """For `replaced`: a coroutine function that gives `value`."""

    async def answer(*_: Any, **__: Any) -> Any:
        return value

    return lambda _: answer


@contextlib.contextmanager
def together(*patches: Patch) -> Iterator[None]:
    """All of `patches`, as one."""
    with contextlib.ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        yield
