"""How does a batch become durable in several databases? Each gets its part at once; what a move upset goes again.

The parts are independent: no transaction holds in two databases. A batch of which one part could not be written is
given again by whoever gave it, and then only that part is written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from perdure.errors import AlreadyExists, SessionBusy, ShardMoved, StoreBusy
from perdure.store.contract import Transaction
from perdure.store.many.finding import Finding
from perdure.store.many.members import Members
from perdure.store.many.places import Places
from perdure.store.many.planning import Plan, Planner
from perdure.store.many.relay import Relay
from perdure.store.many.signal_ids import outer_id

Outcome = Exception | list[int] | None

#: How often a transaction looks for where its shards went.
_TRIES = 8
#: Batches of which a part was not written, and nobody has come back yet.
_UNFINISHED_MAX = 64


@dataclass(slots=True)
class _Part:
    """What one database gets of a batch."""

    indexes: list[int] = field(default_factory=list)
    transactions: list[Transaction] = field(default_factory=list)


@dataclass(slots=True)
class _Work:
    """A batch, and how far it is."""

    batch: Sequence[Transaction]
    outcomes: list[Outcome]
    #: what has to be planned, for the first time or because a move upset it
    unplanned: list[int]
    #: the shards on their way that upset it
    away: dict[int, set[str]] = field(default_factory=dict)
    plans: dict[int, Plan] = field(default_factory=dict)
    #: not written yet, by database: each is the same object until it is
    parts: dict[int, _Part] = field(default_factory=dict)


class Committer:
    """Commits batches."""

    def __init__(
        self, members: Members, places: Places, finding: Finding, planner: Planner, relay: Relay,
        posted: Callable[[], None],
    ) -> None:  # fmt: skip
        self._members = members
        self._places = places
        self._finding = finding
        self._planner = planner
        self._relay = relay
        self._posted = posted
        self._unfinished: dict[int, _Work] = {}

    async def commit(self, batch: Sequence[Transaction]) -> list[Outcome]:
        """As the contract says."""
        work = self._unfinished.pop(id(batch), None)
        if work is None:
            work = _Work(batch, [None] * len(batch), list(range(len(batch))))
        try:
            await self._planner.catch_up()
            for _ in range(_TRIES):
                if work.unplanned or work.parts:
                    await self._plan(work)
                    await self._write(work)
            await self._settle(work)
        except BaseException:
            self._keep(work)
            raise
        return work.outcomes

    async def _plan(self, work: _Work) -> None:
        while work.unplanned:
            index = work.unplanned[0]
            try:
                plan = await self._planner.plan(work.batch[index], away=work.away.get(index, ()))
            except ValueError as refusal:
                work.outcomes[index] = refusal
            else:
                work.plans[index] = plan
                part = work.parts.setdefault(plan.place, _Part())
                part.indexes.append(index)
                part.transactions.append(plan.transaction)
            work.unplanned.pop(0)

    async def _write(self, work: _Work) -> None:
        parts = list(work.parts.items())
        commits = (self._members.stores[place].commit(part.transactions) for place, part in parts)
        answers = await asyncio.gather(*commits, return_exceptions=True)
        failures = [answer for answer in answers if isinstance(answer, BaseException)]
        for (place, part), answer in zip(parts, answers, strict=True):
            if not isinstance(answer, BaseException):
                del work.parts[place]
                for index, outcome in zip(part.indexes, answer, strict=True):
                    await self._note(work, index, outcome)
        if failures:
            raise failures[0]

    async def _note(self, work: _Work, index: int, outcome: Outcome) -> None:
        plan = work.plans[index]
        if isinstance(outcome, ShardMoved):
            before = self._places.of(outcome.shard)
            await self._places.refresh()
            if self._places.of(outcome.shard) == before:
                work.away.setdefault(index, set()).add(outcome.shard)
            work.unplanned.append(index)
            return
        if isinstance(outcome, AlreadyExists):
            for new in work.batch[index].create:
                self._finding.forget(new.run.id)
        elif not isinstance(outcome, Exception) and plan.here:
            ids = iter(outcome or [])
            outcome = [outer_id(next(ids), plan.place) if stays else 0 for stays in plan.here]
        work.outcomes[index] = outcome

    async def _settle(self, work: _Work) -> None:
        for index in work.unplanned:
            work.outcomes[index] = StoreBusy("its shard is being moved to another database. Try again in a moment.")
        if any(plan.posts for plan in work.plans.values()):
            self._posted()
        for index, plan in work.plans.items():
            if plan.keyed is not None:
                work.outcomes[index] = await self._settle_keyed(plan, work.outcomes[index])

    async def _settle_keyed(self, plan: Plan, outcome: Outcome) -> Outcome:
        """What became of a run that claimed its key: told only when it is there, or is known to come."""
        new = plan.keyed
        assert new is not None
        if isinstance(outcome, AlreadyExists) or (outcome is None and plan.posts):
            # Also for the other's sake, whose run may be on its way: whoever asks for the key now must find it.
            await self._relay.deliver()
        if outcome is None and plan.posts and not await self._relay.claimed(new):
            refusal = SessionBusy if new.session_must_be_free else AlreadyExists
            return refusal(f"run {new.run.id} was refused by the database of its session")
        return outcome

    def _keep(self, work: _Work) -> None:
        if len(self._unfinished) >= _UNFINISHED_MAX:
            self._unfinished.pop(next(iter(self._unfinished)))
        self._unfinished[id(work.batch)] = work
