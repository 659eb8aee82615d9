"""Context: everything an agent can ask of Perdure while it runs. One per run; only valid inside that run."""

from __future__ import annotations

import asyncio
import contextlib
import random as dice
import uuid as uuids
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, TypeVarTuple, overload

from perdure.agents.approval import Approval, request_approval
from perdure.agents.attempt import current_attempt
from perdure.agents.signature import adapter_of, read_as, schema_of
from perdure.agents.state import FieldsOf, bind_state
from perdure.agents.tool import Tool, as_tool, caller
from perdure.errors import AgentError, InvalidSetting, NotInAgent, ReceiveTimeout
from perdure.journal.brain import Brain, current_brain
from perdure.journal.commands import Emit, OpenAsk, Receive, Send, Spawn
from perdure.journal.ending import ContinueAs, continuation_of
from perdure.values.clock import moment
from perdure.values.events import emittable
from perdure.values.ids import child_run_id
from perdure.values.json import encode, encode_given

if TYPE_CHECKING:
    from perdure.agents.agent import Agent, AnyAgent

Ts = TypeVarTuple("Ts")
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class RunInfo:
    """Who the run is: `ctx.run`."""

    id: str
    agent: str
    version: str
    #: the session's key, or None for a run of its own
    session: str | None
    parent: str | None
    #: from 1; grows when a worker takes the run over after a crash
    attempt: int


