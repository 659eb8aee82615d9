"""What can be asked for wherever runs are? One Protocol: a Runtime does it here, a Client asks a server to.

    async def settle_all(service: Service) -> None:
        for ask in await service.inbox(to="finance"):
            ...

What each call promises stands on Runtime, where it is made true.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol, TypeVar, TypeVarTuple

from perdure.agents.agent import Agent, AnyAgent
from perdure.store.contract import Ask, RunFilter
from perdure.values.events import Event
from perdure.values.runs import Run

Ts = TypeVarTuple("Ts")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Handle(Protocol[R_co]):
    """One run, from outside."""

    @property
    def id(self) -> str:
        """Its id."""

    async def result(self, timeout: float | None = None) -> R_co:
        """The run's result, once it has one; of its continuation, if it continued."""

    def events(self, after: int = 0) -> AsyncIterator[Event]:
        """The journal after `after`, then live, until the run's last event."""

    async def status(self) -> Run:
        """The run's row as it is now."""

    async def send(self, topic: str, value: Any = None) -> None:
        """Send the run a message."""

    async def pause(self) -> None:
        """Stop it from moving."""

    async def resume(self) -> None:
        """Let it go on."""

    async def cancel(self, reason: str | None = None) -> None:
        """Cancel it and its children."""


class Service(Protocol):
    """Where runs are started, looked at and steered."""

    async def start(
        self, agent: Agent[*Ts, R], *args: *Ts, session: str | None = None,
        idempotency_key: str | None = None, priority: int | None = None, concurrency_key: str | None = None,
        busy: str | None = None,
    ) -> Handle[R]:  # fmt: skip
        """Start a run."""

    async def start_json(
        self, agent: AnyAgent | str, value: Any, *, session: str | None = None,
        idempotency_key: str | None = None, priority: int | None = None, concurrency_key: str | None = None,
        busy: str | None = None,
    ) -> Handle[Any]:  # fmt: skip
        """Start a run with its input as a JSON value."""

    async def run(self, id: str) -> Handle[Any]:
        """The run with this id, or with the only id that ends in it."""

    async def find(self, id: str) -> Run:
        """Its row."""

    async def runs(self, filter: RunFilter | None = None) -> list[Run]:
        """Runs that match, newest first."""

    async def send(self, target: str, topic: str, value: Any = None, *, agent: str | None = None) -> None:
        """Send a message to a run, or with `agent` to that agent's session."""

    async def pause(self, id: str, *, by: str | None = None, note: str | None = None) -> None:
        """Stop a run from moving until resumed."""

    async def resume(self, id: str, *, by: str | None = None) -> None:
        """Let a paused run go on."""

    async def cancel(self, id: str, *, by: str | None = None, reason: str | None = None) -> None:
        """Cancel a run and its children."""

    async def retry(self, id: str, *, from_step: int | None = None) -> Handle[Any]:
        """Try again what did not work out."""

    async def fork(self, id: str, *, at: int, input: Any = None, result: Any = ...) -> Handle[Any]:
        """A new run that shares this one's journal before step `at`."""

    async def resolve(self, id: str, step: int, outcome: str, *, result: Any = None, by: str | None = None) -> None:
        """Settle a step of unknown outcome."""

    async def inbox(self, *, to: str | None = None, run: str | None = None, limit: int = 1000) -> list[Ask]:
        """Open questions and approvals, oldest first."""

    async def find_ask(self, id: str) -> Ask:
        """The question or approval with this id, or the only open one whose id ends so."""

    async def answer(self, id: str, value: Any, *, by: str | None = None) -> None:
        """Answer a question."""

    async def approve(
        self, id: str, *, edit: dict[str, Any] | None = None, by: str | None = None, note: str | None = None
    ) -> None:
        """Consent to an action."""

    async def reject(self, id: str, *, by: str | None = None, note: str | None = None) -> None:
        """Refuse an action."""

    def events(self, id: str, after: int = 0) -> AsyncIterator[Event]:
        """The journal after `after`, then live, until the run's last event."""

    async def journal(self, id: str, after: int = 0, limit: int | None = None) -> list[Event]:
        """The journal as it is now."""
