"""@agent: an async function, or a class with an async `run`, that Perdure keeps alive. It is given the Context first."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Generic, Protocol, TypeAlias, TypeVar, TypeVarTuple, overload

from perdure.agents.context import Context
from perdure.agents.rate import Rate, parse_rate
from perdure.agents.signature import Signature
from perdure.errors import InvalidSetting
from perdure.values.effects import Busy

Ts = TypeVarTuple("Ts")
R = TypeVar("R", covariant=True)

#: Priorities go from minus this to this.
PRIORITY_MOST = 1_000_000


class Agent(Generic[*Ts, R]):
    """A named, versioned agent. Start it with `runtime.start(agent, ...)` or `ctx.spawn(agent, ...)`."""

    def __init__(
        self, function: Callable[..., Awaitable[Any]], name: str, version: str, *, busy: Busy, concurrency: int | None,
        concurrency_per_key: int | None, rate: Rate | None, rate_per_key: Rate | None, priority: int,
        state: type[Any] | None,
    ) -> None:  # fmt: skip
        functools.update_wrapper(self, function)
        self.function = function
        self.name = name
        self.version = version
        self.busy = busy
        self.concurrency = concurrency
        self.concurrency_per_key = concurrency_per_key
        self.rate = rate
        self.rate_per_key = rate_per_key
        #: any number of its runs may begin and move at any time
        self.unlimited = all(limit is None for limit in (concurrency, concurrency_per_key, rate, rate_per_key))
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


class Runnable(Protocol[*Ts, R]):
    """What the class form of an agent is: each run has an instance of its own, made anew when the run is replayed."""

    def run(self, ctx: Context, /, *args: *Ts) -> Awaitable[R]:
        """The agent's code."""


class Decorator(Protocol):
    """What `@agent(...)` gives."""

    @overload
    def __call__(self, code: type[Runnable[*Ts, R]], /) -> Agent[*Ts, R]: ...
    @overload
    def __call__(self, code: Callable[[Context, *Ts], Awaitable[R]], /) -> Agent[*Ts, R]: ...


@overload
def agent(code: type[Runnable[*Ts, R]], /) -> Agent[*Ts, R]: ...
@overload
def agent(code: Callable[[Context, *Ts], Awaitable[R]], /) -> Agent[*Ts, R]: ...
@overload
def agent(
    *, name: str | None = ..., version: str = ..., busy: str = ..., concurrency: int | None = ...,
    concurrency_per_key: int | None = ..., rate: str | None = ..., rate_per_key: str | None = ...,
    priority: int = ..., state: type[Any] | None = ...,
) -> Decorator: ...  # fmt: skip
def agent(
    code: Callable[..., Any] | None = None, /, *, name: str | None = None, version: str = "1", busy: str = "queue",
    concurrency: int | None = None, concurrency_per_key: int | None = None, rate: str | None = None,
    rate_per_key: str | None = None, priority: int = 0, state: type[Any] | None = None,
) -> Any:  # fmt: skip
    """Make an async function, or a class with an `async def run(self, ctx, ...)`, an agent.

    A class is for code in several methods around the fields of one run: it is made without arguments for each run, and
    anew with every replay, so its fields live as long as the run without being stored. Type checkers take a decorated
    class for a class, so write `collector = agent(Collector)`.

    name: its name in the store (default: the function's). version: runs stay on the version they started on;
    raise it when old runs must not continue on new code. busy: what a new run does when its session has an
    active one: queue | reject | interrupt | steer. concurrency: how many of its runs may be moving at once;
    concurrency_per_key: how many with the same `concurrency_key`. rate: how many of its runs may begin in a time, such as
    `100/minute` (s, second, minute, hour, day); rate_per_key: how many with the same `concurrency_key`. All four hold over
    all nodes together. priority: higher goes first, from -1,000,000 to 1,000,000. state: a pydantic model for `ctx.state`
    (default: a dict).

    Raises InvalidSetting for options that make no sense.
    """

    def decorate(code: Callable[..., Any]) -> Agent[Any, Any]:
        function = _run_of(code) if inspect.isclass(code) else code
        if not inspect.iscoroutinefunction(function):
            raise InvalidSetting(f"agent {function.__name__} must be an `async def`")
        if not inspect.signature(function).parameters:
            raise InvalidSetting(f"agent {function.__name__} needs a first parameter for its Context")
        if abs(priority) > PRIORITY_MOST:
            raise InvalidSetting(f"priority must be from -{PRIORITY_MOST:,} to {PRIORITY_MOST:,}, not {priority}")
        for label, limit in (("concurrency", concurrency), ("concurrency_per_key", concurrency_per_key)):
            if limit is not None and limit < 1:
                raise InvalidSetting(f"{label} must be 1 or more, not {limit}")
        return Agent(
            function, _checked_name(name or function.__name__), version, busy=_busy(busy), concurrency=concurrency,
            concurrency_per_key=concurrency_per_key, rate=_rate("rate", rate),
            rate_per_key=_rate("rate_per_key", rate_per_key), priority=priority, state=state,
        )  # fmt: skip

    return decorate if code is None else decorate(code)


def _run_of(code: type[Any]) -> Callable[..., Any]:
    method = getattr(code, "run", None)
    if not inspect.iscoroutinefunction(method):
        raise InvalidSetting(f"agent {code.__name__} is a class: it needs an `async def run(self, ctx, ...)`")

    @functools.wraps(method)
    async def run(*args: Any, **kwargs: Any) -> Any:
        return await code().run(*args, **kwargs)

    _, *parameters = inspect.signature(method).parameters.values()
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__name__, run.__qualname__, run.__doc__ = code.__name__, code.__qualname__, code.__doc__ or method.__doc__
    return run


def _checked_name(name: str) -> str:
    if not name or any(not (char.isalnum() or char in "._-") for char in name):
        raise InvalidSetting(f"an agent's name has letters, digits, '.', '_' and '-', not {name!r}")
    return name


def _rate(label: str, text: str | None) -> Rate | None:
    return None if text is None else parse_rate(label, text)


def _busy(value: str) -> Busy:
    try:
        return Busy(value)
    except ValueError:
        raise InvalidSetting(f"busy must be one of {', '.join(Busy)}, not {value!r}") from None
