"""What agent code can ask of the kernel. Command n of a run is its step n.

A command is made by the brain, matched against the journal while replaying, and carried out by the kernel
when it is new. `future` is what the agent's code waits on; the brain resolves it from a committed event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from perdure.journal.loop import RunTimer


class Command:
    """One request of a run to the kernel."""

    #: the `kind` that events of this command carry
    kind = "command"
    __slots__ = ("at", "decode", "future", "name", "recorded", "step")

    def __init__(self, name: str, at: str) -> None:
        #: number of the step, given when the command is issued
        self.step = 0
        self.name = name
        #: file:line in the agent's code
        self.at = at
        #: turns the journaled JSON value into what the agent's code receives
        self.decode: Callable[[Any], Any] = _as_is
        self.future: asyncio.Future[Any] | None = None
        #: True when the journal already holds its opening event
        self.recorded = False


def _as_is(value: Any) -> Any:
    return value


class Call(Command):
    """Run a tool or a function as a step."""

    kind = "tool"
    __slots__ = ("arguments", "arguments_json", "target")

    def __init__(self, name: str, at: str, target: Any, arguments: Any, arguments_json: str) -> None:
        super().__init__(name, at)
        #: the agents.tools.Tool to run
        self.target = target
        #: bound arguments, private to the step
        self.arguments = arguments
        #: arguments by parameter name, as JSON text
        self.arguments_json = arguments_json


class Timer(Command):
    """Fire at a moment: asyncio.sleep, timeouts."""

    kind = "sleep"
    __slots__ = ("due", "handle")

    def __init__(self, at: str, due: int, handle: RunTimer) -> None:
        super().__init__("sleep", at)
        #: microseconds since the epoch
        self.due = due
        self.handle = handle


class OpenAsk(Command):
    """Put a question (kind `ask`) or an action (kind `approval`) before a person."""

    __slots__ = ("deadline", "detail", "kind", "title", "to")

    def __init__(
        self, kind: str, name: str, at: str, *, title: str, detail: dict[str, Any], to: str | None, deadline: int | None
    ) -> None:
        super().__init__(name, at)
        self.kind = kind
        self.title = title
        self.detail = detail
        self.to = to
        self.deadline = deadline


class Receive(Command):
    """Wait for a message on a topic."""

    kind = "receive"
    __slots__ = ()


class Send(Command):
    """Send a message to another run or session."""

    kind = "send"
    __slots__ = ("to", "value_json")

    def __init__(self, topic: str, at: str, to: dict[str, str], value_json: str) -> None:
        super().__init__(topic, at)
        self.to = to
        self.value_json = value_json


class Emit(Command):
    """Append an event of the agent's own to the journal."""

    kind = "emit"
    __slots__ = ("data_json",)

    def __init__(self, type: str, at: str, data_json: str) -> None:
        super().__init__(type, at)
        self.data_json = data_json


class Spawn(Command):
    """Start a child run and wait for its end when somebody awaits the handle."""

    kind = "child"
    __slots__ = ("agent", "detach", "input_json", "run", "session")

    def __init__(
        self, name: str, at: str, *, agent: Any, input_json: str, run: str, session: str | None, detach: bool
    ) -> None:
        super().__init__(name, at)
        self.agent = agent
        self.input_json = input_json
        self.run = run
        self.session = session
        self.detach = detach


class Patch(Command):
    """Remember that the run took a new code path. Takes no step number."""

    kind = "patch"
    __slots__ = ()


class Fail(Command):
    """The code cannot go on: it must clean up, and then the run fails. Takes no step number."""

    kind = "failure"
    __slots__ = ("error",)

    def __init__(self, error: Exception) -> None:
        super().__init__(type(error).__name__, "")
        self.error = error


class Withdraw(Command):
    """The agent stopped waiting for step `step`. Takes no step number of its own."""

    kind = "withdraw"
    __slots__ = ("command",)

    def __init__(self, command: Command) -> None:
        super().__init__(command.name, command.at)
        self.step = command.step
        self.command = command
