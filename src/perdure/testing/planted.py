"""Bugs, planted on purpose: a simulator that does not find them proves nothing by finding none.

    python -m perdure.testing.planted [--only NAME] [--tries 5] [--most 2000] [--json]

Each bug is one that such systems really have. It is put into the running code by a context manager and taken out again;
then seeds are simulated until one fails. `--tries` looks for each bug from several first seeds and prints the median
and the most seeds that it took.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

from perdure.agents import approval
from perdure.agents.attempt import Attempt
from perdure.agents.tool import DID_NOT_HAPPEN
from perdure.governance import consent
from perdure.hands.tools import ToolHands
from perdure.journal.brain import Brain
from perdure.kernel import ending
from perdure.kernel.activation import Activation
from perdure.kernel.contract import Decision
from perdure.kernel.kernel import Kernel
from perdure.kernel.live import LiveRuns
from perdure.kernel.steps import Steps
from perdure.store.contract import Signal, Transaction
from perdure.store.memory import MemoryStore
from perdure.store.memory.commit import Commit
from perdure.store.memory.data import Data
from perdure.testing.simulation import simulate
from perdure.values.effects import Effect
from perdure.values.events import Event
from perdure.values.runs import RunStatus

Patch = AbstractContextManager[Any]


@dataclass(frozen=True, slots=True)
class Bug:
    """A bug and how to plant it."""

    name: str
    plant: Callable[[], Patch]
    #: how many seeds it may take in the quick test
    soon: int = 100


def seeds_until_found(bug: Bug, first: int = 0, most: int = 2_000) -> int | None:
    """How many seeds, from `first`, it takes until one fails; None when `most` do not."""
    with bug.plant():
        return next((count for count in range(1, most + 1) if simulate(first + count - 1).violations), None)


def _replaced(owner: Any, name: str, make: Callable[[Any], Any]) -> Patch:
    return mock.patch.object(owner, name, make(getattr(owner, name)))


def _always(value: Any) -> Callable[[Any], Any]:
    return lambda _: lambda *_args, **_options: value


def _together(*patches: Patch) -> Patch:
    stack = contextlib.ExitStack()

    @contextlib.contextmanager
    def all_of_them() -> Iterator[None]:
        with stack:
            for patch in patches:
                stack.enter_context(patch)
            yield

    return all_of_them()


# Ownership.


def _no_fence() -> Patch:
    return _replaced(Commit, "_check_fence", _always(None))


def _old_epoch() -> Patch:
    """A claim gives the epoch of the owner before."""

    def make(claim: Any) -> Any:
        async def claim_without_counting(self: MemoryStore, node: str, shards: Any, lease_seconds: float) -> Any:
            leases = await claim(self, node, shards, lease_seconds)
            for lease in leases:
                self._data.shards[lease.shard].epoch = 1
            return [lease._replace(epoch=1) for lease in leases]

        return claim_without_counting

    return _replaced(MemoryStore, "claim", make)


def _two_runs_of_a_session() -> Patch:
    class Forgetful(dict[Any, Any]):
        def __setitem__(self, key: Any, value: Any) -> None:
            pass

    def make(init: Any) -> Any:
        def init_without_begun(self: Data) -> None:
            init(self)
            self.begun = Forgetful()

        return init_without_begun

    return _together(_replaced(Data, "__init__", make), _replaced(LiveRuns, "_may_begin", lambda _: _yes))


async def _yes(*_: Any) -> bool:
    return True


# Commits.


def _split(first: Callable[[Transaction], Transaction], rest: Callable[[Transaction], Transaction]) -> Patch:
    """What belongs into one transaction is written as two, with a moment in between."""

    def make(commit: Any) -> Any:
        async def commit_in_two(self: MemoryStore, batch: Sequence[Transaction]) -> Any:
            await commit(self, [first(transaction) for transaction in batch])
            await _a_moment()
            return await commit(self, [rest(transaction) for transaction in batch])

        return commit_in_two

    return _replaced(MemoryStore, "commit", make)


async def _a_moment() -> None:
    loop = asyncio.get_running_loop()
    over = loop.create_future()
    loop.call_later(0.02, lambda: over.done() or over.set_result(None))  # type: ignore[func-returns-value]
    await over


def _children_first() -> Patch:
    def only_children(work: Transaction) -> Transaction:
        return Transaction(create=[new for new in work.create if new.run.parent is not None])

    def the_rest(work: Transaction) -> Transaction:
        return replace(work, create=[new for new in work.create if new.run.parent is None])

    return _split(only_children, the_rest)


def _messages_first() -> Patch:
    def only_messages(work: Transaction) -> Transaction:
        return Transaction(signals=[signal for signal in work.signals if work.events])

    def the_rest(work: Transaction) -> Transaction:
        return replace(work, signals=[signal for signal in work.signals if not work.events])

    return _split(only_messages, the_rest)


def _state_later() -> Patch:
    return _later(lambda work: (replace(work, state=None), replace(_bare(work), state=work.state)), "state")


def _consumed_later() -> Patch:
    return _together(
        _later(lambda work: (replace(work, consume=()), replace(_bare(work), consume=work.consume)), "consume"),
        _replaced(Commit, "_consume", lambda consume: lambda self, id: id in self._data.signals and consume(self, id)),
    )


def _bare(work: Transaction) -> Transaction:
    return Transaction(fence=work.fence)


def _later(split: Callable[[Transaction], tuple[Transaction, Transaction]], part: str) -> Patch:
    """A part of every transaction is written some time after it was acknowledged."""

    def make(commit: Any) -> Any:
        async def finish(self: MemoryStore, late: list[Transaction]) -> None:
            await _a_moment()
            await commit(self, late)

        async def commit_a_part(self: MemoryStore, batch: Sequence[Transaction]) -> Any:
            parts = [split(work) if getattr(work, part) else (work, None) for work in batch]
            late = [rest for _, rest in parts if rest is not None]
            if late:
                _running.add(asyncio.get_running_loop().create_task(finish(self, late)))
            return await commit(self, [now for now, _ in parts])

        return commit_a_part

    return _replaced(MemoryStore, "commit", make)


def _acknowledged_early() -> Patch:
    """The store says yes, and writes a moment later."""

    def make(commit: Any) -> Any:
        async def finish(self: MemoryStore, batch: Sequence[Transaction]) -> None:
            await _a_moment()
            await commit(self, batch)

        async def say_yes(self: MemoryStore, batch: Sequence[Transaction]) -> Any:
            if any(work.fence is None or work.create or work.signals or work.close_asks for work in batch):
                return await commit(self, batch)
            _running.add(asyncio.get_running_loop().create_task(finish(self, batch)))
            return [None] * len(batch)

        return say_yes

    return _replaced(MemoryStore, "commit", make)


#: So that nothing that still writes is collected.
_running: set[asyncio.Task[None]] = set()


def _end_is_not_the_end() -> Patch:
    """A cancel that comes after the end of a run overwrites it."""

    def make(redirect: Any) -> Any:
        async def overwrite(self: Kernel, run: Any, signal: Signal) -> None:
            journal = self.store._data.journals[run.id]  # type: ignore[attr-defined]
            if signal.kind == "cancel" and run.status is RunStatus.SUCCEEDED:
                event = Event(run.id, journal.seq + 1, "run.cancelled", journal.events[-1].time_us, None, None, "{}")
                journal.events.append(event)
                self.store._data.replace_row(journal, replace(journal.row, status=RunStatus.CANCELLED))  # type: ignore[attr-defined]
            await redirect(self, run, signal)

        return overwrite

    return _replaced(Kernel, "redirect", make)


def _keys_forgotten() -> Patch:
    def make(add: Any) -> Any:
        def add_without_key(self: Data, journal: Any) -> None:
            add(self, journal)
            self.by_key.pop((journal.row.agent, journal.row.idempotency_key), None)

        return add_without_key

    return _replaced(Data, "add", make)


def _answered_twice() -> Patch:
    """An answer is taken although the question has expired."""

    def make(close: Any) -> Any:
        def close_anything(self: Commit, wanted: Any) -> None:
            ask = self._data.asks.get(wanted.id)
            if ask is not None and ask.status == "expired":
                self._data.asks[wanted.id] = replace(ask, status=wanted.status, answer=wanted.answer)
            else:
                close(self, wanted)

        return close_anything

    return _replaced(Commit, "_close_ask", make)


# Effects.


def _effect_before_journal() -> Patch:
    return mock.patch.object(Effect, "admitted", property(lambda _: False))


def _once_is_repeated() -> Patch:
    return mock.patch.object(Effect, "repeatable", property(lambda _: True))


def _unknown_is_not_happened() -> Patch:
    async def guess(*_: Any) -> Any:
        return DID_NOT_HAPPEN

    return _replaced(ToolHands, "probe", lambda _: guess)


def _key_per_attempt() -> Patch:
    def make(init: Any) -> Any:
        def init_with_other_key(
            self: Attempt, run: str, session: Any, step: int, attempt: int, key: str, *more: Any
        ) -> None:
            init(self, run, session, step, attempt, f"{key}:{attempt}", *more)

        return init_with_other_key

    return _replaced(Attempt, "__init__", make)


def _consent_used_twice() -> Patch:
    """The gate does not ask whether a consent was used before."""
    given: dict[str, str] = {}

    def make(decide: Any) -> Any:
        def decide_from_memory(self: Any, admission: Any) -> Decision:
            given.update(admission.grants)
            return decide(self, replace(admission, grants={**given, **admission.grants}))

        return decide_from_memory

    def make_perform(perform: Any) -> Any:
        async def perform_again(self: approval.Approval) -> Any:
            self._performed = False
            return await perform(self)

        return perform_again

    return _together(
        _replaced(consent.ConsentGate, "decide", make), _replaced(approval.Approval, "perform", make_perform)
    )


def _consent_for_anything() -> Patch:
    def by_name(name: str, _arguments: Any) -> str:
        return name

    return _together(
        mock.patch.object(approval, "action_hash", by_name), mock.patch.object(consent, "action_hash", by_name)
    )


def _no_consent() -> Patch:
    return _replaced(consent.ConsentGate, "decide", _always(Decision(allowed=True)))


# Recovery, time and signals.


def _timers_lost() -> Patch:
    async def none(*_: Any) -> list[Any]:
        return []

    return _replaced(MemoryStore, "due", lambda _: none)


def _timers_early() -> Patch:
    return _replaced(Activation, "fire_due", lambda fire: lambda self, now: fire(self, now + 100_000))


def _left_behind() -> Patch:
    async def none(*_: Any) -> list[Any]:
        return []

    return _replaced(MemoryStore, "active", lambda _: none)


def _signals_lost() -> Patch:
    """Reading a signal takes it away; who dies before it is journaled has lost it."""

    def make(read: Any) -> Any:
        async def read_away(self: MemoryStore, *args: Any, **options: Any) -> list[Signal]:
            found: list[Signal] = await read(self, *args, **options)
            for signal in found:
                self._data.signals.pop(signal.id, None)
            return found

        return read_away

    return _together(
        _replaced(MemoryStore, "signals", make),
        _replaced(Commit, "_consume", lambda consume: lambda self, id: id in self._data.signals and consume(self, id)),
    )


def _mail_backwards() -> Patch:
    """What a client sends at once is told to the run last first."""

    def make(deliver: Any) -> Any:
        def deliver_backwards(self: Activation, inputs: list[Event]) -> None:
            mail = [event for event in inputs if event.type == "message.received"]
            deliver(self, [event for event in inputs if event not in mail] + mail[::-1])

        return deliver_backwards

    return _replaced(Activation, "deliver", make)


def _told_before_commit() -> Patch:
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

    return _replaced(Steps, "completed", make)


def _replayed_in_another_order() -> Patch:
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

    return _replaced(Brain, "replay", make)


def _draft_evicted() -> Patch:
    """Memory is freed although it holds what is not written."""
    waits = property(lambda self: self.status is RunStatus.WAITING)
    return mock.patch.object(Activation, "evictable", waits)


def _strikes_forgotten() -> Patch:
    def make(update: Any) -> Any:
        def update_without_strikes(self: Commit, run: str, values: Any, fence: Any) -> None:
            values.strikes = 0
            update(self, run, values, fence)

        return update_without_strikes

    return _replaced(Commit, "_update", make)


def _orphans() -> Patch:
    return _replaced(ending, "_attached_children", _always(()))


BUGS = [
    Bug("no fence is checked", _no_fence),
    Bug("a claim does not raise the epoch", _old_epoch),
    Bug("two runs of a session at once", _two_runs_of_a_session),
    Bug("acknowledged before it is durable", _acknowledged_early),
    Bug("children are created outside of the transaction", _children_first),
    Bug("messages are sent outside of the transaction", _messages_first),
    Bug("state is saved outside of the transaction", _state_later),
    Bug("a signal is consumed outside of the transaction", _consumed_later),
    Bug("an end is overwritten", _end_is_not_the_end),
    Bug("idempotency keys are forgotten", _keys_forgotten),
    Bug("an expired question is answered", _answered_twice),
    Bug("an effect before its journal", _effect_before_journal),
    Bug("recovery repeats a once step", _once_is_repeated),
    Bug("unknown is taken for not happened", _unknown_is_not_happened),
    Bug("each attempt has a key of its own", _key_per_attempt),
    Bug("consent is used twice", _consent_used_twice),
    Bug("consent is for any arguments", _consent_for_anything),
    Bug("consent is not needed", _no_consent),
    Bug("timers are lost at a restart", _timers_lost),
    Bug("timers fire early", _timers_early),
    Bug("runs of a dead node are left behind", _left_behind),
    Bug("a signal is lost with its reader", _signals_lost),
    Bug("the order of messages is lost", _mail_backwards),
    Bug("results are told before their commit", _told_before_commit),
    Bug("a replay in another order", _replayed_in_another_order),
    Bug("eviction drops a draft", _draft_evicted),
    Bug("strikes are never counted", _strikes_forgotten),
    Bug("children outlive their parent", _orphans),
]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 1 when a bug was not found."""
    parser = argparse.ArgumentParser(prog="python -m perdure.testing.planted", description=__doc__)
    parser.add_argument("--only", default="", help="bugs whose name contains this")
    parser.add_argument("--tries", type=int, default=5)
    parser.add_argument("--most", type=int, default=2_000)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args(arguments)
    if os.environ.get("PYTHONHASHSEED") != "0":
        command = [sys.executable, "-m", "perdure.testing.planted", *(sys.argv[1:] if arguments is None else arguments)]
        return subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": "0"}, check=False).returncode
    logging.disable(logging.CRITICAL)
    taken: dict[str, list[int | None]] = {}
    for bug in (bug for bug in BUGS if options.only in bug.name):
        counts = [seeds_until_found(bug, first * 10_000, options.most) for first in range(options.tries)]
        taken[bug.name] = counts
        if not options.json:
            print(f"{bug.name}: {_describe(counts)}", flush=True)
    if options.json:
        print(json.dumps(taken))
    return 1 if any(count is None for counts in taken.values() for count in counts) else 0


def _describe(counts: Sequence[int | None]) -> str:
    found = [count for count in counts if count is not None]
    if not found:
        return "NOT FOUND"
    missed = f", missed {len(counts) - len(found)} times" if len(found) < len(counts) else ""
    return f"found after {statistics.median(found):g} seeds (median), {max(found)} at most{missed}"


if __name__ == "__main__":
    raise SystemExit(main())
