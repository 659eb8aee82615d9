"""Does what the store holds agree with what was promised? Checks of finished tests, one function per promise.

The checks know the events and their meaning, and nothing of the kernel that wrote them. `gather_evidence` reads a store,
`find_violations` judges it together with the world's own record; both say in words what is wrong, and where.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from perdure.agents.approval import action_hash
from perdure.agents.context import RunInfo, run_agent
from perdure.journal.brain import Brain
from perdure.kernel.contract import Agents
from perdure.store.contract import Ask, RunFilter, Signal, Store
from perdure.testing.world import World
from perdure.values.clock import from_iso
from perdure.values.events import Event
from perdure.values.json import decode, encode
from perdure.values.runs import Run, RunStatus

#: Events that are the result of a step: it has at most one.
RESULTS = frozenset(
    {"step.completed", "timer.fired", "ask.answered", "ask.expired", "approval.granted", "approval.rejected",
     "approval.expired", "child.ended"}
)  # fmt: skip

_END = {
    "run.succeeded": RunStatus.SUCCEEDED, "run.failed": RunStatus.FAILED, "run.cancelled": RunStatus.CANCELLED,
    "run.continued": RunStatus.SUCCEEDED,
}  # fmt: skip


@dataclass(slots=True)
class Evidence:
    """Everything there is to know when a test is over."""

    runs: dict[str, Run]
    #: each run's own journal; a fork's shared prefix included
    journals: dict[str, list[Event]]
    asks: list[Ask]
    #: not yet taken by their runs
    signals: list[Signal]
    #: (agent, session) -> key -> JSON text
    state: dict[tuple[str, str], dict[str, str]]
    world: World
    agents: Agents
    #: every event that was ever accepted, in order of commit, where the test saw them
    accepted: list[Event] = field(default_factory=list)
    #: the runs in the order in which they began, where the test saw that
    begun: Sequence[str] = ()

    def own_events(self, run: str) -> list[Event]:
        """What a run wrote itself: its journal without the part that a fork shares with its original."""
        forked = self.runs[run].forked_from
        return self.journals[run] if forked is None else self.journals[run][forked[1] :]


async def gather_evidence(
    store: Store, world: World, agents: Agents, accepted: Iterable[Event] = (), begun: Sequence[str] = ()
) -> Evidence:
    """Read a whole store. `accepted`, `begun`: what the test itself saw."""
    accepted = list(accepted)
    runs = {run.id: run for run in reversed(await store.runs(RunFilter(limit=1_000_000)))}
    sessions = {(run.agent, run.session) for run in runs.values() if run.session is not None}
    shards = [shard.name for shard in await store.shards()]
    signals, _ = await store.signals(["", *shards], limit=1_000_000)
    return Evidence(
        runs=runs,
        journals={id: [_fresh(event) for event in await store.events(id)] for id in runs},
        asks=await store.asks(status=None, limit=1_000_000),
        signals=signals,
        state={(agent, session): await store.state(agent, session or "") for agent, session in sorted(sessions)},
        world=world,
        agents=agents,
        accepted=accepted,
        begun=begun or [event.run for event in accepted if event.type == "run.started"],
    )


def find_violations(evidence: Evidence) -> list[str]:
    """Every broken promise, in words; empty when all were kept."""
    return [violation for check in CHECKS for violation in check(evidence)]


def journals_are_whole(evidence: Evidence) -> Iterator[str]:
    """Numbers are dense from 1, times never go back, the end is the end, and the row says the same (I1, I5)."""
    for id, events in evidence.journals.items():
        run = evidence.runs[id]
        if [event.seq for event in events] != list(range(1, len(events) + 1)):
            yield f"{id}: its numbers are {[event.seq for event in events]}"
        if any(later.time_us < earlier.time_us for earlier, later in pairwise(events)):
            yield f"{id}: its time goes back"
        if any(event.terminal for event in events[:-1]):
            yield f"{id}: something follows its end"
        end = _END.get(events[-1].type) if events else None
        if (end or None) != (run.status if run.status.terminal else None):
            yield f"{id}: its row says {run.status}, its journal ends with {events[-1].type}"


def nothing_accepted_was_lost(evidence: Evidence) -> Iterator[str]:
    """Every event that a commit accepted is still there, unchanged (I1)."""
    for event in evidence.accepted:
        journal = evidence.journals.get(event.run, [])
        if event.seq > len(journal) or journal[event.seq - 1] != event:
            yield f"{event.run}: event {event.seq} ({event.type}) was accepted and is gone or changed"


def steps_have_one_result(evidence: Evidence) -> Iterator[str]:
    """No step has two results, none without having begun, none after the agent gave it up (I2)."""
    for id, events in evidence.journals.items():
        results: Counter[int | None] = Counter(event.step for event in events if _is_result(event))
        begun = {event.step for event in events if _opens(event)}
        for step, count in results.items():
            if count > 1:
                yield f"{id}: step {step} has {count} results"
            if step not in begun:
                yield f"{id}: step {step} has a result and never began"


def attempts_count_up(evidence: Evidence) -> Iterator[str]:
    """Attempts of a step are numbered from 1; one that must not be repeated needs a reason for the next (I2, I3)."""
    for id, events in evidence.journals.items():
        last: dict[int | None, Event] = {}
        count: Counter[int | None] = Counter()
        for event in events:
            if not event.type.startswith("step.") or event.type == "step.heartbeat":
                continue
            if event.type == "step.started":
                earlier = last.get(event.step)
                count[event.step] += 1
                if event.attempt != count[event.step]:
                    yield f"{id}: attempt {event.attempt} of step {event.step} is its {count[event.step]}th"
                if earlier is not None and event.data["effect"] == "once" and not _allows_another(earlier):
                    yield f"{id}: step {event.step} must not be repeated, and was begun again after {earlier.type}"
            last[event.step] = event


def effects_match_the_journal(evidence: Evidence) -> Iterator[str]:
    """`once` happened once per attempt that was allowed, `keyed` once per step; results are what the world gave (I3)."""
    deeds: defaultdict[tuple[str, int], list[Any]] = defaultdict(list)
    for deed in evidence.world.deeds:
        deeds[deed.run, deed.step].append(deed)
    for (run, step), done in deeds.items():
        starts = [e for e in evidence.journals.get(run, []) if e.type == "step.started" and e.step == step]
        if not starts:
            yield f"{run}: step {step} acted on the world and never began"
            continue
        effect = starts[0].data["effect"]
        first = [deed for deed in done if not deed.repeated]
        if effect == "keyed" and len(first) > 1:
            yield f"{run}: keyed step {step} took effect {len(first)} times, under {[deed.key for deed in first]}"
        if effect == "once" and len(done) > 1:
            yield f"{run}: step {step} must not be repeated, and happened {len(done)} times"
    for id, events in evidence.journals.items():
        for event in events:
            if event.type == "step.completed" and event.data.get("by") != "fork":
                origin = _origin(evidence, id, event.seq)
                if (origin, event.step or 0) not in deeds and _acts(evidence, origin, event):
                    yield f"{id}: step {event.step} has a result, and nothing was done"


def approvals_are_used_once(evidence: Evidence) -> Iterator[str]:
    """A step that needs consent began with its own, to exactly its arguments; no two steps share one (I8)."""
    for name, events in evidence.journals.items():
        granted: dict[str, str] = {}
        used_by: dict[str, int | None] = {}
        denied = {event.step for event in events if event.type == "step.failed" and '"Denied"' in event.raw}
        for event in events:
            if event.type == "approval.granted":
                granted[event.data["id"]] = event.data["hash"]
            elif event.type == "step.started":
                data = event.data
                consent = data.get("approval")
                if consent is None:
                    if data["name"].startswith("guarded") and event.step not in denied:
                        yield f"{name}: step {event.step} ({data['name']}) began without consent"
                elif granted.get(consent) != action_hash(data["name"], data["args"]):
                    yield f"{name}: step {event.step} began with consent {consent}, which was given to something else"
                elif used_by.setdefault(consent, event.step) != event.step:
                    yield f"{name}: step {event.step} began with consent {consent} of step {used_by[consent]}"


def timers_are_never_early(evidence: Evidence) -> Iterator[str]:
    """A timer fires, and a question expires, when it is due and not before (I10)."""
    for id, events in evidence.journals.items():
        due: dict[int | None, int] = {}
        for event in events:
            if event.type == "timer.started":
                due[event.step] = from_iso(event.data["due"])
            elif event.type in {"ask.opened", "approval.requested"} and "deadline" in event.data:
                due[event.step] = from_iso(event.data["deadline"])
            elif event.type in {"timer.fired", "ask.expired", "approval.expired"} and event.time_us < due[event.step]:
                yield f"{id}: {event.type} of step {event.step} came {due[event.step] - event.time_us} µs early"


def messages_arrive_once(evidence: Evidence) -> Iterator[str]:
    """What an agent sent is received once, waits for its run, or its run is over (I10)."""
    received: defaultdict[str, list[str]] = defaultdict(list)
    for run in evidence.journals:
        for event in evidence.own_events(run):
            if event.type == "message.received":
                received[_letter(event.data)].append(run)
    for signal in evidence.signals:
        if signal.kind == "message":
            received[_letter(decode(signal.data))].append("")
    for name in evidence.journals:
        sent = [event for event in evidence.own_events(name) if event.type == "message.sent"]
        letters = [_letter({**event.data, "topic": event.data["name"], "sender": name}) for event in sent]
        for event, letter in zip(sent, letters, strict=True):
            if repeated := received_twice(evidence, received[letter], letters.count(letter)):
                yield f"{name}: {repeated} {letters.count(letter)} letter(s) {letter}"
            if len(received[letter]) < letters.count(letter) and not _is_over(evidence, event.data["to"]):
                yield f"{name}: a message was lost: {letter} to {event.data['to']}"


def received_twice(evidence: Evidence, receivers: list[str], sent: int = 1) -> str:
    """Who received a letter too often, in words, or nothing. "" among the receivers means that it waits for one.

    A run that ends hands what it did not read to the next of its session, or to the run that continues it: so a letter
    may be received by several, but by each of them once, and they are all of one line.
    """
    counts = Counter(receivers)
    lines = {_line(evidence, run) for run in counts if run}
    if len(lines) > sent:
        return f"{sorted(counts)} have nothing to do with each other, and all received"
    return next((f"{run} received {count} times" for run, count in counts.items() if run and count > sent), "")


def children_belong_to_a_step(evidence: Evidence) -> Iterator[str]:
    """A child exists exactly when its parent's journal says so, and does not outlive the parent unless detached."""
    spawned: dict[str, tuple[str, bool]] = {}
    for id in evidence.journals:
        for event in evidence.own_events(id):
            if event.type == "child.spawned":
                spawned[event.data["run"]] = (id, event.data["detach"])
                if event.data["run"] not in evidence.runs:
                    yield f"{id}: its child {event.data['run']} does not exist"
    for id, run in evidence.runs.items():
        if run.parent is None or "~" in id:
            continue
        if id not in spawned:
            yield f"{id}: its parent {run.parent} knows nothing of it"
        elif not spawned[id][1] and not run.status.terminal and evidence.runs[run.parent].status.terminal:
            yield f"{id}: is {run.status}, although its parent {run.parent} has ended"


