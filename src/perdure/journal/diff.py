"""Where do two runs differ? Aligns two timelines step by step. Pure: two lists in, one list out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from perdure.journal.timeline import StepRecord

#: Aligning what lies between a common beginning and end costs the product of the lengths; beyond this many steps on
#: a side they are paired by position instead.
_ALIGNED_MOST = 2_000


@dataclass(frozen=True, slots=True)
class Difference:
    """A pair of steps that stand at the same place; one is None where only the other run has it."""

    left: StepRecord | None
    right: StepRecord | None
    #: what differs: args, result, error, status; `step` when one side is missing; empty when alike
    fields: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The public form."""
        return {
            "left": None if self.left is None else self.left.as_json(),
            "right": None if self.right is None else self.right.as_json(),
            "differs": list(self.fields),
        }


def diff_timelines(left: Sequence[StepRecord], right: Sequence[StepRecord]) -> list[Difference]:
    """Every step of both runs, once, in order: paired where kind and name agree. Times are not compared."""
    pairs: list[Difference] = []
    head = _common_head(left, right)
    tail = _common_tail(left[head:], right[head:])
    pairs += _paired(left[:head], right[:head])
    pairs += _aligned(left[head : len(left) - tail], right[head : len(right) - tail])
    pairs += _paired(left[len(left) - tail :], right[len(right) - tail :])
    return pairs


def _aligned(left: Sequence[StepRecord], right: Sequence[StepRecord]) -> list[Difference]:
    if max(len(left), len(right)) > _ALIGNED_MOST:
        common = min(len(left), len(right))
        return [*_paired(left[:common], right[:common]), *_alone(left[common:], right[common:])]
    matcher = SequenceMatcher(None, [_key(step) for step in left], [_key(step) for step in right], autojunk=False)
    pairs: list[Difference] = []
    for how, left_from, left_to, right_from, right_to in matcher.get_opcodes():
        ours, theirs = left[left_from:left_to], right[right_from:right_to]
        pairs += _paired(ours, theirs) if how == "equal" else _alone(ours, theirs)
    return pairs


def _common_head(left: Sequence[StepRecord], right: Sequence[StepRecord]) -> int:
    count = 0
    for ours, theirs in zip(left, right, strict=False):
        if _key(ours) != _key(theirs):
            break
        count += 1
    return count


def _common_tail(left: Sequence[StepRecord], right: Sequence[StepRecord]) -> int:
    return _common_head(left[::-1], right[::-1])


def _paired(left: Sequence[StepRecord], right: Sequence[StepRecord]) -> list[Difference]:
    pairs: list[Difference] = []
    for ours, theirs in zip(left, right, strict=True):
        alike = _key(ours) == _key(theirs)
        pairs += [Difference(ours, theirs, _differing(ours, theirs))] if alike else _alone([ours], [theirs])
    return pairs


def _alone(left: Sequence[StepRecord], right: Sequence[StepRecord]) -> list[Difference]:
    return [
        *(Difference(step, None, ("step",)) for step in left),
        *(Difference(None, step, ("step",)) for step in right),
    ]


def _differing(left: StepRecord, right: StepRecord) -> tuple[str, ...]:
    return tuple(name for name in ("args", "result", "error", "status") if getattr(left, name) != getattr(right, name))


def _key(step: StepRecord) -> tuple[str, str]:
    return (step.kind, step.name)
