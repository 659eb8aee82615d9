"""What does a batch have to do with other databases? Its notes, parcels and deliveries, as write_1 takes them."""

from __future__ import annotations

from operator import itemgetter
from typing import Any

from perdure.errors import AlreadySettled, InvalidSetting
from perdure.store.exchange import Delivery, Exchange, Parcel
from perdure.store.postgres.connections import Connections
from perdure.store.queries import load_queries

_SQL = load_queries("postgres", "exchange")


class Crossings:
    """The exchanges of a batch, put together. Each kind is in the order of its keys: so locks are taken in one order."""

    def __init__(self) -> None:
        self._deliveries: dict[tuple[str, str], dict[str, Any]] = {}
        self._unposts: list[dict[str, Any]] = []
        self._notes: list[dict[str, Any]] = []
        self._posts: list[dict[str, Any]] = []

    def add(self, exchange: Exchange) -> None:
        """Put one more in. Raises AlreadySettled for a parcel that comes behind a later one."""
        if exchange.deliver is not None:
            self._deliver(exchange.deliver)
        self._unposts += [{"shard": shard, "number": number} for shard, number in exchange.unpost]
        self._notes += [
            {"kind": note.kind, "name": note.name, "value": note.value, "was": note.was, "shard": note.shard}
            for note in exchange.notes
        ]
        self._posts += [{"shard": one.shard, "sender": one.sender, "body": one.body} for one in exchange.post]

    def rows(self) -> dict[str, list[dict[str, Any]]]:
        """What is to be done, by what it is."""
        return {
            "deliveries": [self._deliveries[channel] for channel in sorted(self._deliveries)],
            "unposts": self._unposts,
            # Notes of one name stay in the order in which they were given.
            "notes": sorted(self._notes, key=itemgetter("kind", "name")),
            "posts": self._posts,
        }

    def _deliver(self, delivery: Delivery) -> None:
        sender, shard, number = delivery
        channel = self._deliveries.setdefault(
            (shard, sender), {"shard": shard, "sender": sender, "first": number, "last": number - 1}
        )
        if number <= channel["last"]:
            raise AlreadySettled(f"parcel {number} for {shard} was delivered before")
        channel["last"] = number


class Exchanges:
    """Reads notes and parcels. All methods raise StoreError."""

    def __init__(self, connections: Connections) -> None:
        self._place = connections.place
        self._fetch = connections.fetch

    async def notes(self, kind: str, name: str | None = None) -> dict[str, str]:
        """All notes of a kind, or the one with this name."""
        rows: list[Any] = await self._fetch(_SQL["notes"], {"kind": kind, "name": name})
        return dict(rows)

    async def parcels(self, limit: int) -> list[Parcel]:
        """What is to be delivered, in order."""
        return [Parcel(*row) for row in await self._fetch(_SQL["parcels"], (limit,))]

    async def refuse_part(self) -> None:
        """Raise InvalidSetting for one of several databases that is opened alone."""
        if await self.notes("home") or len(await self.notes("member")) > 1:
            raise InvalidSetting(
                f"{self._place} is one of several databases of a store, which is not whole without the others. Give all of "
                f"them, in the order in which the store was made: --store URL,URL. Nothing was changed."
            )
