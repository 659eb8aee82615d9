"""Other lives of a run: forks that share its past and go on from there.

A fork shares the parent's journal before some step by reference, not by copy. Steps that were in flight at that
point and were settled later keep what they brought (their settlements are copied): forking must not repeat
an effect that is known to have happened.

Nor one that may have happened. A step of which nobody knows goes along as begun, and is settled first: a `once` step by
its probe or a person, a `keyed` one by a person, since it would run under another idempotency key here. What the
original may still do itself cannot be shared. Consent stays with the original.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure.agents.approval import action_hash
from perdure.errors import InvalidInput
from perdure.kernel.cuts import OPENS, Cut, cut_before, cut_to_retry
from perdure.kernel.history import Deed, read_deeds
from perdure.store.contract import Ask, NewRun, Transaction
from perdure.values.clock import iso
from perdure.values.effects import Effect
from perdure.values.events import Event, event_data
from perdure.values.ids import new_run_id
from perdure.values.json import decode, encode
from perdure.values.runs import Run, RunStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from perdure.kernel.kernel import Kernel

#: Stands for "no result was given".
UNCHANGED: Any = object()

#: What a fork takes along of a step that was open at the cut. Not a consent, which it must ask for itself; and where
#: the original gave up waiting, it waits on.
_CARRIED = frozenset(
    {"step.started", "step.completed", "step.failed", "step.unknown", "step.resolved", "child.ended", "timer.fired",
     "ask.answered", "ask.expired", "approval.rejected", "approval.expired"}
)  # fmt: skip
_SETTLES = (_CARRIED - {"step.started", "step.unknown"}) | {"step.cancelled", "approval.granted"}


async def fork(
    kernel: Kernel, run: Run, *, at: int | None, input_json: str | None = None, result: Any = UNCHANGED
) -> Run:
    """Create a run that shares `run`'s journal before step `at` (None: what went wrong last) and goes on from there.

    Raises NotFound, and InvalidInput where the fork would do what its original may do as well, or use its consent.
    """
    events = await kernel.store.events(run.id)
    deeds, forced = read_deeds(events), result is not UNCHANGED
    cut = cut_to_retry(run, events, deeds) if at is None else cut_before(run, events, at)
    if not run.status.terminal:
        _check_settled(run, deeds, cut, forced=forced)
    carried = _carried(run, events, deeds, cut, forced=forced)
    not_before = max(event.time_us for event in (events[cut.seq - 1], *carried))
    new = _forked_run(kernel, run, new_run_id(kernel.clock.now_us()), cut.seq, not_before=not_before)
    own = [_event(new, cut.seq + 1, "run.forked", None, None, _forked_data(run, events, cut.step, input_json))]
    for event in carried:
        own.append(_event(new, cut.seq + 1 + len(own), event.type, event.step, event.attempt, event.raw))
    if forced:
        own += _forced_result(new, events, cut.step, result, cut.seq + 1 + len(own))
    _check_consent(run, [*events[: cut.seq], *own])
    await kernel.commits.commit(Transaction(create=[NewRun(new, own)]), then=lambda _: kernel.run_written(new, own))
    return new


def hash_of(ask: Ask, args: dict[str, Any]) -> str:
    """The hash that an approval of `ask` with other arguments binds to."""
    return action_hash(decode(ask.detail)["action"], args)


def _forked_run(kernel: Kernel, run: Run, id: str, cut: int, *, not_before: int) -> Run:
    now = max(kernel.clock.now_us(), not_before)  # the clock may have been set back
    # A fork lives in a session of its own: the original's session has moved on. But what they share is in one database.
    shard = kernel.shard_of(run.agent, None, id, near=run.shard)
    return Run(
        id=id, agent=run.agent, version=run.version, session=None, shard=shard,
        status=RunStatus.QUEUED, created=now, updated=now, priority=run.priority, concurrency_key=run.concurrency_key,
        forked_from=(run.id, cut),
    )  # fmt: skip


def _forked_data(run: Run, events: Sequence[Event], step: int, input_json: str | None) -> str:
    seed = next((event.data["seed"] for event in events if event.type == "run.forked"), run.id)
    fields = {"from": run.id, "at": step, "seed": seed}
    if input_json is not None:
        fields["input"] = decode(input_json)
    return encode(fields)


def _check_settled(run: Run, deeds: Mapping[int, Deed], cut: Cut, *, forced: bool) -> None:
    for step, deed in deeds.items():
        if not deed.settled and (deed.opened <= cut.seq or (step == cut.step and not forced)):
            raise InvalidInput(
                f"step {step} ({deed.name}) of {run.id} is not settled yet, and a fork would do it as well; "
                f"wait for that, or stop the run with: perdure cancel {run.id}"
            )


def _check_consent(run: Run, journal: Sequence[Event]) -> None:
    """Refuse a fork whose agent was told of a consent that it has not used yet: it is the original's."""
    asked: set[str] = set()
    unused: dict[str, int | None] = {}
    for event in journal:
        match event.type:
            case "approval.requested" if event.data.get("schema") is not None:  # for a tool: its use can be seen
                asked.add(event.data["id"])
            case "approval.granted" if event.data["id"] in asked:
                unused[event.data["id"]] = event.step
            case "step.started" if '"approval"' in event.raw:
                unused.pop(event.data.get("approval", ""), None)
    for step in unused.values():
        raise InvalidInput(
            f"step {step} brought a consent that is good for one use, by {run.id} itself; "
            f"fork where it was asked for: perdure fork {run.id} --at {step}"
        )


