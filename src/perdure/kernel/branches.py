"""Other lives of a run: forks that share its past, exports, replays against new code, differences of two runs.

A fork shares the parent's journal before some step by reference, not by copy. Steps that were in flight at that
point and were settled later keep what they brought (their settlements are copied): forking must not repeat
an effect that is known to have happened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure.agents.approval import action_hash
from perdure.errors import InvalidInput, NotFound
from perdure.store.contract import Ask, NewRun, Transaction
from perdure.values.events import Event
from perdure.values.ids import new_run_id
from perdure.values.json import decode, encode
from perdure.values.runs import Run, RunStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perdure.kernel.kernel import Kernel

#: Stands for "no result was given".
UNCHANGED: Any = object()

_OPENS = frozenset(
    {"step.started", "child.spawned", "timer.started", "ask.opened", "approval.requested", "message.awaited"}
)
_SETTLES = frozenset(
    {"step.completed", "step.failed", "step.resolved", "step.cancelled", "child.ended", "timer.fired", "ask.answered",
     "ask.expired", "approval.granted", "approval.rejected", "approval.expired"}
)  # fmt: skip


async def fork(
    kernel: Kernel, run: Run, *, at: int | None, input_json: str | None = None, result: Any = UNCHANGED
) -> Run:
    """Create a run that shares `run`'s journal before step `at` (None: its last failed step) and goes on from there."""
    events = await kernel.store.events(run.id)
    step = _step_to_retry(run, events) if at is None else at
    _check_consent(run, events, step)
    cut = _cut_before(run, events, step)
    id = new_run_id(kernel.clock.now_us())
    settlements = _settlements(events, cut, except_for=step)
    not_before = max(event.time_us for event in (events[cut - 1], *settlements))
    new = _forked_run(kernel, run, id, cut, not_before=not_before)
    own = [_event(new, cut + 1, "run.forked", None, None, _forked_data(run, events, step, input_json))]
    for settled in settlements:
        own.append(_event(new, cut + 1 + len(own), settled.type, settled.step, settled.attempt, settled.raw))
    if result is not UNCHANGED:
        own += _forced_result(new, events, step, result, cut + 1 + len(own))
    await kernel.commits.commit(Transaction(create=[NewRun(new, own)]), then=lambda _: kernel.run_written(new, own))
    return new


def hash_of(ask: Ask, args: dict[str, Any]) -> str:
    """The hash that an approval of `ask` with other arguments binds to."""
    return action_hash(decode(ask.detail)["action"], args)


def _forked_run(kernel: Kernel, run: Run, id: str, cut: int, *, not_before: int) -> Run:
    now = max(kernel.clock.now_us(), not_before)  # the clock may have been set back
    # A fork lives in a session of its own: the original's session has moved on.
    return Run(
        id=id, agent=run.agent, version=run.version, session=None, shard=kernel.shard_of(run.agent, None, id),
        status=RunStatus.QUEUED, created=now, updated=now, priority=run.priority, concurrency_key=run.concurrency_key,
        forked_from=(run.id, cut),
    )  # fmt: skip


def _forked_data(run: Run, events: Sequence[Event], step: int, input_json: str | None) -> str:
    seed = next((event.data["seed"] for event in events if event.type == "run.forked"), run.id)
    fields = {"from": run.id, "at": step, "seed": seed}
    if input_json is not None:
        fields["input"] = decode(input_json)
    return encode(fields)


def _cut_before(run: Run, events: Sequence[Event], step: int) -> int:
    for event in events:
        if event.step == step and event.type in _OPENS:
            return event.seq - 1
    last = max((event.step or 0 for event in events), default=0)
    raise NotFound(f"{run.id} has no step {step} to fork at (its steps go up to {last}); see: perdure show {run.id}")


def _step_to_retry(run: Run, events: Sequence[Event]) -> int:
    """The step that went wrong last, or was the last to begin before somebody cancelled."""
    cancelled = next((event.seq for event in events if event.type == "run.cancelling"), len(events) + 1)
    failed = [event.step for event in events if event.type == "step.failed" and not _retried(event)]
    opened = [event.step for event in events if event.type in _OPENS and event.seq < cancelled]
    step = (failed or opened or [None])[-1]
    if step is None:
        raise InvalidInput(f"{run.id} has no step to go on from; start it anew")
    return _asked_in(events, step) or step


def _check_consent(run: Run, events: Sequence[Event], step: int) -> None:
    asked = _asked_in(events, step)
    if asked is not None:
        raise InvalidInput(
            f"step {step} of {run.id} used a consent that was good for one use; "
            f"fork where it was asked for: perdure fork {run.id} --at {asked}"
        )


def _asked_in(events: Sequence[Event], step: int) -> int | None:
    """The step that asked for the consent which `step` was begun with."""
    began = next((event for event in events if event.step == step and event.type == "step.started"), None)
    approval = began.data.get("approval") if began is not None else None
    granted = (event for event in events if event.type == "approval.granted" and event.data["id"] == approval)
    return next((event.step for event in granted), None) if approval is not None else None


def _settlements(events: Sequence[Event], cut: int, *, except_for: int) -> list[Event]:
    """What later became of the steps that were open at `cut`."""
    open_steps = {event.step for event in events if event.seq <= cut and event.type in _OPENS}
    settled = {event.step for event in events if event.seq <= cut and event.type in _SETTLES and not _retried(event)}
    wanted = open_steps - settled - {except_for}
    return [
        event
        for event in events
        if event.seq > cut and event.step in wanted and event.type in _SETTLES and not _retried(event)
    ]


def _retried(event: Event) -> bool:
    return event.type == "step.failed" and '"retry_at"' in event.raw


def _forced_result(new: Run, events: Sequence[Event], step: int, result: Any, seq: int) -> list[Event]:
    opening = next(event for event in events if event.step == step and event.type in _OPENS)
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