def sessions_keep_their_state(evidence: Evidence) -> Iterator[str]:
    """A session's state is what its runs journaled, one run at a time."""
    for (agent, session), state in evidence.state.items():
        runs = [run for run in evidence.runs.values() if (run.agent, run.session) == (agent, session)]
        changes: dict[str, str] = {}
        for events in sorted((evidence.journals[run.id] for run in runs), key=_begun_in(evidence)):
            for event in events:
                if event.type == "run.started":
                    seen = {key: encode(value) for key, value in event.data.get("state", {}).items()}
                    if seen != changes:
                        yield f"{event.run}: began with the state {seen}, but its session's was {changes}"
                elif event.type == "state.changed":
                    changes.update({key: encode(value) for key, value in event.data["set"].items()})
                    for key in event.data.get("unset", ()):
                        changes.pop(key, None)
        if state != changes:
            yield f"session {agent}/{session}: its state is {state}, but its journals say {changes}"


def asks_agree_with_journals(evidence: Evidence) -> Iterator[str]:
    """An answered question reached its run with that answer; a closed one is closed in the journal too."""
    for ask in evidence.asks:
        events = [event for event in evidence.journals.get(ask.run, []) if event.step == ask.step]
        types = {event.type for event in events}
        if not types & {"ask.opened", "approval.requested"}:
            yield f"{ask.id}: exists, but its run never asked"
        wanted = {"answered": "ask.answered", "approved": "approval.granted", "rejected": "approval.rejected"}
        if ask.status in wanted and wanted[ask.status] not in types:
            waits = any(signal.run == ask.run for signal in evidence.signals)
            if not waits and not evidence.runs[ask.run].status.terminal:
                yield f"{ask.id}: was {ask.status}, and its run never learned of it"
        if ask.status == "open" and evidence.runs[ask.run].status.terminal:
            yield f"{ask.id}: is open, although its run has ended"
        if ask.status == "answered" and any(e.type == "ask.expired" for e in events):
            yield f"{ask.id}: was answered, and its run was told that nobody did"


