"""What do callers send, and what are they sent? The shapes that OpenAPI tells, and that bodies and queries must fit."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from perdure.gateway.access.principal import Scope
from perdure.values.runs import RunStatus

Moment = Annotated[str, Field(description="RFC 3339, UTC, microseconds", json_schema_extra={"format": "date-time"})]
Limit = Annotated[int, Field(ge=1, le=1000)]
#: Whatever a database calls an integer.
Number = Annotated[int, Field(ge=0, le=2**53)]
#: What names and ids may hold: no control characters.
_NAMED = r"^[^\x00-\x1f\x7f]*$"
Text = Annotated[str, Field(max_length=1000, pattern=_NAMED)]
Note = Annotated[str | None, Field(max_length=10_000)]


class Given(BaseModel):
    """What a caller sends: nothing beside what is known."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Shown(BaseModel):
    """What a caller is sent: more may be added."""

    model_config = ConfigDict(extra="allow")


# --- Runs ---------------------------------------------------------------------------------------------------------


class ForkedFrom(Shown):
    """The journal that a fork shares with another run: up to `seq`."""

    run: str
    seq: int


class Run(Shown):
    """A run as lists show it."""

    id: str
    agent: str
    version: str
    session: str | None
    status: RunStatus
    reason: Annotated[str | None, Field(description="Why it is not moving, in words.")]
    wait: Annotated[dict[str, Any] | None, Field(description="What it waits for: {kind, ...}.")]
    created: Moment
    updated: Moment
    wake_at: Moment | None
    parent: str | None
    attempt: Annotated[int, Field(description="Grows when a worker takes it over after a crash.")]
    steps: int
    shard: Annotated[str, Field(description="The slice of the sessions that it belongs to; one node owns it.")]
    seq: Annotated[int, Field(description="The number of its last event.")]
    priority: int
    concurrency_key: str | None
    forked_from: ForkedFrom | None


class RunDetail(Run):
    """A run with what it was given and what it brought."""

    input: Any
    result: Any
    error: dict[str, Any] | None
    continued_as: str | None


class Runs(Shown):
    """A page of runs, newest first."""

    items: list[Run]
    next: str | None


class Result(Shown):
    """How a run ended, or (202) why it has not."""

    id: str
    status: RunStatus


class Step(Shown):
    """One step, as far as the journal knows it (docs/contract.md)."""

    step: int
    kind: str
    name: str
    status: str


class Steps(Shown):
    """All steps of a run."""

    items: list[Step]
    next: None


class EventShape(Shown):
    """One ordered record of a run's journal (docs/events.md)."""

    run: str
    seq: int
    type: str
    time: Moment
    step: int | None
    attempt: int | None
    data: dict[str, Any]


class Events(Shown):
    """A page of a journal. `next` is where to read on, if there may be more."""

    items: list[EventShape]
    next: int | None


class RunQuery(Given):
    """Which runs."""

    agent: Text | None = None
    session: Text | None = None
    status: tuple[RunStatus, ...] = ()
    parent: Text | None = None
    since: Moment | None = None
    until: Moment | None = None
    cursor: Text | None = None
    limit: Limit = 100


class StartQuery(Given):
    """How a run is started."""

    session: Annotated[str | None, Field(min_length=1, max_length=1000, pattern=_NAMED)] = None
    priority: Annotated[int | None, Field(ge=-1_000_000, le=1_000_000)] = None
    concurrency_key: Text | None = None
    busy: Literal["queue", "reject", "interrupt", "steer"] | None = None
    wait: Annotated[float, Field(ge=0, le=300, description="Answer once it has ended, or after so many seconds.")] = 0


class WaitQuery(Given):
    """How long to wait for an end."""

    wait: Annotated[float, Field(ge=0, le=300, description="seconds")] = 0


class EventQuery(Given):
    """Which events."""

    after: Number = 0
    limit: Limit = 100
    type: Annotated[tuple[Text, ...], Field(max_length=50, description="Only these: ask.opened, step.*")] = ()


class Message(Given):
    """A message to a run or a session."""

    topic: Annotated[str, Field(min_length=1, max_length=1000, pattern=_NAMED)]
    value: Any = None


class Pause(Given):
    """Why."""

    note: Note = None


class Cancel(Given):
    """Why; the journal keeps it."""

    reason: Note = None


class Nothing(Given):
    """No fields."""


class Retry(Given):
    """From where: the last failed step, if it is not said."""

    from_step: Annotated[int | None, Field(ge=1, le=2**31)] = None


class Fork(Given):
    """A new run that shares the journal before step `at`."""

    at: Annotated[int, Field(ge=1, le=2**31)]
    input: Annotated[Any, Field(description="Another input; left out: the same.")] = None
    result: Annotated[Any, Field(description="What step `at` is to have brought, instead of running it.")] = None


class Resolve(Given):
    """What became of a step of unknown outcome."""

    step: Annotated[int, Field(ge=1, le=2**31)]
    outcome: Literal["happened", "run-again", "fail"]
    result: Any = None


class Which(Given):
    """Runs that have not ended and match."""

    agent: Text | None = None
    session: Text | None = None
    parent: Text | None = None
    status: tuple[RunStatus, ...] = ()


