"""How does a parcel get to its database? Whoever has the store open takes it there, then takes it out of the outbox.

Delivered first, taken out of the outbox second: a crash in between delivers again, which the receiver refuses by the
parcel's number. Several relays at once are as harmless. What one database posts for one shard arrives in order.

A run that is refused where it was to be made ends there and then: its idempotency key is free again, and its parent
hears that it failed. That happens in the database that posted it, in the commit that takes the parcel out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence

from perdure.errors import AlreadySettled, ShardMoved, StoreError
from perdure.store.contract import NewRun, Signal, Transaction
from perdure.store.exchange import Delivery, Exchange, Note, Parcel
from perdure.store.many.bodies import read_body
from perdure.store.many.members import Members
from perdure.store.many.places import Places
from perdure.store.many.planning import Planner, claim_of
from perdure.values.clock import Clock
from perdure.values.events import event_data
from perdure.values.ids import shard_of

log = logging.getLogger("perdure.store")

#: Parcels of one database that are looked at together.
_PAGE = 5_000


class Relay:
    """Delivers for one process."""

    def __init__(
        self, members: Members, places: Places, planner: Planner, clock: Clock, tell: Callable[[], None]
    ) -> None:
        self._members = members
        self._places = places
        self._planner = planner
        self._clock = clock
        self._tell = tell
        self._delivering = asyncio.Lock()

    async def deliver(self) -> None:
        """Deliver what can be delivered now. What cannot stays for the next time."""
        async with self._delivering:
            for sender in range(len(self._members.stores)):
                try:
                    await self._empty(sender)
                except StoreError as error:
                    log.warning("what %s sent is not delivered yet: %s", self._members.names[sender], error)

    async def claimed(self, new: NewRun) -> bool:
        """Whether a run still has its idempotency key: it was not refused where it was to be made."""
        note = self._claim(new)
        store = self._members.stores[await self._places.settled(note.shard)]
        return (await store.notes(note.kind, note.name)).get(note.name) == new.run.id

    async def _empty(self, sender: int) -> None:
        parcels = await self._members.stores[sender].parcels(_PAGE)
        await self._places.settle(parcel.shard for parcel in parcels)
        by_place: dict[int, list[Parcel]] = {}
        for parcel in parcels:
            by_place.setdefault(await self._places.settled(parcel.shard), []).append(parcel)
        # One after the other: a database that is away must not keep what the others get.
        for place, bound in by_place.items():
            try:
                await self._carry(sender, place, bound)
            except StoreError as error:
                log.warning("%s cannot take what was sent to it: %s", self._members.names[place], error)

    async def _carry(self, sender: int, place: int, parcels: Sequence[Parcel]) -> None:
        id = self._members.ids[sender]
        batch = [_delivery_of(parcel, id) for parcel in parcels]
        verdicts = await self._members.stores[place].commit(batch)
        receipts = []
        for parcel, work, verdict in zip(parcels, batch, verdicts, strict=True):
            if isinstance(verdict, ShardMoved):
                await self._places.refresh()  # stays until its shard has arrived
            elif isinstance(verdict, Exception) and not isinstance(verdict, AlreadySettled):
                receipts.append(await self._refused(sender, parcel, work, verdict))
            else:
                receipts.append(Transaction(exchange=Exchange(unpost=[(parcel.shard, parcel.number)])))
        if receipts:
            await self._members.stores[sender].commit(receipts)
            self._tell()

    async def _refused(self, sender: int, parcel: Parcel, work: Transaction, refusal: Exception) -> Transaction:
        log.error("a run for shard %s was refused by its database: %s", parcel.shard, refusal)
        exchange = Exchange(
            unpost=[(parcel.shard, parcel.number)],
            notes=[_release(self._claim(new)) for new in work.create if new.run.idempotency_key is not None],
        )
        complaints = list(_complaints(work.create, refusal, self._clock.now_us()))
        plan = await self._planner.plan(Transaction(signals=complaints, exchange=exchange), at=sender)
        return plan.transaction

    def _claim(self, new: NewRun) -> Note:
        return claim_of(new, shard_of(new.run.agent, new.run.idempotency_key or "", self._planner.slots))


def _delivery_of(parcel: Parcel, sender: str) -> Transaction:
    work = read_body(parcel.body)
    work.exchange = Exchange(deliver=Delivery(sender, parcel.shard, parcel.number))
    return work


def _release(claim: Note) -> Note:
    return Note(claim.kind, claim.name, None, was=claim.value, shard=claim.shard)


def _complaints(creations: Sequence[NewRun], refusal: Exception, now: int) -> Iterator[Signal]:
    """What the parents hear: the same as of a child that failed."""
    error = {"type": type(refusal).__name__, "message": str(refusal)}
    for new in creations:
        run = new.run
        if run.parent is not None and run.parent_step is not None:
            data = event_data(run=run.id, step=run.parent_step, status="failed", error=error)
            yield Signal("", None, run.parent, "child", data, "", now)
