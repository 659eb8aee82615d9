"""To which database does a transaction go, and what of it has to follow as a parcel?

It goes where its fence's shard lives, or else where what it touches lives. New runs and signals for shards in other
databases are posted along with it. A run with an idempotency key is claimed where the key lives, and made there or
posted from there, so that two databases cannot start it twice.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

from perdure.store.contract import NewRun, Signal, Transaction
from perdure.store.exchange import Exchange, Note, Parcel
from perdure.store.many.bodies import creation, delivery, read_body
from perdure.store.many.finding import Finding
from perdure.store.many.members import Members
from perdure.store.many.places import Places
from perdure.store.many.signal_ids import inner_id
from perdure.values.ids import notice_run_id, shard_of
from perdure.values.json import encode
from perdure.values.runs import RunStatus

#: Runs on their way that are remembered.
_COMING_MAX = 65_536
#: More than wait anywhere.
_PARCELS_MAX = 100_000
#: Events of a run that is posted: that it was queued. It begins over there.
_KEPT = 1


@dataclass(slots=True)
class Plan:
    """One transaction as one database gets it."""

    place: int
    transaction: Transaction
    #: for each signal of the original, whether it is put here (else it is posted, and has no id)
    here: list[bool] = field(default_factory=list)
    #: the run that the transaction claims a key for
    keyed: NewRun | None = None

    @property
    def posts(self) -> bool:
        """True when something is to be delivered afterwards."""
        return self.transaction.exchange is not None and bool(self.transaction.exchange.post)


class Planner:
    """Plans transactions, one by one."""

    def __init__(self, members: Members, places: Places, finding: Finding) -> None:
        self._members = members
        self._places = places
        self._finding = finding
        self.slots = 1
        #: runs that were posted from here -> their shards: no outbox shows them before their commit
        self._coming: dict[str, str] = {}

    async def plan(self, work: Transaction, *, away: Collection[str] = (), at: int | None = None) -> Plan:
        """How `work` is to be committed, `at` a database if it must be that one.

        For the shards in `away` everything is posted, even where they live: they are on their way. Raises ValueError.
        """
        if work.fence is not None and not (work.create or work.signals or work.consume or work.exchange):
            return Plan(await self._places.settled(work.fence.shard), work)
        late: set[int] = set()
        signals = [await self._addressed(signal, work, late) for signal in work.signals]
        work = replace(work, signals=signals, consume=[inner_id(id) for id in work.consume])
        await self._places.settle(self._shards(work))
        keyed = next((new for new in work.create if new.run.idempotency_key is not None), None)
        if keyed is not None:
            return await self._plan_keyed(work, keyed, away)
        own = None if work.fence is None else work.fence.shard
        held_up = self._places.held_up.union(away) - {own}
        late.update(id(signal) for signal in signals if signal.shard in held_up)
        place = await self._place_of(work, held_up if signals else away) if at is None else at
        return self._split(work, place, away, late)

    async def catch_up(self) -> None:
        """See which shards have got what waited for them. Between two commits, not during one."""
        if self._places.held_up:
            outboxes = await self._members.all(lambda store: store.parcels(_PARCELS_MAX))
            self._places.held_up &= {parcel.shard for parcels in outboxes for parcel in parcels}

    async def _addressed(self, signal: Signal, work: Transaction, late: set[int]) -> Signal:
        """A signal with the shard of its run; without one when there is no such run anywhere.

        One for a run that is still on its way is noted as `late`: put directly, it would be dropped.
        """
        if signal.run is None:
            return signal
        shard = next((new.run.shard for new in work.create if new.run.id == signal.run), None)
        shard = shard or await self._finding.shard_of(signal.run)
        if shard is None and (on_its_way := self._coming.get(signal.run) or await self._posted(signal.run)) is not None:
            addressed = replace(signal, shard=on_its_way)
            late.add(id(addressed))
            return addressed
        # It may have come just now: between the first question and the second.
        return replace(signal, shard=shard or await self._finding.shard_of(signal.run) or "")

    async def _posted(self, run: str) -> str | None:
        """The shard of a run that is still on its way."""
        for parcels in await self._members.all(lambda store: store.parcels()):
            for parcel in parcels:
                if any(new.run.id == run for new in read_body(parcel.body).create):
                    return parcel.shard
        return None

    def _shards(self, work: Transaction) -> Iterator[str]:
        if work.fence is not None:
            yield work.fence.shard
        yield from (new.run.shard for new in work.create)
        yield from (signal.shard for signal in work.signals if signal.shard)

    async def _place_of(self, work: Transaction, held_up: Collection[str]) -> int:
        shard = next(self._shards(work), None)
        if shard is None or (work.fence is None and work.close_asks):
            for close in work.close_asks:
                ask = await self._finding.first(lambda store, id=close.id: store.ask(id))  # type: ignore[misc]
                shard = ask.shard if ask is not None else shard
        # What waits for a shard on its way waits at home, in one order wherever the shard is meanwhile.
        # But an ask is closed where it is, or not now.
        if shard is None or (work.fence is None and shard in held_up and not work.close_asks):
            return 0
        return await self._places.settled(shard)

    async def _plan_keyed(self, work: Transaction, new: NewRun, away: Collection[str]) -> Plan:
        run = new.run
        assert run.idempotency_key is not None
        shard = shard_of(run.agent, run.idempotency_key, self.slots)
        place = await self._places.settled(shard)
        note = claim_of(new, shard)
        if place == self._places.of(run.shard) and run.shard not in away:
            plan = self._split(work, place, away)
            plan.transaction.exchange = replace(plan.transaction.exchange or Exchange(), notes=[note])
            plan.keyed = new
            return plan
        keys = sum(other.run.idempotency_key is not None for other in work.create)
        if replace(work, fence=None, create=()) != Transaction(signals=[], consume=[]) or keys > 1:
            raise ValueError(f"run {run.id} has an idempotency key: it is created by a transaction of its own")
        # What tells of it goes along: made here, where it lives here.
        create = _without_untold(work.create, [new])
        here = [
            other
            for other in create
            if other is not new and other.run.shard not in away and self._places.of(other.run.shard) == place
        ]
        for other in here:
            self._finding.remember(other.run)
        post = [self._parcel(other, "") for other in create if other not in here]
        return Plan(place, Transaction(create=here, exchange=Exchange(notes=[note], post=post)), keyed=new)

    def _split(self, work: Transaction, place: int, away: Collection[str], late: Collection[int] = ()) -> Plan:
        """What is committed in `place`, and what is posted there: all that lives elsewhere, and the signals `late`."""

        def elsewhere(shard: str) -> bool:
            return bool(shard) and (shard in away or self._places.of(shard) != place)

        create = [new for new in work.create if elsewhere(new.run.shard)]
        if (told := _without_untold(work.create, create)) is not work.create:
            work, create = replace(work, create=told), [new for new in create if new in told]
        here = [not elsewhere(signal.shard) and id(signal) not in late for signal in work.signals]
        if not create and all(here):
            for new in work.create:
                self._finding.remember(new.run)
            return Plan(place, work, here)
        self._places.held_up.update(away)
        sender = "" if work.fence is None else work.fence.shard
        letters: dict[str, list[Signal]] = {}
        for signal, stays in zip(work.signals, here, strict=True):
            if not stays:
                letters.setdefault(signal.shard, []).append(signal)
        post = [self._parcel(new, sender) for new in create]
        post += [Parcel(shard, sender, delivery(signals)) for shard, signals in letters.items()]
        exchange = work.exchange or Exchange()
        own = replace(
            work,
            create=[new for new in work.create if new not in create],
            signals=[signal for signal, stays in zip(work.signals, here, strict=True) if stays],
            exchange=replace(exchange, post=[*exchange.post, *post]),
        )
        return Plan(place, own, here)

    def _parcel(self, new: NewRun, sender: str) -> Parcel:
        run = new.run
        if run.status is RunStatus.RUNNING:
            # Its shard moved after its creator looked: whoever owns that now begins it.
            new = NewRun(replace(run, status=RunStatus.QUEUED), new.events[:_KEPT], new.session_must_be_free)
        if len(self._coming) >= _COMING_MAX:
            self._coming.clear()
        self._coming[run.id] = run.shard
        return Parcel(run.shard, sender, creation(new))


def _without_untold(create: Sequence[NewRun], posted: Sequence[NewRun]) -> Sequence[NewRun]:
    """`create` without what tells of events that do not happen now, since runs `posted` begin later.

    When they do happen, they bring what tells of them, under the same ids.
    """
    begun_later = [new for new in posted if new.run.status is RunStatus.RUNNING]
    untold = tuple(notice_run_id(new.run.id, event.seq, "") for new in begun_later for event in new.events[_KEPT:])
    return [new for new in create if not new.run.id.startswith(untold)] if untold else create


def claim_of(new: NewRun, shard: str) -> Note:
    """The note by which a run takes its idempotency key, kept with the key's `shard`."""
    return Note("key", encode([new.run.agent, new.run.idempotency_key]), new.run.id, shard=shard)