class Context:
    """The agent's side of the kernel. Every method that reaches outside is a recorded step."""

    def __init__(self, brain: Brain, agent: AnyAgent, run: RunInfo) -> None:
        self.run = run
        self._brain = brain
        self._agent = agent
        #: tool, place in the code, arguments by name, and these as JSON text
        self._compensations: list[tuple[Tool[..., Any], str, dict[str, Any], str]] = []
        self._children: list[Child[Any]] = []
        self._typed_state: Any = None

    @property
    def state(self) -> Any:
        """The session's state: a dict, or the agent's `state=` model. Saved with the next commit of the run."""
        stored = self._brain.touch_state()
        if self._agent.state is None:
            return stored
        if self._typed_state is None:
            self._typed_state = bind_state(stored, self._agent.state)
            self._brain.bind_state(FieldsOf(self._typed_state, stored))
        return self._typed_state

    @property
    def random(self) -> dice.Random:
        """Random numbers that are the same in every replay. Not for secrets."""
        return self._brain.random

    def now(self) -> datetime:
        """The run's time (UTC): when the last thing it learned was recorded."""
        return moment(self._brain.now_us)

    def uuid(self) -> uuids.UUID:
        """A UUID that is the same in every replay."""
        return uuids.UUID(int=self._brain.random.getrandbits(128), version=4)

    async def step(
        self, function: Callable[..., Any], *args: Any, effect: str | None = None, retries: int | None = None,
        timeout: float | None = None, name: str | None = None,
    ) -> Any:  # fmt: skip
        """Run any function as a step and return its result as plain data (or as its annotated type).

        `effect` defaults to `once`. Raises StepError when it fails for good.
        """
        _refuse_unsayable(name)
        target = as_tool(function, effect=effect, retries=retries, timeout=timeout, name=name)
        return await target.step(self._brain, caller(), args, {})

    @overload
    async def ask(self, question: str, type: type[T], *, to: str | None = ..., timeout: float | None = ...) -> T: ...
    @overload
    async def ask(self, question: str, *, to: str | None = ..., timeout: float | None = ...) -> Any: ...
    async def ask(self, question: str, type: Any = Any, *, to: str | None = None, timeout: float | None = None) -> Any:
        """Put a question before a person and wait for an answer of `type` (any pydantic type).

        The wait costs nothing and survives everything. Raises AskTimeout after `timeout` seconds, and InvalidInput for
        an answer that fits the type's JSON Schema but not the type.
        """
        _refuse_unsayable(question, to)
        adapter = adapter_of(type)
        command = OpenAsk(
            "ask", question[:80], caller(), title=question, detail={"schema": schema_of(type)}, to=to,
            deadline=self._brain.deadline(timeout),
        )  # fmt: skip
        answer = await self._brain.result(self._brain.issue(command))
        # Not in `command.decode`: what a person wrote is no reason to park the run, which would read it again for ever.
        return read_as(adapter, answer["value"], f"the answer to {question[:80]!r} does not fit")

    async def approve(
        self, action: Tool[..., Any] | str, *args: Any, to: str | None = None, timeout: float | None = None,
        reason: str | None = None, **kwargs: Any,
    ) -> Approval:  # fmt: skip
        """Ask a person to consent to exactly this call of a tool (or this named action with these details).

        The decision is true or false; `await decision.perform()` makes the approved call, once, with the
        arguments as approved. Raises AskTimeout after `timeout` seconds.
        """
        _refuse_unsayable(action if isinstance(action, str) else None, to, reason)
        if isinstance(action, str):
            text = encode_given(dict(kwargs) if not args else {"args": list(args), **kwargs})
        else:
            _, text = action.signature.bind(args, kwargs)
        return await request_approval(self._brain, action, text, at=caller(), to=to, timeout=timeout, reason=reason)

    async def send(self, to: str, topic: str, value: Any = None, *, agent: str | None = None) -> None:
        """Send a message to a run (its id), or with `agent` to that agent's session `to`. Commits with the run."""
        _refuse_unsayable(to, topic, agent)
        target = {"run": to} if agent is None else {"agent": agent, "session": to}
        self._brain.issue(Send(topic, caller(), target, encode_given(value)))

    @overload
    async def receive(self, topic: str, type: type[T], *, timeout: float | None = ...) -> T: ...
    @overload
    async def receive(self, topic: str = ..., *, timeout: float | None = ...) -> Any: ...
    async def receive(self, topic: str = "default", type: Any = Any, *, timeout: float | None = None) -> Any:
        """The next message on `topic`; waits for it at no cost. Raises ReceiveTimeout after `timeout` seconds."""
        self._check_inside("receive")
        _refuse_unsayable(topic)
        command = Receive(topic, caller())
        there, value = self._brain.take_message(topic)
        if not there:
            self._brain.issue(command)
            try:
                async with asyncio.timeout(timeout):
                    value = await self._brain.next_message(command)
            except TimeoutError:
                raise ReceiveTimeout(f"no message on {topic!r} within {timeout} s", type="ReceiveTimeout") from None
        return value if type is Any else adapter_of(type).validate_json(encode(value))

    async def emit(self, type: str, data: Any = None) -> None:
        """Append an event (`progress`, `artifact` or `custom.*`) to the journal; followers see it at once."""
        if not emittable(type):
            raise InvalidSetting(f"an agent emits 'progress', 'artifact' or 'custom.*', not {type!r}")
        _refuse_unsayable(type)
        self._brain.issue(Emit(type, caller(), encode_given({} if data is None else data)))

    def spawn(self, agent: Agent[*Ts, R], *args: *Ts, session: str | None = None, detach: bool = False) -> Child[R]:
        """Start a child run. Awaiting the handle gives its result; `detach` lets it outlive this run."""
        _refuse_unsayable(session)
        _, text = agent.signature.bind(args, {})
        command = Spawn(
            agent.name, caller(), agent=agent, input_json=text, session=session, detach=detach, run="",
        )  # fmt: skip
        self._brain.issue(command)
        command.run = child_run_id(self._brain.run, command.step)
        command.decode = agent.signature.decode_result
        child: Child[R] = Child(self._brain, command)
        if not detach:
            self._children.append(child)
        return child

    def heartbeat(self, details: Any = None) -> None:
        """Inside a step: say that it is alive. In the agent itself there is nothing to keep alive."""
        attempt = current_attempt.get()
        if attempt is not None:
            attempt.heartbeat(details)

    def compensate(self, function: Callable[..., Any], *args: Any) -> None:
        """If the run fails or is cancelled, run this as a step, last registered first (a saga).

        The arguments are taken as they are now. Raises InvalidInput when they do not fit.
        """
        self._check_inside("compensate")
        target = as_tool(function)
        self._compensations.append((target, caller(), *target.signature.bind(args, {})))

    def continue_as(self, *args: Any, **kwargs: Any) -> NoReturn:
        """End this run and go on in a new one with new input and an empty journal: bounded history.

        Raises InvalidInput for input that does not fit, AgentError where compensations are registered: the new run
        would not know of them.
        """
        self._check_inside("continue_as")
        _, text = self._agent.signature.bind(args, kwargs)
        if self._compensations:
            names = ", ".join(target.name for target, *_ in self._compensations)
            raise AgentError(
                f"continue_as would drop what this run has registered with ctx.compensate ({names}). Do what may have "
                "to be undone in a child, `await ctx.spawn(...)`, whose compensations are its own; or undo it in an "
                "`except` of yours"
            )
        raise ContinueAs(text)

    def patched(self, name: str) -> bool:
        """True in runs that reach this line for the first time; False in runs recorded before the change."""
        self._check_inside("patched")
        _refuse_unsayable(name)
        return self._brain.patched(name, caller())

    async def _undo(self, cause: BaseException) -> None:
        while self._compensations:
            target, at, arguments, text = self._compensations.pop()
            try:
                await target.perform(self._brain, at, arguments, text)
            except Exception as error:  # noqa: BLE001 - one that fails must not keep the others from running
                cause.add_note(f"compensation {target.name} failed: {error}")

    async def _join(self) -> None:
        for child in self._children:
            with contextlib.suppress(Exception):
                await child

    def _check_inside(self, what: str) -> None:
        # A step is not run again by a replay: what it did here would be forgotten, or done to another place in the code.
        if current_brain() is not self._brain:
            raise NotInAgent(
                f"ctx.{what} was called outside of the agent's own code, such as in a step; a step takes its arguments "
                "and returns its result"
            )


def _refuse_unsayable(*texts: str | None) -> None:
    """Raise NotJsonError here, where the agent can catch it, for text that no journal can hold (half a character)."""
    for text in texts:
        if text is not None and not text.isascii():
            encode(text)


class Child(Awaitable[R], Generic[R]):
    """A child run: awaiting it gives its result, or raises ChildFailed. May be awaited more than once."""

    def __init__(self, brain: Brain, command: Spawn) -> None:
        #: the id of the child run
        self.id = command.run
        self._brain = brain
        self._command = command
        self._waiting = brain.expect(command)

    def __await__(self) -> Generator[Any, Any, R]:
        return self._brain.join(self._waiting).__await__()


async def run_agent(agent: AnyAgent, brain: Brain, run: RunInfo) -> str:
    """The whole life of a run's code: the agent's function, then its children, or its compensations.

    Returns the result as JSON text.
    """
    ctx = Context(brain, agent, run)
    try:
        result = await agent.signature.call(agent.signature.validate_json(encode(brain.input)), ctx)
        text = agent.signature.encode_result(result)
        await ctx._join()
        brain.check_state()
    except BaseException as error:
        if continuation_of(error) is None:
            await ctx._undo(error)
        raise
    return text
