"""@tool: a function that acts on the world. Called inside an agent it is a durable step; outside, itself."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from types import FunctionType
from typing import Any, Generic, ParamSpec, TypeVar, overload

from perdure.agents.approval import request_approval
from perdure.agents.signature import Signature, plain_function
from perdure.errors import ApprovalRejected, InvalidSetting
from perdure.journal.brain import Brain, current_brain
from perdure.journal.commands import Call
from perdure.values.compute import Compute
from perdure.values.effects import Effect, Retries, StepOptions

P = ParamSpec("P")
R = TypeVar("R")

_DEFAULT_RETRIES = {Effect.READ: 2, Effect.KEYED: 2, Effect.ONCE: 0, Effect.TRANSACTION: 0}


class Tool(Generic[P, R]):
    """A function with an effect class. `R` is what calling it gives (an awaitable for async functions)."""

    def __init__(
        self, function: Callable[P, R], name: str, options: StepOptions, compute: Compute | None = None
    ) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.name = name
        self.options = options
        #: what its body needs in a process of its own; None means that it runs in this one
        self.compute = _checked_compute(compute, function, options)
        self.signature = Signature(function)
        self.is_async = inspect.iscoroutinefunction(plain_function(function))
        self.probe: Callable[..., Any] | None = None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        brain = current_brain()
        if brain is None:
            return self.function(*args, **kwargs)
        return self.step(brain, caller(), args, kwargs)  # type: ignore[return-value]

    def reconcile(self, probe: Callable[P, Any]) -> Callable[P, Any]:
        """Register the probe that finds out, after a crash, whether the effect happened.

        It takes the tool's arguments and returns `Happened(result)`, `DID_NOT_HAPPEN` or `STILL_UNKNOWN`.
        """
        self.probe = probe
        return probe

    def with_options(self, **changes: Any) -> Tool[P, R]:
        """The same tool with other options (effect, retries, timeout, ...)."""
        name, compute = changes.pop("name", self.name), changes.pop("compute", self.compute)
        tool = Tool(self.function, name, _changed(self.options, changes), compute)
        tool.probe = self.probe
        return tool

    async def step(self, brain: Brain, at: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run as a step of `brain`. Raises InvalidInput, before anything is recorded, for arguments that do not fit."""
        return await self.perform(brain, at, *self.signature.bind(args, kwargs))

    async def perform(self, brain: Brain, at: str, arguments: dict[str, Any], text: str) -> Any:
        """Run with bound arguments: ask for consent first when the tool wants it."""
        if self.options.approval is not None:
            approval = await request_approval(brain, self, text, at=at, to=self.options.approval)
            if not approval.approved:
                reason = f": {approval.note}" if approval.note else ""
                raise ApprovalRejected(
                    f"{approval.by or 'a person'} refused {self.name}{reason}", type="ApprovalRejected",
                    step=approval.step,
                )  # fmt: skip
            arguments, text = approval.arguments, approval.arguments_json
        return await self.issue(brain, at, arguments, text)

    async def issue(self, brain: Brain, at: str, arguments: dict[str, Any], text: str) -> Any:
        """The step itself, with bound arguments."""
        call = Call(self.name, at, self, arguments, text)
        call.decode = self.signature.decode_result
        return await brain.result(brain.issue(call))

    def __repr__(self) -> str:
        return f"<tool {self.name} ({self.options.effect})>"


class Happened:
    """A probe's answer: the effect happened, with this result."""

    def __init__(self, result: Any = None) -> None:
        self.result = result


class _Verdict:
    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


#: A probe's answer: the effect did not happen, so run the step again.
DID_NOT_HAPPEN = _Verdict("DID_NOT_HAPPEN")
#: A probe's answer: nobody can tell yet, so ask a person.
STILL_UNKNOWN = _Verdict("STILL_UNKNOWN")


@overload
def tool(function: Callable[P, Coroutine[Any, Any, R]], /) -> Tool[P, Coroutine[Any, Any, R]]: ...
@overload
def tool(function: Callable[P, R], /) -> Tool[P, Any]: ...
@overload
def tool(
    *, effect: str = ..., retries: int | Retries | None = ..., timeout: float | None = ...,
    heartbeat_timeout: float | None = ..., approval: str | bool | None = ..., no_retry: Sequence[type[Exception]] = ...,
    name: str | None = ..., compute: Compute | None = ...,
) -> _Decorator: ...  # fmt: skip
def tool(
    function: Callable[..., Any] | None = None, /, *, effect: str = "once", retries: int | Retries | None = None,
    timeout: float | None = None, heartbeat_timeout: float | None = None, approval: str | bool | None = None,
    no_retry: Sequence[type[Exception]] = (), name: str | None = None, compute: Compute | None = None,
) -> Any:  # fmt: skip
    """Make a function a tool.

    effect: `read` (changes nothing), `keyed` (safe to repeat with `current_step().key`), `once` (the default:
    must not happen twice), `transaction` (SQL that commits together with the step).
    retries: attempts after the first (default 2 for read and keyed, else 0), or a `Retries`.
    timeout, heartbeat_timeout: seconds per attempt, and seconds without a heartbeat.
    approval: who must consent before each call (True for anybody).
    no_retry: exception types that deserve no retry. name: the name in the journal (default: the function's).
    compute: run the body in a process of its own, with these cpus, gpus and memory. The function is imported there
    by its module and name, so it must stand at the top of one.

    Sync functions run in a thread. Raises InvalidSetting for options that make no sense.
    """
    given = {
        "effect": effect, "retries": retries, "timeout": timeout, "heartbeat_timeout": heartbeat_timeout,
        "approval": approval, "no_retry": no_retry,
    }  # fmt: skip

    def decorate(function: Callable[..., Any]) -> Tool[..., Any]:
        return Tool(function, name or function.__name__, _changed(StepOptions(), given), compute)

    return decorate if function is None else decorate(function)


