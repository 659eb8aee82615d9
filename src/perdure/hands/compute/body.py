"""Runs the body of one attempt, in the process that is there for it, and tells what happens as messages.

Known to both engines, and to neither of them in particular.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from perdure.agents.attempt import Attempt, current_attempt
from perdure.agents.signature import Signature
from perdure.errors import AgentError, ComputeRefused, InvalidInput, InvalidSetting, NoRetry
from perdure.hands.compute.contract import Message, Work
from perdure.hands.compute.place import find
from perdure.kernel.step import describe

try:
    import resource
except ImportError:  # Windows: no limits
    resource = None  # type: ignore[assignment]


def run_body(work: Work, send: Callable[[Message], None]) -> None:
    """Run a body. `send` is given each message of the contract, from whichever thread the body reports in."""
    try:
        signature = find(work.place)
    except ComputeRefused as error:
        send(["refused", str(error)])
        return
    attempt = _ReportingAttempt(
        work.run, work.session, work.step, work.attempt, work.key, lambda *report: send(["report", *report]),
        work.last_heartbeat,
    )  # fmt: skip
    send(["begun"])
    try:
        with _limited(work.compute.memory_bytes):
            result = contextvars.copy_context().run(_call, signature, work.arguments_json, attempt)
        message = ["done", result]
    except MemoryError as error:
        message = ["full", str(error)] if work.compute.memory_bytes is not None else _failed(error)
    except BaseException as error:  # noqa: BLE001 - whatever a tool raises is its step's outcome
        message = _failed(error)
    send(message)


class _ReportingAttempt(Attempt):
    def execute(self, sql: str, params: tuple[Any, ...] | dict[str, Any] = ()) -> None:
        raise InvalidSetting("a tool with compute= runs away from the store: queue the SQL in a `transaction` tool")


def _call(signature: Signature, arguments_json: str, attempt: Attempt) -> str:
    current_attempt.set(attempt)
    result = signature.call(signature.validate_json(arguments_json))
    if inspect.iscoroutine(result):
        result = asyncio.run(result)
    return signature.encode_result(result)


def _failed(error: BaseException) -> Message:
    never = isinstance(error, NoRetry | InvalidInput | AgentError)
    return ["failed", {"class": type(error).__name__, "never": never, "described": describe(error)}]


@contextlib.contextmanager
def _limited(memory_bytes: int | None) -> Iterator[None]:
    """Give the process so much memory on top of what it has; allocations beyond that raise MemoryError.

    RLIMIT_DATA counts private memory that may be written. RLIMIT_AS counts every mapping, shared libraries and
    address space that numpy or Ray only reserve included: nobody could say what to ask for.
    """
    taken = _data_bytes() if memory_bytes is not None and resource is not None else None
    if memory_bytes is None or taken is None:
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (_lower(taken + memory_bytes, before), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def _lower(limit: int, before: tuple[int, int]) -> int:
    return min([limit, *(bound for bound in before if bound != resource.RLIM_INFINITY)])


def _data_bytes() -> int | None:
    """The memory that counts against RLIMIT_DATA, or None where the system does not say (it is Linux that enforces it)."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123 - a Path costs as much as the reading
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmData:"))
    except (OSError, StopIteration):
        return None