def _carried(run: Run, events: Sequence[Event], deeds: Mapping[int, Deed], cut: Cut, *, forced: bool) -> list[Event]:
    """What the fork must know, besides what it shares, of the steps that were open at the cut."""
    shared = events[: cut.seq]
    steps = {event.step for event in shared if event.type in OPENS}
    steps -= {event.step for event in shared if _settles(event)}
    deed = deeds.get(cut.step)
    doubted = deed is not None and deed.in_doubt and deed.opened <= cut.seq + 1 and not forced
    if doubted:
        steps.add(cut.step)  # its opening goes along as well
    later = [event for event in events[cut.seq :] if event.step in steps and event.type in _CARRIED]
    ends = {event.step: event for event in later if _settles(event)}
    if doubted or cut.failure is not None:
        ends.pop(cut.step, None)
    unsettled = [event for event in later if event.step not in ends and not _settles(event)]
    for step in [step for step in deeds if step in steps and step not in ends]:
        known = [event for event in (*shared, *unsettled) if event.step == step and event.type in _CARRIED]
        unsettled += _last_word(run, deeds[step], known, cut.failure if step == cut.step else None)
    return sorted([*ends.values(), *unsettled], key=lambda event: event.seq or len(events) + 1)


def _last_word(run: Run, deed: Deed, events: Sequence[Event], failure: Event | None) -> list[Event]:
    """What the fork must hear of an unsettled step besides its `events`, so that it does not just run it again."""
    if not deed.in_doubt:
        if failure is None:
            return []
        raw = encode({**failure.data, "retry_at": iso(failure.time_us)})
        return [Event(run.id, 0, "step.failed", failure.time_us, failure.step, failure.attempt, raw)]
    last = events[-1]
    if last.type == "step.unknown" or (last.type == "step.started" and deed.effect == Effect.ONCE):
        return []
    began = next(event for event in reversed(events) if event.type == "step.started")
    raw = event_data(
        step=began.step, kind="tool", name=deed.name, args=began.data.get("args"),
        why=f"nobody knows what it did in {run.id}, and here it has another idempotency key",
    )  # fmt: skip
    return [Event(run.id, 0, "step.unknown", last.time_us, began.step, began.attempt, raw)]


def _settles(event: Event) -> bool:
    if event.type == "step.failed":
        return '"retry_at"' not in event.raw
    if event.type == "step.resolved":
        return bool(event.data["outcome"] != "run-again")
    return event.type in _SETTLES


def _forced_result(new: Run, events: Sequence[Event], step: int, result: Any, seq: int) -> list[Event]:
    opening = next(event for event in events if event.step == step and event.type in OPENS)
    data = opening.data
    made = {"step": step, "kind": data["kind"], "name": data["name"]}
    match opening.type:
        case "step.started":
            end = ("step.completed", {**made, "result": result, "by": "fork"})
        case "child.spawned":
            end = ("child.ended", {**made, "run": data["run"], "status": "succeeded", "result": result})
        case "ask.opened":
            end = ("ask.answered", {"id": data["id"], "step": step, "value": result, "by": "fork"})
        case _:
            raise InvalidInput(f"step {step} ({opening.type}) has no result that could be given")
    opened = _event(new, seq, opening.type, step, opening.attempt, opening.raw)
    return [opened, _event(new, seq + 1, end[0], step, opening.attempt, encode(end[1]))]


def _event(run: Run, seq: int, type: str, step: int | None, attempt: int | None, raw: str) -> Event:
    return Event(run.id, seq, type, run.created, step, attempt, raw)
