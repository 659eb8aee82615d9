"""What the kernel asks of a store. One Protocol, several implementations, one conformance suite.

A store keeps ten things: runs (one row each), events (the journals), signals (what reaches a run from
outside, until its owner has journaled it), asks (questions and approvals), sessions (their state), shards
(leases with epochs), nodes (who is there), quotas (who may use how much of a limit that all share), documents
(small records that belong to no run) and a version of its own schema.

Two rules make it trustworthy:

- `commit` takes many transactions and makes them durable together, but accepts or refuses each by itself:
  a refused transaction changes nothing and does not disturb its neighbours. When `commit` returns, the
  accepted ones survive power loss. When it raises StoreBusy or StoreFull, the same batch object may be given again:
  however often, nothing of it happens twice, even where the first try did happen and only its answer was lost.
- A transaction with a fence is accepted only while (shard, epoch) is still the shard's current epoch,
  checked in the same database transaction as the write. A lease only says who may try; the epoch in the
  write says who may write. Transactions without a fence may only create runs, put signals and close asks.

Nothing here knows about agents, steps or retries.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeAlias

from perdure.store.exchange import Exchange
from perdure.values.events import Event
from perdure.values.runs import Run, RunStatus


class Fence(NamedTuple):
    """The right to write runs of one shard, as of one claim."""

    shard: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Signal:
    """Something that reaches a run from outside: message, answer, control word, end of a child.

    Addressed to a run, or (run=None) to whatever run of (agent, session) is active or comes next. One that is
    addressed to a run is kept under that run's shard, whatever `shard` says; to a run that does not exist it is
    dropped (its id is then 0), because the sender's own commit must not hang on that.
    """

    agent: str
    session: str | None
    run: str | None
    kind: str
    #: JSON text
    data: str
    #: shard of the addressee: its owner reads it
    shard: str
    created: int
    #: given by the store; increasing
    id: int = 0


@dataclass(frozen=True, slots=True)
class Ask:
    """A question or an approval as an object that can be listed and decided from anywhere."""

    id: str
    run: str
    agent: str
    session: str | None
    shard: str
    step: int
    #: "ask" or "approval"
    kind: str
    #: the question, or the name of the action
    title: str
    #: JSON text: schema of the answer (ask), or {"args":…, "hash":…, "schema":…} (approval)
    detail: str
    to: str | None
    created: int
    deadline: int | None = None
    #: open | answered | approved | rejected | expired | withdrawn
    status: str = "open"
    #: JSON text of the answer or of the approved arguments
    answer: str | None = None
    by: str | None = None
    note: str | None = None
    closed: int | None = None


@dataclass(slots=True)
class RunUpdate:
    """New values for a run's row. Everything is written as given; `seq` and `steps` come from the events."""

    status: RunStatus
    updated: int
    reason: str | None = None
    wait: dict[str, Any] | None = None
    wake_at: int | None = None
    attempt: int | None = None
    strikes: int | None = None


@dataclass(slots=True)
class AskClose:
    """Close an ask that must still be open; otherwise the whole transaction is refused (AlreadySettled).

    With `lenient`, an ask that is closed already stays as it is and nothing is refused.
    """

    id: str
    status: str
    closed: int
    answer: str | None = None
    by: str | None = None
    note: str | None = None
    lenient: bool = False


@dataclass(slots=True)
class NewRun:
    """A run to create, with its first event (`run.queued`, or the events a fork or import starts with)."""

    run: Run
    events: Sequence[Event]
    #: refuse with SessionBusy when another run of the session is not terminal
    session_must_be_free: bool = False


@dataclass(slots=True)
class Statement:
    """One SQL statement of a `transaction` tool, run in the same commit, kept away from our tables."""

    sql: str
    params: tuple[Any, ...] | dict[str, Any] = ()


@dataclass(slots=True)
class Transaction:
    """All or nothing. Every field is optional; the fence is needed for events, updates and state."""

    fence: Fence | None = None
    #: appended in order; (run, seq) must be new, and dense after what the run has
    events: Sequence[Event] = ()
    #: run id -> new row values
    updates: dict[str, RunUpdate] = field(default_factory=dict)
    create: Sequence[NewRun] = ()
    signals: Sequence[Signal] = ()
    #: ids of signals that are now journaled
    consume: Sequence[int] = ()
    open_asks: Sequence[Ask] = ()
    close_asks: Sequence[AskClose] = ()
    #: (agent, session, {key: JSON text, or None to delete})
    state: tuple[str, str, dict[str, str | None]] | None = None
    statements: Sequence[Statement] = ()
    #: what passes between databases, where one store is made of several
    exchange: Exchange | None = None


