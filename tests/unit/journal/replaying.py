"""The one property behind everything: a run is a function of its journal (I6)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from perdure.journal.brain import INPUTS
from perdure.values.events import Event
from perdure.values.json import decode
from tests.unit.journal.driver import Drive, Plan, copied, describe, fresh_brain, look, state_in

_OPENED = {"step.started", "timer.started", "ask.opened", "approval.requested", "message.awaited", "message.sent",
           "progress", "artifact", "child.spawned"}  # fmt: skip
_WITHDRAWN = {"step.cancelled", "ask.withdrawn", "approval.withdrawn"}


def check_every_prefix(drive: Drive, *, withdrawals_in_order: bool = True) -> None:
    """Replay the journal up to each of its events: the brain asks for, knows and saves what it did live.

    A prefix that ends in the middle of a commit is none that a crash can leave; it must hold all the same.
    """
    in_order = list if withdrawals_in_order else _withdrawals_last
    for length in range(len(drive.journal) + 1):
        prefix = copied(drive.journal[:length])
        inputs = sum(event.type in INPUTS for event in prefix)
        brain = fresh_brain(drive.agent)
        brain.replay(prefix)
        assert brain.divergence is None, brain.divergence
        commands = brain.take_commands()
        asked = [text for text, after in drive.asked if after <= inputs]
        if any(event.type == "run.failing" for event in prefix):  # the journal tells it: it is not found out again
            asked = [text for text in asked if " failure " not in text]
        assert in_order(describe(command) for command in commands) == in_order(asked)
        opened = {event.step for event in prefix if event.type in _OPENED}
        closed = {event.step for event in prefix if event.type in _WITHDRAWN}
        for command in commands:
            if command.kind not in {"patch", "failure"}:
                assert command.recorded == (command.step in (closed if command.kind == "withdraw" else opened))
        if inputs:
            assert look(brain) == drive.looks[inputs]
        if inputs in drive.saves:
            assert _changed(prefix, brain.take_state_changes()) == drive.saves[inputs]
        brain.evict()


def check_going_on(drive: Drive, plan: Plan | None = None) -> None:
    """Whatever the journal breaks off at, the run goes on to an end, in another order, and replays from the start."""
    for length in range(2, len(drive.journal), 3):
        rest = Drive.of(drive.agent, drive.journal[:length])
        rest.play(seed=length, plan=plan)
        assert rest.over, rest.waits
        brain = fresh_brain(drive.agent)
        brain.replay(copied(rest.journal))
        assert brain.divergence is None, brain.divergence
        assert look(brain) == look(rest.brain)
        assert [c for c in brain.take_commands() if not c.recorded and c.kind not in {"withdraw", "sleep"}] == []


def _withdrawals_last(asked: Iterable[str]) -> list[str]:
    texts = list(asked)
    withdrawn = sorted(text for text in texts if " withdraw " in text)
    return [text for text in texts if " withdraw " not in text] + withdrawn


def _changed(journal: list[Event], changes: dict[str, str | None]) -> dict[str, Any]:
    state = state_in(journal)
    for key, text in changes.items():
        if text is None:
            del state[key]
        else:
            state[key] = decode(text)
    return state
