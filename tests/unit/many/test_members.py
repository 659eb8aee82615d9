"""The databases of a store, and their order."""

from __future__ import annotations

import asyncio

import pytest

from perdure.errors import InvalidSetting
from perdure.store import MemoryStore, SqliteStore, store_from_url
from perdure.store.contract import RunFilter, Transaction
from perdure.store.many import ManyStores
from tests.unit.many.databases import Databases, must


def opened(**stores):
    """Open a store of these databases, and close it."""

    async def open_and_close():
        store = ManyStores(stores)
        await store.open()
        await store.close()

    asyncio.run(open_and_close())


def test_the_databases_are_always_given_alike():
    """In another order, without one or with a foreign one they are refused, with the list that is right."""
    a, b, c = (MemoryStore() for _ in range(3))
    opened(a=a, b=b)
    opened(a=a, b=b)
    for stores in ({"b": b, "a": a}, {"b": b}, {"c": c, "b": b}):
        with pytest.raises(InvalidSetting, match="another first database"):
            opened(**stores)
    with pytest.raises(InvalidSetting, match="--store a,"):
        opened(a=a)
    with pytest.raises(InvalidSetting, match=r"--store a,.*end"):
        opened(a=a, c=c)
    with pytest.raises(InvalidSetting, match="each once"):
        opened(a=a, b=b, c=b)
    opened(a=a, b=b)


def test_a_database_is_added_at_the_end():
    """What was there stays where it was; afterwards the list without it is refused."""

    async def scenario():
        there = Databases()
        await there.settle()
        store = await there.open()
        await store.claim("node_a", [f"agent:{slot}" for slot in range(16)], 10)
        before = await store.places()
        await store.close()
        third = MemoryStore(clock=there.clock)
        more = ManyStores({"first": there.first, "second": there.second, "third": third}, clock=there.clock)
        await more.open()
        assert await more.places() == before
        await more.claim("node_a", [f"other:{slot}" for slot in range(15)], 10)
        places = list((await more.places()).values())
        assert [places[len(before) :].count(name) for name in ("first", "second", "third")] != [0, 0, 0]
        assert places.count("third") == 5
        await more.close()
        with pytest.raises(InvalidSetting, match="the databases are not given"):
            await there.open()

    asyncio.run(scenario())


def test_the_shards_of_an_agent_are_spread_evenly():
    """Sixteen shards in two databases are eight in each."""

    async def scenario():
        store = await Databases().open()
        await store.claim("node_a", [f"agent:{slot}" for slot in range(16)], 10)
        places = list((await store.places()).values())
        assert [places.count(name) for name in ("first", "second")] == [8, 8]
        await store.close()

    asyncio.run(scenario())


def test_a_store_of_one_database_becomes_the_first_of_several():
    """Its runs stay where they are; one that has runs cannot be added behind another."""

    async def scenario():
        there = Databases()
        await must(there.first, Transaction(create=[there.new("run_1", "agent:3"), there.new("run_2", "agent:4")]))
        with pytest.raises(InvalidSetting, match="only a new database"):
            await ManyStores({"second": there.second, "first": there.first}).open()
        there.second = MemoryStore(clock=there.clock)
        store = await there.open()
        assert await store.places() == {"agent:3": "first", "agent:4": "first"}
        assert len(await store.runs(RunFilter())) == 2
        await store.close()

    asyncio.run(scenario())


def test_a_list_of_urls_is_one_store(tmp_path):
    """With commas between; twice the same is refused, without the password that stands in it."""
    store = store_from_url(f"sqlite:///{tmp_path}/a.db,sqlite:///{tmp_path}/b.db")
    assert isinstance(store, ManyStores)

    async def scenario():
        await store.open()
        assert await store.check() == []
        await store.close()

    asyncio.run(scenario())
    for name in ("a", "b"):
        with pytest.raises(InvalidSetting, match=f"{name}.db is one of several"):
            asyncio.run(SqliteStore(f"{tmp_path}/{name}.db").open())
    asyncio.run(scenario())
    assert {file.name for file in tmp_path.glob("*.db")} == {"a.db", "b.db"}
    assert isinstance(store_from_url(f"sqlite:///{tmp_path}/a,b.db"), SqliteStore)
    with pytest.raises(InvalidSetting, match="twice"):
        store_from_url("sqlite:///a.db,sqlite:///a.db")