class Queue(NamedTuple):
    """What one tenant (a concurrency key, or '' for runs without one) has queued at an agent in one priority, by age."""

    agent: str
    priority: int
    tenant: str


class Lease(NamedTuple):
    """One claimed shard."""

    shard: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Node:
    """A Perdure process that works, as it says of itself, and as the store knows it."""

    id: str
    #: machine and process, for people
    place: str
    #: microseconds since the epoch, its own clock
    started: int
    #: what it can run, as (agent, version)
    programs: tuple[tuple[str, str], ...]
    #: it gives its shards up and takes none
    draining: bool = False
    #: JSON text: how it is doing (`moving`, `queued`, `steps`, ...)
    figures: str = "{}"
    #: given by the store: until when it is taken for alive, store's clock; and whether it is
    expires: int = 0
    alive: bool = False
    #: given by the store: somebody asked it to drain
    drain_asked: bool = False
    #: given by the store, to itself: shards that are about to move to another database, and wait for their owner to give
    #: them up
    leaving: tuple[str, ...] = ()


class SessionRow(NamedTuple):
    """A session that has had a run."""

    agent: str
    session: str
    #: when its newest run was last updated, as `runs` says of that run; microseconds
    updated: int
    #: id of its run that has begun and not ended
    active: str | None


@dataclass(frozen=True, slots=True)
class Document:
    """A small record that belongs to no run, such as an API key or a schedule.

    `kind` and `id` are text of 1 to 200 characters without NUL; `data` may be longer, but holds no NUL either.
    """

    kind: str
    id: str
    #: JSON text; not shown, since it may hold a secret
    data: str = field(repr=False)
    #: given by the store: 1, and one more with each write. One that was gone and is made anew begins at 1 again: what must
    #: not be taken for its namesake needs an id of its own.
    version: int = 0
    #: it is gone from then on; microseconds since the epoch, store's clock
    expires: int | None = None


class QuotaWish(NamedTuple):
    """How much of a shared limit a node would like to have."""

    #: what is limited, e.g. `buyer` or `buyer/acme`
    name: str
    #: how much all nodes together may hold
    limit: int
    #: how much this node holds and cannot give back now
    using: int
    #: how much it could use, `using` included
    wanted: int


class RateWish(NamedTuple):
    """How many things a node would like to begin now, of which all nodes together may begin `limit` in `seconds`.

    One name may have several rates, each with `seconds` of its own: they are limits of their own.
    """

    name: str
    limit: int
    seconds: float
    wanted: int


class Tokens(NamedTuple):
    """What came of a RateWish: how many may begin, and after how many seconds another one may.

    The wait is 0 when there is one left; it is exact, as long as nobody else takes that one.
    """

    granted: int
    wait_seconds: float


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard as `doctor` and `runs` show it. `expires` is microseconds since the epoch, store's clock."""

    name: str
    owner: str | None
    epoch: int
    expires: int | None
    alive: bool


class Backlog(NamedTuple):
    """What the owner of a shard has yet to do. Moments are those of the oldest, in microseconds since the epoch."""

    shard: str
    #: runs that could begin: their session is free, and nobody paused them
    queued: int
    queued_since: int | None
    #: runs whose timer is due
    due: int
    due_since: int | None
    #: signals to runs that could take them: running or waiting
    unread: int
    unread_since: int | None


#: How long a node that died is still listed.
DEAD_KEPT_SECONDS = 3600.0

#: What is left over when a limit cannot be divided evenly goes round among those who want more, each for so long.
TURN_SECONDS = 5.0

#: How far a reader of signals, or of a queue, is. Only the store that gave it can read it; None is the beginning.
Cursor: TypeAlias = object

#: What a node can run, as (agent, version); None means anything.
Programs: TypeAlias = Collection[tuple[str, str]] | None


