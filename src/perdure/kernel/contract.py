"""What the kernel needs from the layers above it: hands that act, a gate that decides, agents that exist, who is told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from perdure.agents.agent import AnyAgent
from perdure.agents.attempt import Attempt
from perdure.journal.commands import Call
from perdure.values.events import Event


class Hands(Protocol):
    """Acts on the world."""

    async def execute(self, call: Call, attempt: Attempt) -> str:
        """Run the call's tool and return its result as JSON text. Raises whatever the tool raises."""

    async def probe(self, call: Call) -> Any:
        """Ask the tool's reconcile probe what became of an attempt: Happened, DID_NOT_HAPPEN or STILL_UNKNOWN."""

    def close(self) -> None:
        """Stop taking work."""


@dataclass(frozen=True, slots=True)
class Admission:
    """A step that wants to begin, as the gate sees it."""

    run: str
    agent: str
    session: str | None
    name: str
    effect: str
    arguments_json: str
    #: who must consent, or None
    approval: str | None
    #: unused approvals of this run, oldest first: ask id -> hash of the action that it allows
    grants: dict[str, str]


@dataclass(frozen=True, slots=True)
class Decision:
    """The gate's answer. `approval` is the id of the grant that is used up by admitting the step."""

    allowed: bool
    reason: str = ""
    approval: str | None = None


class Gate(Protocol):
    """Decides whether a step may begin. Pure: no I/O, no clock."""

    def decide(self, admission: Admission) -> Decision:
        """Allow or deny. Raising counts as a denial."""


class Agents(Protocol):
    """The agents this node can run."""

    def get(self, name: str, version: str) -> AnyAgent | None:
        """That version of an agent, or None when this node does not have it."""

    def latest(self, name: str) -> AnyAgent | None:
        """The newest version of an agent."""

    def versions(self, name: str) -> Iterable[str]:
        """The versions of an agent that this node has."""

    def names(self) -> Iterable[str]:
        """The names of all agents."""


@dataclass(frozen=True, slots=True)
class Notice:
    """A run that tells somebody of an event. It is created in the event's own commit, without an idempotency key."""

    agent: AnyAgent
    #: its id, made of the event's: told twice is told once
    run: str
    input_json: str
    concurrency_key: str


class Subscriptions(Protocol):
    """Who wants to be told of what happens."""

    def notices(self, agent: str, event: Event) -> Iterable[Notice]:
        """What tells of an event of a run of `agent`. Quick, and never of what the notices' own runs do."""