def nothing_is_parked_without_cause(evidence: Evidence) -> Iterator[str]:
    """No test changes the code of its agents, so only a crash loop may park a run."""
    for name, events in evidence.journals.items():
        for event in events:
            if event.type == "run.quarantined" and event.data["reason"] != "CrashLoop":
                yield f"{name}: was parked: {event.raw}"


def replays_agree(evidence: Evidence) -> Iterator[str]:
    """A journal, replayed from the start, asks for the same steps and comes to the same end (I6)."""
    for id, events in evidence.journals.items():
        run = evidence.runs[id]
        agent = evidence.agents.get(run.agent, run.version)
        if agent is None or not any(event.type == "run.started" for event in events):
            continue
        info = RunInfo(run.id, run.agent, run.version, run.session, run.parent, run.attempt)
        brain = Brain(id, lambda brain, agent=agent, info=info: run_agent(agent, brain, info))  # type: ignore[misc]
        brain.replay([_fresh(event) for event in events])
        if brain.divergence is not None:
            yield f"{id}: {brain.divergence}"
        elif events[-1].type == "run.succeeded":
            value = brain.outcome.value if brain.outcome is not None else None
            if value != encode(events[-1].data["result"]):
                yield f"{id}: its journal says {events[-1].raw}, its replay {brain.outcome}"
        brain.evict()


