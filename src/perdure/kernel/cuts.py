"""Where does a fork leave its original? Before the step that somebody names, or where a retry has to begin.

A retry does again what went wrong and what followed from that, and nothing that others did or may have done until then.
Where it would have to, it refuses, and says which fork does. Pure: reads a journal, writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from perdure.agents.approval import action_hash
from perdure.errors import InvalidInput, NotFound
from perdure.kernel.history import Deed
from perdure.values.events import OPENING, Event
from perdure.values.runs import Run, RunStatus

#: By these a step begins that something can be brought of.
OPENS = OPENING - {"message.sent"}
#: What the end of a run adds on its own account, just before its last event.
_CLEARS_UP = frozenset({"step.cancelled", "ask.withdrawn", "approval.withdrawn", "stream.delta", "stream.completed"})


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a fork leaves its original."""

    #: the last event that they share
    seq: int
    #: the first step that the fork takes itself, in the original's numbering
    step: int
    #: how that step failed, where it began before the cut: it gets another attempt
    failure: Event | None = None


def cut_before(run: Run, events: Sequence[Event], step: int) -> Cut:
    """Just before `step` began. Raises NotFound."""
    for event in events:
        if event.step == step and event.type in OPENS:
            return Cut(event.seq - 1, step)
    last = max((event.step or 0 for event in events), default=0)
    raise NotFound(f"{run.id} has no step {step} to fork at (its steps go up to {last}); see: perdure show {run.id}")


def cut_to_retry(run: Run, events: Sequence[Event], deeds: Mapping[int, Deed]) -> Cut:
    """Where a run that has ended goes on: from what failed last, else from its last step. Raises InvalidInput."""
    cancelled = next((event.seq for event in events if event.type == "run.cancelling"), None)
    if cancelled is not None:
        return _cut_at_last(run, events, deeds, end=cancelled)
    failures = [event for event in events if _is_failure(event)]
    if run.status is RunStatus.CANCELLED or not failures:
        return _cut_at_last(run, events, deeds, end=_end_of(events))
    return _cut_at_failure(run, events, deeds, failures[-1])


def _cut_at_last(run: Run, events: Sequence[Event], deeds: Mapping[int, Deed], *, end: int) -> Cut:
    """From the last step that began before event `end`; from that event where more than a read would be repeated."""
    before = events[: end - 1]
    last = max((event.step or 0 for event in before if event.type in OPENS), default=None)
    if last is None:
        raise InvalidInput(f"{run.id} has no step to go on from; start it anew")
    cut = cut_before(run, events, _first_to_repeat(events, deeds, last))
    happened = last in deeds and deeds[last].happened
    if happened or (cut.step == last and _acting(deeds, cut, until=end) is not None):
        return Cut(end - 1, max(event.step or 0 for event in before) + 1)
    return _checked(run, deeds, cut, until=end)


def _cut_at_failure(run: Run, events: Sequence[Event], deeds: Mapping[int, Deed], failure: Event) -> Cut:
    """From the step that failed last, but so that nothing is lost of what others did at the same time."""
    if any(deed.in_doubt and deed.opened > failure.seq for deed in deeds.values()):
        return _cut_at_last(run, events, deeds, end=_end_of(events))  # the agent had got over the failure
    failed = failure.step or 0
    cut = cut_before(run, events, _first_to_repeat(events, deeds, failed))
    if cut.step == failed and _acting(deeds, cut, until=failure.seq) is not None:
        return Cut(failure.seq - 1, failed, failure)
    return _checked(run, deeds, cut, until=failure.seq)


def _checked(run: Run, deeds: Mapping[int, Deed], cut: Cut, *, until: int) -> Cut:
    step = _acting(deeds, cut, until=until)
    if step is None:
        return cut
    deed, again = deeds[step], f"perdure fork {run.id} --at {cut.step}"
    if deed.in_doubt:
        raise InvalidInput(
            f"going back to step {cut.step} of {run.id} would repeat step {step} ({deed.name}), and nobody knows "
            f"whether it happened. To have it settled first: perdure fork {run.id} --at {step}; to repeat it: {again}"
        )
    raise InvalidInput(
        f"going back to step {cut.step} of {run.id} would repeat step {step} ({deed.name}), which has happened. "
        f"To repeat it: {again}"
    )


def _acting(deeds: Mapping[int, Deed], cut: Cut, *, until: int) -> int | None:
    """A step behind the cut, begun before event `until`, that acted or may have."""
    for step, deed in deeds.items():
        if step != cut.step and cut.seq < deed.opened < until and (deed.happened or deed.in_doubt):
            return step
    return None


def _first_to_repeat(events: Sequence[Event], deeds: Mapping[int, Deed], step: int) -> int:
    """`step`, or the one that asked for the consent which it needs anew."""
    if step in deeds and deeds[step].in_doubt:
        return step  # what became of it comes first
    return _asked_for(events, step) or step


def _asked_for(events: Sequence[Event], step: int) -> int | None:
    """The step that asked for the consent which `step` began with, or was denied for the lack of."""
    began = next((event for event in events if event.step == step and event.type == "step.started"), None)
    if began is None:
        return None
    granted = [event for event in events if event.type == "approval.granted" and event.seq < began.seq]
    used = [event.step for event in granted if event.data["id"] == began.data.get("approval")]
    if not used and any(event.step == step and _is_failure(event) and '"Denied"' in event.raw for event in events):
        action = action_hash(began.data["name"], began.data["args"])
        used = [event.step for event in granted if event.data["hash"] == action]
    return used[-1] if used else None


def _is_failure(event: Event) -> bool:
    if event.type == "step.failed":
        return '"retry_at"' not in event.raw
    return event.type == "step.resolved" and event.data["outcome"] == "fail"


def _end_of(events: Sequence[Event]) -> int:
    """The number of the first event of a run's end."""
    end = events[-1].seq
    while end > 1 and events[end - 2].type in _CLEARS_UP:
        end -= 1
    return end
