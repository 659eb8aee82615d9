"""Did a store's runs keep the kernel's promises? Reads only the store, after the fact, and knows nothing of the kernel.

problems = await check_store(store)
assert not problems, problems
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise

from perdure.store.contract import RunFilter, Store
from perdure.values.events import Event, known_type
from perdure.values.runs import Run, RunStatus

_RESULTS = frozenset(
    {"step.completed", "timer.fired", "ask.answered", "ask.expired", "approval.granted", "approval.rejected",
     "approval.expired", "child.ended"}
)  # fmt: skip

_ENDS = {
    "run.succeeded": RunStatus.SUCCEEDED,
    "run.failed": RunStatus.FAILED,
    "run.cancelled": RunStatus.CANCELLED,
    "run.continued": RunStatus.SUCCEEDED,
}


async def check_store(store: Store) -> list[str]:
    """What is wrong, in words; empty when every run is sound. Reads every journal: for tests and for `doctor`."""
    runs = await store.runs(RunFilter(limit=10_000_000))
    problems: list[str] = []
    for run in runs:
        events = await store.events(run.id)
        problems += [f"{run.id}: {problem}" for problem in check_run(run, events)]
        problems += [
            f"{run.id}: {ask.id} is open although the run has ended"
            for ask in await store.asks(run=run.id)
            if run.status.terminal
        ]
    problems += _check_sessions(runs)
    problems += _check_children(runs)
    return problems


def check_run(run: Run, events: Sequence[Event]) -> Iterator[str]:
    """What is wrong with one run and its journal."""
    yield from _check_order(events)
    yield from _check_end(run, events)
    yield from _check_steps(events)
    yield from _check_messages(events)


def _check_order(events: Sequence[Event]) -> Iterator[str]:
    if not events:
        yield "has no events"
    for expected, event in enumerate(events, 1):
        if event.seq != expected:
            yield f"event {event.seq} ({event.type}) stands where {expected} should"
            return
        if not known_type(event.type):
            yield f"event {event.seq} has the unknown type {event.type}"
    for before, after in pairwise(events):
        if after.time_us < before.time_us:
            yield f"event {after.seq} ({after.type}) is older than the one before it"


def _check_end(run: Run, events: Sequence[Event]) -> Iterator[str]:
    for event in events[:-1]:
        if event.terminal:
            yield f"event {event.seq} ({event.type}) ends the run, but more follows"
    ended = _ENDS.get(events[-1].type) if events else None
    if ended is not None and run.status is not ended:
        yield f"ended with {events[-1].type}, but its row says {run.status}"
    if ended is None and run.status.terminal:
        yield f"its row says {run.status}, but its journal has no end"
    if events and run.seq != events[-1].seq:
        yield f"its row says {run.seq} events, its journal has {events[-1].seq}"


def _check_steps(events: Sequence[Event]) -> Iterator[str]:
    results: Counter[int] = Counter()
    unsettled: dict[int, str] = {}
    for event in events:
        if event.step is None:
            continue
        final_failure = event.type == "step.failed" and "retry_at" not in event.data
        settled = event.type == "step.resolved" and event.data["outcome"] != "run-again"
        if event.type in _RESULTS or final_failure or settled:
            results[event.step] += 1
        if event.type == "step.started":
            before = unsettled.get(event.step)
            if before == "step.started" and event.data.get("effect") == "once":
                yield f"step {event.step} is of effect once and began again without anybody's word"
        if event.type in {"step.started", "step.failed", "step.unknown", "step.resolved"}:
            unsettled[event.step] = event.type
    for step, count in results.items():
        if count > 1:
            yield f"step {step} has {count} results"


def _check_messages(events: Sequence[Event]) -> Iterator[str]:
    """A message that carries an id was received at most once."""
    seen = Counter(event.data["id"] for event in events if event.type == "message.received" and event.data.get("id"))
    for id, count in seen.items():
        if count > 1:
            yield f"message {id} was received {count} times"


def _check_sessions(runs: Sequence[Run]) -> Iterator[str]:
    begun: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for run in runs:
        if run.session is not None and not run.status.terminal and run.status is not RunStatus.QUEUED:
            begun[run.agent, run.session].append(run.id)
    for (agent, session), ids in begun.items():
        if len(ids) > 1:
            yield f"session {agent}/{session} has {len(ids)} runs at once: {', '.join(ids)}"


def _check_children(runs: Sequence[Run]) -> Iterator[str]:
    by_id = {run.id: run for run in runs}
    for run in runs:
        if run.parent is not None and run.parent not in by_id:
            yield f"{run.id}: its parent {run.parent} does not exist"