class BulkRuns(Given):
    """The same for many runs: those named, or those that match (one of `ids` and `filter`)."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["ids"]}, {"required": ["filter"]}]})

    action: Literal["pause", "resume", "cancel", "retry"]
    ids: Annotated[tuple[Text, ...], Field(max_length=1000)] = ()
    filter: Which = Which()
    note: Note = None

    @model_validator(mode="after")
    def _one_of_two(self) -> BulkRuns:
        # Neither would mean all runs there are, which nobody should say by leaving something out.
        if len({"ids", "filter"} & self.model_fields_set) != 1:
            raise ValueError("name runs with `ids`, or choose them with `filter`: one of the two")
        return self


class Outcome(Shown):
    """What became of one of many."""

    id: str
    ok: bool
    problem: dict[str, Any] | None


class Outcomes(Shown):
    """What became of each."""

    items: list[Outcome]


class DiffQuery(Given):
    """Which two runs."""

    left: Text
    right: Text


class Pair(Shown):
    """Steps that stand at the same place; null where only the other run has one."""

    left: Step | None
    right: Step | None
    differs: list[str]


class Diff(Shown):
    """Two runs, step by step."""

    left: RunDetail
    right: RunDetail
    steps: list[Pair]


# --- People -------------------------------------------------------------------------------------------------------


class Ask(Shown):
    """A question or an approval."""

    id: str
    kind: Literal["ask", "approval"]
    run: str
    agent: str
    session: str | None
    step: int
    title: str
    to: str | None
    created: Moment
    deadline: Moment | None
    status: str
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema", description="Of the answer, or of `args`.")]
    action: str | None
    args: dict[str, Any] | None
    answer: Any
    by: str | None
    note: str | None
    closed: Moment | None


class Asks(Shown):
    """A page of asks."""

    items: list[Ask]
    next: str | None


class AskQuery(Given):
    """Which asks."""

    status: Literal["open", "closed", "all"] = "open"
    to: Text | None = None
    run: Text | None = None
    kind: Literal["ask", "approval"] | None = None
    cursor: Text | None = None
    limit: Limit = 100


class AnswerBody(Given):
    """The answer; it must fit the question's schema."""

    value: Any


class Approve(Given):
    """Consent; with `edit` to other arguments (by name, those that change)."""

    edit: dict[str, Any] | None = None
    note: Note = None


class Reject(Given):
    """Refusal; the agent sees the note."""

    note: Note = None


class Decision(Given):
    """What is said to one of many asks."""

    id: Text
    action: Literal["answer", "approve", "reject"]
    value: Any = None
    edit: dict[str, Any] | None = None
    note: Note = None


class Decisions(Given):
    """What is said to many asks."""

    items: Annotated[tuple[Decision, ...], Field(max_length=1000)]


# --- Agents and sessions ------------------------------------------------------------------------------------------


class Agent(Shown):
    """An agent that this server has, or that a worker of its store has."""

    name: str
    version: str | None
    versions: list[str]
    description: str | None
    input_schema: dict[str, Any] | None
    output_schema: dict[str, Any] | None
    working: Annotated[bool, Field(description="Some living worker has it.")]


class Agents(Shown):
    """All agents."""

    items: list[Agent]
    next: None


class Source(Shown):
    """The code of an agent."""

    file: str
    first_line: int
    text: str


class Session(Shown):
    """An agent's durable identity for one key."""

    agent: str
    session: str
    active: str | None


class Sessions(Shown):
    """A page of sessions, by agent and key."""

    items: list[Session]
    next: str | None


class SessionQuery(Given):
    """Which sessions."""

    agent: Text | None = None
    cursor: Text | None = None
    limit: Limit = 100


class SessionDetail(Session):
    """A session with its state and its newest runs."""

    state: dict[str, Any]
    runs: list[Run]


# --- Server -------------------------------------------------------------------------------------------------------


class Me(Shown):
    """Who calls."""

    name: str
    scopes: list[str]
    mode: str
    version: str


class Overview(Shown):
    """What needs somebody, and what moves."""

    needs_you: dict[str, Any]
    active: list[Run]
    counts: dict[str, int]


class System(Shown):
    """Nodes, shards, what waits in them, and what was looked at."""

    version: str
    store: str


class Health(Shown):
    """`ok`."""

    status: str


class KeyBody(Given):
    """A new API key."""

    name: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]*[^\x00-\x20\x7f]$")]
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1, max_length=4)]
    expires_seconds: Annotated[float | None, Field(gt=0, le=10 * 366 * 86_400)] = None


class Key(Shown):
    """An API key, without its secret."""

    id: str
    name: str
    scopes: list[str]
    created: Moment
    expires: Moment | None


class NewKey(Key):
    """An API key with its text, which is shown this once."""

    key: str


class KeyList(Shown):
    """All API keys."""

    items: list[Key]
    next: None


class LoginBody(Given):
    """A login code, or an API key."""

    code: Annotated[str, Field(min_length=1, max_length=5000)]


class LoginCode(Shown):
    """A code that logs a browser in, once."""

    code: str
    url: str
    expires: Moment
