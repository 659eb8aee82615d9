"""Bugs about coming back: timers, signals, replays, what a dead node leaves."""

from __future__ import annotations

from typing import Any
from unittest import mock

from perdure.journal.brain import Brain
from perdure.kernel import ending
from perdure.kernel.activation import Activation
from perdure.kernel.steps import Steps
from perdure.store.contract import Cursor, Signal
from perdure.store.memory import MemoryStore
from perdure.store.memory.commit import Commit
from perdure.testing.planted.patches import Patch, always, always_soon, replaced, together
from perdure.values.events import Event
from perdure.values.runs import RunStatus


def timers_lost() -> Patch:
    return replaced(MemoryStore, "due", always_soon([]))


def timers_early() -> Patch:
    return replaced(Activation, "fire_due", lambda fire: lambda self, now: fire(self, now + 1_000_000))


def left_behind() -> Patch:
    return replaced(MemoryStore, "active", always_soon([]))


def signals_lost() -> Patch:
    """Reading a signal takes it away; who dies before it is journaled has lost it."""

    def make(read: Any) -> Any:
        async def read_away(self: MemoryStore, *args: Any, **options: Any) -> tuple[list[Signal], Cursor]:
            found: tuple[list[Signal], Cursor] = await read(self, *args, **options)
            for signal in found[0]:
                self._data.signals.pop(signal.id, None)
            return found

        return read_away

    return together(
        replaced(MemoryStore, "signals", make),
        replaced(Commit, "_consume", lambda consume: lambda self, id: id in self._data.signals and consume(self, id)),
    )


def mail_backwards() -> Patch:
    """What a client sends at once is told to the run last first."""

    def make(deliver: Any) -> Any:
        def deliver_backwards(self: Activation, inputs: list[Event]) -> None:
            mail = [event for event in inputs if event.type == "message.received"]
            deliver(self, [event for event in inputs if event not in mail] + mail[::-1])

        return deliver_backwards

    return replaced(Activation, "deliver", make)


def told_before_commit() -> Patch:
    """A result reaches the agent before it is durable."""

    def make(completed: Any) -> Any:
        def tell_at_once(self: Any, attempt: Any, result: str) -> None:
            call, activation = attempt.call, self._activation
            raw = f'{{"step":{call.step},"result":{result}}}'
            if not attempt.statements and self.attempts.get(call.step) is attempt and not activation.writer.closed:
                told = Event(activation.run.id, 0, "step.completed", 0, call.step, attempt.number, raw)
                completed(self, attempt, result)
                activation.deliver([told])
            else:
                completed(self, attempt, result)

        return tell_at_once

    return replaced(Steps, "completed", make)


def replayed_in_another_order() -> Patch:
    """A replay hears of all completed steps in the order in which they began."""

    def make(replay: Any) -> Any:
        def replay_sorted(self: Brain, events: Any) -> None:
            events = list(events)
            results = [place for place, event in enumerate(events) if event.type == "step.completed"]
            in_order = sorted((events[place] for place in results), key=lambda event: event.step)
            for place, event in zip(results, in_order, strict=True):
                events[place] = event
            replay(self, events)

        return replay_sorted

    return replaced(Brain, "replay", make)


def draft_evicted() -> Patch:
    """Memory is freed although it holds what is not written."""
    waits = property(lambda self: self.status is RunStatus.WAITING)
    return mock.patch.object(Activation, "evictable", waits)


def strikes_forgotten() -> Patch:
    def make(update: Any) -> Any:
        def update_without_strikes(self: Commit, run: str, values: Any, fence: Any) -> None:
            values.strikes = 0
            update(self, run, values, fence)

        return update_without_strikes

    return replaced(Commit, "_update", make)


def orphans() -> Patch:
    return replaced(ending, "_attached_children", always(()))
