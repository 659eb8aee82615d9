"""What does an engine do? It runs the body of one attempt in another process and says what became of it.

An attempt goes over as `Work`. What comes back is a stream of messages, JSON arrays, in this order for each work:

    ["begun"]                       from here on the body may have acted
    ["report", kind, name, data]    heartbeats, pieces and events, as they come
    ["done", text] | ["failed", error] | ["full", message] | ["refused", message]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeAlias

from perdure.agents.attempt import ReportKind
from perdure.values.compute import Compute, memory_text
from perdure.values.json import decode, encode

Message: TypeAlias = "list[Any]"
#: Takes what a body reports, on the loop that waits for it.
TakeReport: TypeAlias = Callable[[ReportKind, str, Any], None]
#: Called on that loop when the wait for a place is over. Raises NotBegun when the body must not begin any more.
Begin: TypeAlias = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a function is defined, so that any process finds it: `file` where its module has one."""

    module: str
    file: str | None
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True, slots=True)
class Work:
    """The body of one attempt, as data."""

    place: Place
    arguments_json: str
    compute: Compute
    run: str
    session: str | None
    step: int
    attempt: int
    key: str
    last_heartbeat: Any

    def as_json(self) -> str:
        """JSON text, on one line."""
        return encode(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> Work:
        """The work that `as_json` wrote."""
        data = decode(text)
        data["place"], data["compute"] = Place(**data["place"]), Compute(**data["compute"])
        return cls(**data)

    @property
    def title(self) -> str:
        """What it is and what it has, for people."""
        limit = self.compute.memory_bytes
        return str(self.place) if limit is None else f"{self.place} (with {memory_text(limit)} of memory)"


class Engine(Protocol):
    """Runs bodies. One for each runtime, used on its loop."""

    async def run(self, work: Work, take_report: TakeReport, begin: Begin) -> str:
        """Run a body; its result as JSON text.

        Raises what the body raised (as a `Raised`), NotBegun, OutOfMemory, WorkerLost, or ComputeRefused when it can
        never run like this. Cancelled, it stops the body, by force and without clean-up.
        """

    def close(self) -> None:
        """Take no more work, and stop what runs."""
