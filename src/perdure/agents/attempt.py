"""What a tool can see of the step it runs in: its key, its attempt, and ways to report while it works.

    step = current_step()
    await client.charge(amount, idempotency_key=step.key)
    step.heartbeat({"page": 7})
    step.stream("partial text")

Outside of a step there is nothing to see: `current_step()` raises.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Literal

from perdure.errors import InvalidSetting, NotInAgent
from perdure.values.events import emittable
from perdure.values.json import decode, encode, encode_given

ReportKind = Literal["heartbeat", "stream", "emit"]


class NotBegun(Exception):  # noqa: N818 - no error: it is tried again
    """The node may not act just now: nothing of the attempt has happened. For the hands and the kernel."""


class Attempt:
    """One attempt of one step, as its tool sees it. Methods may be called from the tool's own thread."""

    def __init__(
        self, run: str, session: str | None, step: int, attempt: int, key: str,
        report: Callable[[ReportKind, str, Any], None], last_heartbeat: Any = None,
        may_begin: Callable[[], bool] = lambda: True,
    ) -> None:  # fmt: skip
        self.run = run
        self.session = session
        #: number of the step in the run
        self.step = step
        #: from 1
        self.attempt = attempt
        #: the same in every attempt of this step: hand it to services that take an idempotency key
        self.key = key
        #: details of the last heartbeat of an earlier attempt, to go on from
        self.last_heartbeat = last_heartbeat
        self.statements: list[tuple[str, Any]] = []
        self._report = report
        self._may_begin = may_begin
        self._begun = False

    def begin(self) -> None:
        """For the hands, once: the tool acts from now on. Raises NotBegun when it must not any more."""
        if not self._begun and not self._may_begin():
            raise NotBegun
        self._begun = True

    def heartbeat(self, details: Any = None) -> None:
        """Say that the step is alive; `details` (JSON) are there for the next attempt if this one dies."""
        self._report("heartbeat", "", decode(encode_given(details)))

    def stream(self, piece: Any, name: str = "text") -> None:
        """Show a piece of output at once: text, or a JSON value. Pieces are coalesced, never lost in order."""
        encode(name)  # refused here, in the tool, when no journal can hold it
        self._report("stream", name, decode(encode_given(piece)))

    def emit(self, type: str, data: Any = None) -> None:
        """Append an event (`progress`, `artifact` or `custom.*`) to the run's journal."""
        if not emittable(type):
            raise InvalidSetting(f"a step emits 'progress', 'artifact' or 'custom.*', not {type!r}")
        encode(type)
        self._report("emit", type, decode(encode_given(data)))

    def execute(self, sql: str, params: tuple[Any, ...] | dict[str, Any] = ()) -> None:
        """Add one SQL statement to a `transaction` step; all of them commit together with the step's result."""
        self.statements.append((sql, params))


current_attempt: ContextVar[Attempt | None] = ContextVar("perdure_attempt", default=None)


def current_step() -> Attempt:
    """The step this tool runs in. Raises NotInAgent outside of one."""
    attempt = current_attempt.get()
    if attempt is None:
        raise NotInAgent("current_step() only works inside a tool that an agent called")
    return attempt
