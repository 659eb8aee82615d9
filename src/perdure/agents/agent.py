"""@agent: an async function that Perdure keeps alive. Its first parameter is the Context."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeAlias, TypeVar, TypeVarTuple, overload

from perdure.agents.context import Context
from perdure.agents.signature import Signature
from perdure.errors import InvalidSetting
from perdure.values.effects import Busy

Ts = TypeVarTuple("Ts")
R = TypeVar("R", covariant=True)


class Agent(Generic[*Ts, R]):
    """A named, versioned agent. Start it with `runtime.start(agent, ...)` or `ctx.spawn(agent, ...)`."""

    def __init__(
        self, function: Callable[..., Awaitable[Any]], name: str, version: str, *, busy: Busy, concurrency: int | None,
        concurrency_per_key: int | None, priority: int, state: type[Any] | None,
    ) -> None:  # fmt: skip
        functools.update_wrapper(self, function)
        self.function = function
        self.name = name
        self.version = version
        self.busy = busy
        self.concurrency = concurrency
        self.concurrency_per_key = concurrency_per_key
        self.priority = priority
        self.state = state
        self.signature = Signature(function, skip=1)

    def __call__(self, ctx: Context, *args: *Ts) -> Awaitable[R]:
        """The plain function: useful inside another agent (its steps become that agent's steps)."""
        return self.function(ctx, *args)

    def __repr__(self) -> str:
        return f"<agent {self.name} {self.version}>"


#: An agent of which only the JSON contract is known.
AnyAgent: TypeAlias = "Agent[*tuple[Any, ...], Any]"


@overload
def agent(function: Callable[[Context, *Ts], Awaitable[R]], /) -> Agent[*Ts, R]: ...
@overload
def agent(
    *, name: str | None = ..., version: str = ..., busy: str = ..., concurrency: int | None = ...,
    concurrency_per_key: int | None = ..., priority: int = ..., state: type[Any] | None = ...,
) -> Callable[[Callable[[Context, *Ts], Awaitable[R]]], Agent[*Ts, R]]: ...  # fmt: skip
def agent(
    function: Callable[..., Any] | None = None, /, *, name: str | None = None, version: str = "1", busy: str = "queue",
    concurrency: int | None = None, concurrency_per_key: int | None = None, priority: int = 0,
    state: type[Any] | None = None,
) -> Any:  # fmt: skip
    """Make an async function an agent.

    name: its name in the store (default: the function's). version: runs stay on the version they started on;
    raise it when old runs must not continue on new code. busy: what a new run does when its session has an
    active one: queue | reject | interrupt | steer. concurrency: how many of its runs may be moving at once;
    concurrency_per_key: how many with the same `concurrency_key`. priority: higher goes first.
    state: a pydantic model for `ctx.state` (default: a dict).

    Raises InvalidSetting for options that make no sense.
    """

    def decorate(function: Callable[..., Any]) -> Agent[Any, Any]:
        if not inspect.iscoroutinefunction(function):
            raise InvalidSetting(f"agent {function.__name__} must be an `async def`")
        if not inspect.signature(function).parameters:
            raise InvalidSetting(f"agent {function.__name__} needs a first parameter for its Context")
        for label, limit in (("concurrency", concurrency), ("concurrency_per_key", concurrency_per_key)):
            if limit is not None and limit < 1:
                raise InvalidSetting(f"{label} must be 1 or more, not {limit}")
        return Agent(
            function, _checked_name(name or function.__name__), version, busy=_busy(busy), concurrency=concurrency,
            concurrency_per_key=concurrency_per_key, priority=priority, state=state,
        )  # fmt: skip

    return decorate if function is None else decorate(function)


def _checked_name(name: str) -> str:
    if not name or any(not (char.isalnum() or char in "._-") for char in name):
        raise InvalidSetting(f"an agent's name has letters, digits, '.', '_' and '-', not {name!r}")
    return name


def _busy(value: str) -> Busy:
    try:
        return Busy(value)
    except ValueError:
        raise InvalidSetting(f"busy must be one of {', '.join(Busy)}, not {value!r}") from None