class QueuePage(NamedTuple):
    """Some runs of a queue, oldest first, and where to read on; a cursor of None is the end."""

    queue: Queue
    runs: list[Run]
    after: Cursor


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs to list; None means any. Newest first."""

    agent: str | None = None
    session: str | None = None
    statuses: tuple[RunStatus, ...] = ()
    parent: str | None = None
    #: created at or after, microseconds
    since: int | None = None
    #: created before, microseconds
    until: int | None = None
    #: page: only runs created before this run id
    before: str | None = None
    #: run ids that end in this text (people type the end of an id)
    suffix: str | None = None
    #: these and no others
    ids: tuple[str, ...] = ()
    limit: int = 100


class Store(Protocol):
    """A place where runs live. All methods raise StoreError (or a subclass) when the store fails."""

    async def open(self) -> None:
        """Create or migrate the schema and become usable.

        Raises StoreNewer, StoreCorrupt, StoreReadOnly, StoreFull.
        """

    async def close(self) -> None:
        """Release everything; idempotent."""

    async def commit(self, batch: Sequence[Transaction]) -> list[Exception | list[int] | None]:
        """Make `batch` durable in order; for each transaction, None (or the ids of its signals) or its refusal.

        Refusals: Fenced, SessionBusy, AlreadySettled (the ask was closed, the signal consumed or the run ended
        before), AlreadyExists (run id, ask id or idempotency key is taken; said before SessionBusy, so that whoever
        starts a run again finds it), NotFound (no such run, or no such event to fork at), StatementFailed (a user's
        SQL); ValueError for a caller's mistake: an event that is not the next of its run, a run of another shard, no
        fence where one is needed. Raises StoreError when nothing was written.
        """

    async def run(self, id: str) -> Run | None:
        """One run, or None."""

    async def runs(self, filter: RunFilter) -> list[Run]:
        """Runs that match, newest first."""

    async def run_by_key(self, agent: str, idempotency_key: str) -> Run | None:
        """The run that was started with this key, or None."""

    async def events(self, run: str, after: int = 0, limit: int | None = None) -> list[Event]:
        """A run's own journal after `after`, in order; a fork's shared prefix is included, in its own name."""

    async def state(self, agent: str, session: str) -> dict[str, str]:
        """The session's state: key -> JSON text."""

    async def session_active(self, agent: str, session: str) -> Run | None:
        """The session's run that has begun and not ended, or None."""

    async def session_next(self, agent: str, session: str) -> Run | None:
        """The session's queued run that goes next (priority, then age), or None."""

    async def sessions(
        self, *, agent: str | None = None, after: tuple[str, str] | None = None, limit: int = 100
    ) -> list[SessionRow]:
        """Sessions that ever had a run, by (agent, session); those that come after `after`."""

    async def signals(
        self, shards: Iterable[str], after: Cursor = None, limit: int = 1000
    ) -> tuple[list[Signal], Cursor]:
        """Signals for these shards that came after `after`, in order, and how far that was.

        Fewer than `limit` are all there were. No signal is missed, however the commits of several nodes overtake each
        other; one may come twice.
        """

    async def run_signals(self, run: str) -> list[Signal]:
        """Signals addressed to this run, or to its (agent, session) at large, in order."""

    async def asks(
        self, *, run: str | None = None, to: str | None = None, status: str | None = "open", limit: int = 1000
    ) -> list[Ask]:
        """Questions and approvals, oldest first."""

    async def ask(self, id: str) -> Ask | None:
        """One ask, or None."""

    async def queues(self, agent: str, limit: int, *, after: Queue | None = None) -> list[Queue]:
        """Queues of the agent, in whatever shards, by priority (high first), then tenant; those that come after `after`.

        Quick, however many runs there are in them; perhaps there is none that could begin.
        """

    async def ready(
        self, shards: Iterable[str], queues: Mapping[Queue, Cursor], each: int, *, programs: Programs = None
    ) -> list[QueuePage]:
        """Of each of these queues, read on from its cursor, the first `each` runs of these shards that can begin.

        That is one of each free session, and none that is paused; runs of other programs than `programs` are left out
        once their row says that they wait. Pages come as the queues were given, those without runs too.
        """

    async def active(self, shards: Iterable[str]) -> list[Run]:
        """Runs of these shards with status running: what a dead owner left behind."""

    async def due(self, shards: Iterable[str], until: int, limit: int, *, programs: Programs = None) -> list[Run]:
        """Waiting runs of these shards and programs with wake_at <= until, earliest first."""

    async def next_due(self, shards: Iterable[str], *, programs: Programs = None) -> int | None:
        """The earliest wake_at of a waiting run of these shards and programs, or None."""

    async def backlog(self, now: int) -> list[Backlog]:
        """What every shard's owner has yet to do at `now`, by shard; those without anything are left out.

        For people and autoscalers, not for owners: it looks through all that is queued.
        """

    async def claim(self, node: str, shards: Iterable[str], lease_seconds: float) -> list[Lease]:
        """Take those of `shards` that are free, expired or whose owner is known dead; epochs grow by one."""

    async def renew(self, node: str, leases: Iterable[Lease], lease_seconds: float) -> list[Lease]:
        """Extend leases; returns those still held. A missing one was lost: stop its work."""

    async def release(self, node: str, leases: Iterable[Lease]) -> None:
        """Give leases up; ones that were lost are ignored."""

    async def shards(self) -> list[Shard]:
        """All shards ever claimed."""

    async def beat(self, node: Node, lease_seconds: float) -> list[Node]:
        """Say that `node` is there and how it is doing; who else is alive (its own entry included), as in `nodes`.

        Its entry and its shares of quotas last for `lease_seconds` from now; one that comes back later has lost its
        shares. That it was asked to drain is kept. Its shards have leases of their own.
        """

    async def leave(self, node: str) -> None:
        """`node` ends in good order: its entry and its shares are gone. Says nothing of its shards."""

    async def nodes(self) -> list[Node]:
        """All nodes that are known, the longest there first; the dead too, until a beat an hour later forgets them."""

    async def ask_drain(self, node: str) -> None:
        """Ask a node to give its shards up and end; it hears of it with its next beat. Raises NotFound."""

    async def share(self, node: str, wishes: Sequence[QuotaWish]) -> list[int]:
        """How much of each limit `node` may hold from now on; it counts until the node asks again, leaves or dies.

        The shares of all living nodes never add up to more than the limit. Each one's part is the even one: as much as
        it wants, up to a level at which all of the limit is given out; what that leaves over goes round, TURN_SECONDS
        each. A node that holds more than its part is told its part, but never less than it uses of what it holds; one
        that holds less gets what the others do not hold, at most its part. So a part is there as soon as the others
        have asked again, and a limit that was lowered as soon as they use no more than that.

        A node is alive while it beats: one that has not beaten, or not for its lease, gets 0, has lost its shares, and
        may no longer use them. Raises ValueError for a number below 0, and then changes nothing.
        """

    async def take(self, wishes: Sequence[RateWish]) -> list[Tokens]:
        """Take from limits by time (token buckets, full at first, by the store's clock): gone whether used or not.

        So in any stretch of time at most `limit` begin, and as many more as `limit` in `seconds` makes in that time.
        Raises ValueError for a rate that lets nothing begin, and then takes nothing.
        """

    async def document(self, kind: str, id: str) -> Document | None:
        """One document, or None. One that has expired is not there, for any of these.

        Raises ValueError for what cannot be a kind or an id, as all of these do.
        """

    async def documents(self, kind: str, *, after: str = "", limit: int = 1000) -> list[Document]:
        """Documents of a kind, by id; those that come after `after`."""

    async def put_document(self, document: Document) -> Document | None:
        """Write a document if what is stored has its version (0: there must be none); it comes back with the new one.

        None when there is another version, or none any more: somebody else was first, or an earlier try of this very call
        was, whose answer was lost. So whoever gets None reads again before he judges, and one that must know its own
        writes signs them, in `data`. Expired ones of the kind are forgotten on this occasion.

        Durable when this returns. After StoreBusy it may have happened. Raises ValueError for what cannot be kept.
        """

    async def drop_document(self, kind: str, id: str, version: int | None = None) -> bool:
        """Forget a document, with a `version` only that one. False when it was not there: perhaps since an earlier try."""

    async def slots(self) -> int:
        """Into how many shards an agent's sessions are spread; fixed when the store was made."""

    async def wait_change(self) -> None:
        """Return when another process may have committed. Early is fine; later than the store's own bound is not.

        The bound is 75 ms for stores on one machine, and what docs/cluster.md promises for others.
        """

    async def check(self) -> list[str]:
        """Problems found by a full integrity check; empty when sound."""

    async def backup(self, path: str) -> None:
        """Write a consistent copy while work goes on."""

    def together(self, shard: str, other: str) -> bool:
        """Whether what concerns both shards commits at once: always, unless the store is made of several databases.

        What does not is delivered afterwards. So what could live in either place had better live where this is true.
        """
