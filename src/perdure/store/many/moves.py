"""How does a shard move to another database, online? Frozen, copied, then home says where it lives, and it opens there.

    note the move -> its owner gives it up -> freeze here -> deliver what it sent -> freeze and empty there -> copy
                  -> place = there -> drop here -> open there -> forget the move

What home says is the place: before that the shard is whole here, after it there, and nowhere else can anybody own it.
A move that was begun is noted at home, and one mover at a time holds a lease on it. When that runs out, whoever looks
next undoes the move, or finishes it if the place was changed. An owner that did not give the shard up in time loses it
all the same: while it is frozen his writes are refused. Messages and new runs for it wait as parcels.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import NamedTuple, Self

from perdure.errors import NotFound, StoreBusy, StoreError
from perdure.store.contract import Cursor, Lease, Transaction
from perdure.store.exchange import Exchange, Note
from perdure.store.many.members import Members, keep
from perdure.store.many.places import Places
from perdure.store.many.relay import Relay
from perdure.store.member import Member
from perdure.values.clock import Clock
from perdure.values.ids import new_node_id

log = logging.getLogger("perdure.store")

#: How long a mover that does not renew is believed to be at work.
_LEASE_SECONDS = 30.0
#: How often to look whether its owner has given a shard up.
_LOOK_SECONDS = 0.05
_PAGE = 1_000
_PARCELS_MAX = 100_000
_ENDING = " ending"


class _Move(NamedTuple):
    """A move as home notes it."""

    shard: str
    source: int
    target: int
    #: grows with every mover of this shard
    number: int

    @property
    def begun(self) -> str:
        """The note of a move that may still change the place."""
        return f"{self.source} {self.target} {self.number}"

    @property
    def ending(self) -> str:
        """The note of a move that may not, any more."""
        return f"{self.begun}{_ENDING}"


class _Mover:
    """The right to move one shard: a lease at home, whose epoch is the number of the move."""

    def __init__(self, home: Member, clock: Clock, shard: str) -> None:
        self._home = home
        self._clock = clock
        self._shard = shard
        self._node = new_node_id()
        self._leases: list[Lease] = []
        self._renewed = 0.0

    @property
    def number(self) -> int:
        """Grows from mover to mover."""
        return self._leases[0].epoch

    async def __aenter__(self) -> Self:
        self._renewed = self._clock.monotonic()
        self._leases = await self._home.claim(self._node, [f"{self._shard} (move)"], _LEASE_SECONDS)
        if not self._leases:
            raise StoreBusy(f"shard {self._shard} is being moved by somebody else. Try again in a minute.")
        return self

    async def __aexit__(self, *_: object) -> None:
        # A home that does not answer now: the lease runs out by itself.
        with suppress(StoreError):
            await self._home.release(self._node, self._leases)

    async def stay(self) -> None:
        """Go on holding it. Raises StoreBusy when somebody else took over."""
        now = self._clock.monotonic()
        if now - self._renewed > _LEASE_SECONDS / 3:
            if not await self._home.renew(self._node, self._leases, _LEASE_SECONDS):
                raise StoreBusy(f"the move of shard {self._shard} took too long between two pages. Move it again.")
            self._renewed = now


class Moves:
    """Moves shards, and ends the moves that others began and left."""

    def __init__(self, members: Members, places: Places, relay: Relay, clock: Clock) -> None:
        self._members = members
        self._stores = members.stores
        self._places = places
        self._relay = relay
        self._clock = clock

    async def move(self, shard: str, target: int, finish_seconds: float) -> None:
        """Let `shard` live in database `target`; its owner may take `finish_seconds` to give it up in good order.

        May be repeated, whatever became of it before.

        Raises NotFound, and StoreBusy: another move of it is under way, or a database did not answer in time.
        """
        async with _Mover(self._members.home, self._clock, shard) as mover:
            await self._end(shard, mover)
            source = self._places.of(shard)
            if source is None:
                raise NotFound(f"there is no shard {shard} in this store: nothing was ever recorded in it")
            if source != target:
                await self._carry(_Move(shard, source, target, mover.number), mover, finish_seconds)

    async def begun(self) -> list[str]:
        """The shards that are about to leave their databases."""
        noted = await self._members.home.notes("move")
        return [shard for shard, move in noted.items() if not move.endswith(_ENDING)]

    async def heal(self) -> None:
        """End the moves whose movers are gone."""
        for shard in await self._members.home.notes("move"):
            # A mover that is at work, or a database that is away: the next look.
            with suppress(StoreBusy):
                async with _Mover(self._members.home, self._clock, shard) as mover:
                    await self._end(shard, mover)

    async def _end(self, shard: str, mover: _Mover) -> None:
        """Finish the move that is noted if the shard has its new place, else undo it."""
        noted = (await self._members.home.notes("move", shard)).get(shard)
        if noted is not None:
            source, target, *_ = noted.split()
            move = _Move(shard, int(source), int(target), mover.number)
            # First of all, so that nobody can change the place after it was looked at, however late he is heard.
            await self._note(move, move.ending, was=noted)
            await self._places.refresh()
            log.warning("the move of shard %s was left half done: it is ended now", shard)
            await (self._finish(move) if self._places.of(shard) == move.target else self._undo(move))
        await self._places.refresh()

    async def _carry(self, move: _Move, mover: _Mover, finish_seconds: float) -> None:
        await self._note(move, move.begun, was=None)
        try:
            await self._wait_for_owner(move, mover, finish_seconds)
            await self._stores[move.source].freeze_shard(move.shard, move.number)
            await self._deliver_sent(move)
            await self._copy(move, mover)
            await self._switch(move)
            await self._finish(move)
        except StoreError:
            # A database that is away must not keep the shard from its owner.
            await self._end(move.shard, mover)
            if self._places.of(move.shard) != move.target:
                raise

    async def _wait_for_owner(self, move: _Move, mover: _Mover, seconds: float) -> None:
        # It hears of the move with its next beat (ManyStores.beat); nobody claims the shard meanwhile.
        until = self._clock.monotonic() + seconds
        while self._clock.monotonic() < until and await self._owned(move):
            passed = asyncio.Event()
            self._clock.call_later(_LOOK_SECONDS, passed.set)
            await passed.wait()
            await mover.stay()

    async def _owned(self, move: _Move) -> bool:
        shards = await self._stores[move.source].shards()
        return any(shard.alive for shard in shards if shard.name == move.shard)

    async def _deliver_sent(self, move: _Move) -> None:
        """What the shard sent goes before it: later parcels will come from elsewhere, and must not overtake."""
        await self._relay.deliver()
        if any(parcel.sender == move.shard for parcel in await self._stores[move.source].parcels(_PARCELS_MAX)):
            raise StoreBusy(f"shard {move.shard} has sent what cannot be delivered now. Move it again later.")

    async def _copy(self, move: _Move, mover: _Mover) -> None:
        source, target = self._stores[move.source], self._stores[move.target]
        await target.freeze_shard(move.shard, move.number)
        await target.drop_shard(move.shard, move.number)  # what an earlier move left
        at: Cursor = None
        while True:
            page, at = await source.export_shard(move.shard, at, _PAGE)
            await target.import_shard(move.shard, move.number, page)
            if at is None:
                return
            await mover.stay()

    async def _switch(self, move: _Move) -> None:
        """From here on the shard lives elsewhere: the one moment that decides."""
        place = Note("place", move.shard, str(move.target), was=str(move.source))
        mine = Note("move", move.shard, move.ending, was=move.begun)
        [refusal] = await self._members.home.commit([Transaction(exchange=Exchange(notes=[place, mine]))])
        if isinstance(refusal, Exception):
            raise StoreBusy(f"the move of shard {move.shard} was taken over by somebody else") from refusal
        await self._places.refresh()

    async def _finish(self, move: _Move) -> None:
        source, target = self._stores[move.source], self._stores[move.target]
        epoch = await source.freeze_shard(move.shard, move.number)
        await target.freeze_shard(move.shard, move.number)
        # Gone here before it opens there: nobody ever sees two that differ.
        await source.drop_shard(move.shard, move.number)
        await target.thaw_shard(move.shard, move.number, epoch)
        await self._forget(move)

    async def _undo(self, move: _Move) -> None:
        source = self._stores[move.source]
        epoch = await source.freeze_shard(move.shard, move.number)
        await source.thaw_shard(move.shard, move.number, epoch)
        await self._forget(move)

    async def _note(self, move: _Move, text: str, *, was: str | None) -> None:
        if not await keep(self._members.home, Note("move", move.shard, text, was=was)):
            raise StoreBusy(f"shard {move.shard} is being moved by somebody else. Try again in a minute.")

    async def _forget(self, move: _Move) -> None:
        await keep(self._members.home, Note("move", move.shard, None, was=move.ending))
        await self._relay.deliver()
