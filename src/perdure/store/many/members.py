"""Which databases make up the store, and in which order? The first is home: it keeps what all have to agree on.

Each database has an id of its own. Home knows the ids of all, in their order, and each of the others knows its home. So
a list that lacks one, has a foreign one or is in another order is refused before anything is written.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from perdure.errors import AlreadyExists, InvalidSetting
from perdure.store.contract import Transaction
from perdure.store.exchange import Exchange, Note
from perdure.store.member import Member

T = TypeVar("T")


class Members:
    """The databases of one store. `names` are for people: no passwords in them."""

    def __init__(self, stores: Mapping[str, Member]) -> None:
        if not stores:
            raise InvalidSetting("a store needs at least one database")
        self.names = list(stores)
        self.stores = list(stores.values())
        self.ids: list[str] = []
        for store in self.stores:
            store.join()

    @property
    def home(self) -> Member:
        """The first database."""
        return self.stores[0]

    async def open(self) -> None:
        """Open all. Raises StoreError, and InvalidSetting for another list than the store was made with."""
        try:
            await self.all(lambda store: store.open())
            self.ids = await self.all(_id_of)
            await self._check()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close all."""
        await self.all(lambda store: store.close())

    async def all(self, call: Callable[[Member], Awaitable[T]]) -> list[T]:
        """Ask every database, at once; answers in their order."""
        return list(await asyncio.gather(*(call(store) for store in self.stores)))

    async def _check(self) -> None:
        noted = await self.home.notes("member")
        known = [noted[str(index)] for index in range(len(noted))]
        homes = await self.all(lambda store: store.notes("home"))
        self._refuse_foreign([home.get("id") for home in homes])
        if self.ids[: len(known)] != known or len(set(self.ids)) < len(self.ids):
            raise InvalidSetting(self._remedy(known))
        for index in range(len(known), len(self.ids)):
            await self._add(index)

    def _refuse_foreign(self, homes: list[str | None]) -> None:
        for name, home in zip(self.names, homes, strict=True):
            if home not in {None, self.ids[0]}:
                raise InvalidSetting(
                    f"{name} belongs to a store with another first database than {self.names[0]}. Give the databases of "
                    f"that store, all and in its order; nothing was changed."
                )

    def _remedy(self, known: list[str]) -> str:
        names = dict(zip(self.ids, self.names, strict=True))
        wanted = ",".join(names.get(id, f"(the database with id {id})") for id in known)
        return (
            f"the databases are not given as the store was made: --store {wanted}. Keep that order; more can be added "
            f"at its end, each once. Nothing was changed."
        )

    async def _add(self, index: int) -> None:
        held = await self.stores[index].held()
        if index == 0:
            # A store of one database becomes the first of several: what it has stays where it is.
            for shard in held:
                await keep(self.home, Note("place", shard, "0"))
        elif held:
            raise InvalidSetting(
                f"{self.names[index]} holds runs of its own: only a new database can be added to a store. Name another, or "
                f"put it first. Nothing was changed."
            )
        else:
            await keep(self.stores[index], Note("home", "id", self.ids[0]))
        await keep(self.home, Note("member", str(index), self.ids[index]))


async def keep(store: Member, note: Note) -> bool:
    """Keep a note; False when it is not what it `was`."""
    [outcome] = await store.commit([Transaction(exchange=Exchange(notes=[note]))])
    if isinstance(outcome, AlreadyExists):
        return False
    if isinstance(outcome, Exception):
        raise outcome
    return True


async def _id_of(store: Member) -> str:
    if not (noted := await store.notes("self")):
        await keep(store, Note("self", "id", secrets.token_hex(8)))
        noted = await store.notes("self")
    return noted["id"]
