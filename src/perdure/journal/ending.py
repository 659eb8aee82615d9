"""How runs and their steps end, as values and as exceptions that agent code sees."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from perdure.errors import (
    AgentError,
    ApprovalRejected,
    ChildFailed,
    NotJsonError,
    StepError,
    StepTimeout,
    UnknownOutcome,
)


class ContinueAs(BaseException):
    """Ends the run; its work goes on in a new one with `input_json`. No `except Exception` catches it."""

    def __init__(self, input_json: str) -> None:
        super().__init__("the run continues in a new one")
        self.input_json = input_json


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the agent's function ended. Exactly one field is set; `value` is plain data as JSON text."""

    value: str | None = None
    error: BaseException | None = None
    cancelled: bool = False
    continue_as: str | None = None


def outcome_of(main: asyncio.Task[str], *, cancelling: bool) -> Outcome:
    """How the task of the agent's function ended."""
    if main.cancelled():
        if cancelling:
            return Outcome(cancelled=True)
        return Outcome(error=asyncio.CancelledError("the agent cancelled itself"))
    error = main.exception()
    if error is None:
        return Outcome(value=main.result())
    continuation = continuation_of(error)
    if continuation is not None:
        return Outcome(continue_as=continuation.input_json)
    return Outcome(error=error)


def continuation_of(error: BaseException) -> ContinueAs | None:
    """The ContinueAs that `error` is, or that task groups have wrapped without anything else; None if there is none."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error if isinstance(error, ContinueAs) else None


def run_error(error: dict[str, Any]) -> AgentError | NotJsonError:
    """Why a run was found to be unable to go on, as the exception that it was."""
    return (NotJsonError if error["type"] == "NotJsonError" else AgentError)(error["message"])


def step_error(error: dict[str, Any], step: int | None) -> StepError:
    """A step's recorded error as an exception."""
    kinds: dict[str, type[StepError]] = {
        "StepTimeout": StepTimeout, "ApprovalRejected": ApprovalRejected, "UnknownOutcome": UnknownOutcome,
    }  # fmt: skip
    kind = error.get("type", "StepError")
    return kinds.get(kind, StepError)(error.get("message", ""), type=kind, step=step)


def child_error(run: str, error: dict[str, Any], step: int | None) -> ChildFailed:
    """A child's recorded end as an exception."""
    kind, message = error.get("type", "RunCancelled"), error.get("message", "the child was cancelled")
    return ChildFailed(f"{run}: {kind}: {message}", type=kind, run=run, step=step)