class _Decorator:
    """Types of `tool(...)` with options; never made."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Tool[P, Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Tool[P, Any]: ...
    def __call__(self, function: Callable[..., Any], /) -> Any:
        raise NotImplementedError


def as_tool(function: Callable[..., Any], **options: Any) -> Tool[..., Any]:
    """`function` as a tool, for `ctx.step`: a tool keeps its own options where none are given."""
    options = {name: value for name, value in options.items() if value is not None}
    if isinstance(function, Tool):
        return function.with_options(**options) if options else function
    # Looking into a function costs more than a step. Those with a closure are new each time, and hold on to the run.
    known = isinstance(function, FunctionType) and function.__closure__ is None
    return _known_tool(function, **options) if known else _new_tool(function, **options)


def _new_tool(function: Callable[..., Any], *, name: str | None = None, **options: Any) -> Tool[..., Any]:
    name = name or plain_function(function).__qualname__.replace("<locals>.", "")
    return Tool(function, name, _changed(StepOptions(), {"effect": "once", **options}))


_known_tool = functools.lru_cache(maxsize=1024)(_new_tool)


def caller(depth: int = 2) -> str:
    """file:line of the code that called our caller."""
    frame = sys._getframe(depth)
    if frame.f_globals.get("__name__", "").startswith(("asyncio", "perdure.journal")):
        return ""  # a coroutine that was handed to a task has no caller left
    return f"{frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_lineno}"


def _changed(options: StepOptions, changes: dict[str, Any]) -> StepOptions:
    unknown = set(changes) - {"effect", "retries", "timeout", "heartbeat_timeout", "approval", "no_retry"}
    if unknown:
        raise InvalidSetting(f"a tool has no option {', '.join(sorted(unknown))}")
    effect = _effect(changes.get("effect", options.effect))
    retries = changes.get("retries")
    if retries is None:
        retries = options.retries if "effect" not in changes else Retries(_DEFAULT_RETRIES[effect])
    if isinstance(retries, int):
        if retries < 0:
            raise InvalidSetting(f"retries must be 0 or more, not {retries}")
        retries = Retries(retries)
    never = tuple(kind.__name__ for kind in changes.get("no_retry") or ())
    approval = changes.get("approval", options.approval)
    for name in ("timeout", "heartbeat_timeout"):
        if (seconds := changes.get(name)) is not None and seconds <= 0:
            raise InvalidSetting(f"{name} must be more than 0 seconds, not {seconds}")
    return StepOptions(
        effect=effect,
        retries=replace(retries, never=never) if never else retries,
        timeout=changes.get("timeout", options.timeout),
        heartbeat_timeout=changes.get("heartbeat_timeout", options.heartbeat_timeout),
        approval="anyone" if approval is True else approval or None,
    )


def _checked_compute(compute: Compute | None, function: Callable[..., Any], options: StepOptions) -> Compute | None:
    if compute is None:
        return None
    if not isinstance(compute, Compute):
        raise InvalidSetting(f"compute must be a Compute(cpus=..., memory=...), not {compute!r}")
    if not isinstance(function, FunctionType) or "<" in function.__qualname__:
        name = getattr(function, "__qualname__", repr(function))
        raise InvalidSetting(
            f"{name} has compute=, so another process must find it by its name: define it with `def` at the top of a module"
        )
    if options.effect is Effect.TRANSACTION:
        raise InvalidSetting(
            f"{function.__qualname__} is a `transaction`: it queues SQL here. Do the work in a tool with compute=, and "
            f"hand its result to one without"
        )
    if compute.batch > 1 and not options.effect.repeatable:
        raise InvalidSetting(
            f"{function.__qualname__} is `once` and has batch={compute.batch}, but what shares a task may have to run again; "
            f"declare effect='read' or 'keyed', or leave batch out"
        )
    return compute


def _effect(value: str | Effect) -> Effect:
    try:
        return Effect(value)
    except ValueError:
        raise InvalidSetting(f"effect must be one of {', '.join(Effect)}, not {value!r}") from None