CHECKS: tuple[Callable[[Evidence], Iterator[str]], ...] = (
    journals_are_whole, nothing_accepted_was_lost, steps_have_one_result, attempts_count_up, effects_match_the_journal,
    approvals_are_used_once, timers_are_never_early, messages_arrive_once, children_belong_to_a_step,
    sessions_keep_their_state, asks_agree_with_journals, nothing_is_parked_without_cause, replays_agree,
)  # fmt: skip


def _fresh(event: Event) -> Event:
    """The event as it was written: what its decoded data has been through since is not evidence."""
    return Event(event.run, event.seq, event.type, event.time_us, event.step, event.attempt, event.raw)


def _is_result(event: Event) -> bool:
    match event.type:
        case "step.failed":
            return '"retry_at"' not in event.raw
        case "step.resolved":
            return event.data["outcome"] != "run-again"
        case type:
            return type in RESULTS


def _opens(event: Event) -> bool:
    return event.type in {
        "step.started", "timer.started", "ask.opened", "approval.requested", "child.spawned", "message.awaited",
    }  # fmt: skip


def _allows_another(event: Event) -> bool:
    """A failure of the tool's own, which is to be tried again, or somebody's word that nothing happened."""
    return (event.type == "step.failed" and '"retry_at"' in event.raw) or (
        event.type == "step.resolved" and event.data["outcome"] == "run-again"
    )


def _acts(evidence: Evidence, run: str, completed: Event) -> bool:
    """True when the step acts on the world, and began in `run` itself (a fork may inherit one that is under way)."""
    starts = [e for e in evidence.own_events(run) if e.type == "step.started" and e.step == completed.step]
    return bool(starts) and starts[0].data["effect"] in {"keyed", "once"}


def _origin(evidence: Evidence, run: str, seq: int) -> str:
    """The run that an event of a shared journal was written by, following copied settlements as well."""
    forked = evidence.runs[run].forked_from
    return run if forked is None or seq > forked[1] else _origin(evidence, forked[0], seq)


def _letter(data: dict[str, Any]) -> str:
    return encode([data.get("sender"), data["topic"], data["value"]])


def _line(evidence: Evidence, run: str) -> str:
    row = evidence.runs[run]
    return f"{row.agent}/{row.session}" if row.session is not None else run.partition("~")[0]


def _is_over(evidence: Evidence, to: dict[str, str]) -> bool:
    run = evidence.runs.get(to.get("run", ""))
    return "run" in to and (run is None or run.status.terminal)


def _begun_in(evidence: Evidence) -> Callable[[list[Event]], tuple[int, int]]:
    """Sorts journals by when their runs began: by commit where the test saw it, else by the clock."""
    order = {run: place for place, run in enumerate(evidence.begun)}

    def begun(events: list[Event]) -> tuple[int, int]:
        started = next((event for event in events if event.type == "run.started"), None)
        return (1 << 62, 0) if started is None else (order.get(started.run, 0), started.time_us)

    return begun
