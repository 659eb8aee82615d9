"""Bugs about what is written together, and when it is said to be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from perdure.kernel.mailroom import Mailroom
from perdure.store.contract import Signal, Transaction
from perdure.store.memory import MemoryStore
from perdure.store.memory.commit import Commit
from perdure.store.memory.data import Data
from perdure.testing.planted.patches import Patch, replaced, together
from perdure.values.events import Event
from perdure.values.runs import RunStatus


def _split(first: Callable[[Transaction], Transaction], rest: Callable[[Transaction], Transaction]) -> Patch:
    """What belongs into one transaction is written as two, with a moment in between."""

    def make(commit: Any) -> Any:
        async def commit_in_two(self: MemoryStore, batch: Sequence[Transaction]) -> Any:
            await commit(self, [first(transaction) for transaction in batch])
            await _a_moment()
            return await commit(self, [rest(transaction) for transaction in batch])

        return commit_in_two

    return replaced(MemoryStore, "commit", make)


async def _a_moment() -> None:
    loop = asyncio.get_running_loop()
    over = loop.create_future()
    loop.call_later(0.02, lambda: over.done() or over.set_result(None))  # type: ignore[func-returns-value]
    await over


def children_first() -> Patch:
    def only_children(work: Transaction) -> Transaction:
        return Transaction(create=[new for new in work.create if new.run.parent is not None])

    def the_rest(work: Transaction) -> Transaction:
        return replace(work, create=[new for new in work.create if new.run.parent is None])

    return _split(only_children, the_rest)


def messages_first() -> Patch:
    def only_messages(work: Transaction) -> Transaction:
        return Transaction(signals=[signal for signal in work.signals if work.events])

    def the_rest(work: Transaction) -> Transaction:
        return replace(work, signals=[signal for signal in work.signals if not work.events])

    return _split(only_messages, the_rest)


def state_later() -> Patch:
    return _later(lambda work: (replace(work, state=None), replace(_bare(work), state=work.state)), "state")


def consumed_later() -> Patch:
    return together(
        _later(lambda work: (replace(work, consume=()), replace(_bare(work), consume=work.consume)), "consume"),
        replaced(Commit, "_consume", lambda consume: lambda self, id: id in self._data.signals and consume(self, id)),
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

    return replaced(MemoryStore, "commit", make)


def acknowledged_early() -> Patch:
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

    return replaced(MemoryStore, "commit", make)


#: So that nothing that still writes is collected.
_running: set[asyncio.Task[None]] = set()


def end_is_not_the_end() -> Patch:
    """A cancel that comes after the end of a run overwrites it."""

    def make(redirect: Any) -> Any:
        async def overwrite(self: Mailroom, run: Any, signal: Signal) -> None:
            journal = self._kernel.store._data.journals[run.id]  # type: ignore[attr-defined]
            if signal.kind == "cancel" and run.status is RunStatus.SUCCEEDED:
                event = Event(run.id, journal.seq + 1, "run.cancelled", journal.events[-1].time_us, None, None, "{}")
                journal.events.append(event)
                self._kernel.store._data.replace_row(journal, replace(journal.row, status=RunStatus.CANCELLED))  # type: ignore[attr-defined]
            await redirect(self, run, signal)

        return overwrite

    return replaced(Mailroom, "redirect", make)


def keys_forgotten() -> Patch:
    def make(add: Any) -> Any:
        def add_without_key(self: Data, journal: Any) -> None:
            add(self, journal)
            self.by_key.pop((journal.row.agent, journal.row.idempotency_key), None)

        return add_without_key

    return replaced(Data, "add", make)


def answered_twice() -> Patch:
    """An answer is taken although the question has expired."""

    def make(close: Any) -> Any:
        def close_anything(self: Commit, wanted: Any) -> None:
            ask = self._data.asks.get(wanted.id)
            if ask is not None and ask.status == "expired":
                self._data.asks[wanted.id] = replace(ask, status=wanted.status, answer=wanted.answer)
            else:
                close(self, wanted)

        return close_anything

    return replaced(Commit, "_close_ask", make)
