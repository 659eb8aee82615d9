"""Every error Perdure raises on purpose, grouped by what it means for whoever meets it.

A message says what happened, to what, and the command or change that fixes it.
"""

from __future__ import annotations


class PerdureError(Exception):
    """Root of all errors below."""


# --- Your call was refused; nothing was recorded -----------------------------------------------


class Refused(PerdureError):
    """The request could not be taken. Nothing was changed."""


class InvalidInput(Refused):
    """The input does not fit the agent's, tool's or question's types."""


class NotFound(Refused):
    """No such run, ask, agent or step."""


class SessionBusy(Refused):
    """Another run of that session is active and the busy policy is `reject`."""


class IdempotencyMismatch(Refused):
    """The idempotency key was used before with another input."""


class AlreadySettled(Refused):
    """The run has ended, or the question was answered, decided or withdrawn before."""


class NotJsonError(Refused, TypeError):
    """A value that JSON cannot hold was handed to the journal."""


class InvalidSetting(Refused, ValueError):
    """A setting, option or URL makes no sense."""


# --- The code of an agent needs a change -------------------------------------------------------


class AgentError(PerdureError):
    """The agent's code did what a durable agent must not do."""


class NonDeterminismError(AgentError):
    """Replayed code asked for another step than the journal holds. The run is parked; nothing is lost."""


class BrainIOError(AgentError):
    """Agent code touched the world directly. Put it in a tool or `ctx.step(...)`."""


class NotInAgent(AgentError):
    """A call that only makes sense inside a running agent or step was made outside."""


# --- A step or a run ended badly; agents may catch these ----------------------------------------


class StepError(PerdureError):
    """A step failed for good: its retries are used up or its error deserved none.

    `type` and `message` are those of the original exception; `step` is its number.
    """

    def __init__(self, message: str, *, type: str = "StepError", step: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.type = type
        self.step = step


class StepTimeout(StepError, TimeoutError):
    """An attempt of a step took longer than its timeout, or stopped sending heartbeats."""


class UnknownOutcome(StepError):
    """A step was in flight when its worker died, and a person decided that it failed."""


class ApprovalRejected(StepError):
    """A person refused the action."""


class AskTimeout(StepError, TimeoutError):
    """Nobody answered or decided in time."""


class ReceiveTimeout(StepError, TimeoutError):
    """No message came in time."""


class ChildFailed(StepError):
    """A child run failed or was cancelled. `run` is its id."""

    def __init__(self, message: str, *, type: str, run: str, step: int | None = None) -> None:
        super().__init__(message, type=type, step=step)
        self.run = run


class NoRetry(PerdureError):
    """Raise it (or a subclass) in a tool to fail the step at once, whatever its retries."""


class ComputeRefused(NoRetry):
    """A step's body cannot run with the compute it asks for, here and as things are set up."""


class CutOff(NoRetry):
    """The process that ran a `once` step's body was lost half-way, and nobody knows what it did: never run again."""


class ComputeLost(PerdureError):
    """The process that ran a step's body gave out. `in_doubt`: nobody knows how far the body came."""

    def __init__(self, message: str, *, in_doubt: bool) -> None:
        super().__init__(message)
        self.in_doubt = in_doubt


class OutOfMemory(ComputeLost):
    """A step's body took more memory than it had. The next attempt gets more where its `Compute` may grow."""


class WorkerLost(ComputeLost):
    """The process or the machine that ran a step's body died."""


class RunFailed(PerdureError):
    """The run ended with an error; raised by `result()`. `type` is the original error's name."""

    def __init__(self, message: str, *, type: str, run: str) -> None:
        super().__init__(message)
        self.type = type
        self.run = run


class RunCancelled(PerdureError):
    """The run was cancelled; raised by `result()`."""


# --- A server cannot be asked ------------------------------------------------------------------


class Unreachable(PerdureError):
    """No answer came from the server; raised by Client."""


# --- The store cannot do its work ---------------------------------------------------------------


class StoreError(PerdureError):
    """The store refused. What was acknowledged before is safe; what was not is not half done."""


class StoreNewer(StoreError):
    """The file was written by a newer Perdure."""


class StoreCorrupt(StoreError):
    """The file is damaged or is not a Perdure store."""


class JournalDamaged(PerdureError):
    """An event of a run cannot be read back. Other runs are not concerned."""


class StoreReadOnly(StoreError):
    """The directory or file cannot be written."""


class StoreFull(StoreError):
    """The disk is full. Work goes on by itself once there is room."""


class StoreBusy(StoreError):
    """Another process held the store for too long."""


class StoreBroken(StoreError):
    """The disk failed under a write. The node stops at once: what a failed fsync kept is not knowable."""


# --- This node must stop ---------------------------------------------------------------------


class Fenced(PerdureError):
    """Another node owns the shard now: this node's write was refused and changed nothing."""


# --- Refusals a store gives to one transaction (the kernel turns them into one of the above) --------


class AlreadyExists(Refused):
    """A run with that id or idempotency key exists."""


class StatementFailed(Refused):
    """A `transaction` tool's SQL was refused by the database."""


class ShardMoved(PerdureError):
    """`shard` is in another database now, or on its way there. Nothing was changed."""

    def __init__(self, message: str, *, shard: str) -> None:
        super().__init__(message)
        self.shard = shard
