"""A URL names a store."""

from __future__ import annotations

import asyncio

import pytest

from perdure.errors import InvalidSetting
from perdure.store import MemoryStore, SqliteStore, store_from_url
from perdure.store.many import ManyStores
from perdure.store.postgres import PostgresStore
from perdure.store.urls import without_passwords


def test_known_schemes_name_stores(tmp_path, monkeypatch):
    """Three slashes are a path from here, four an absolute one."""
    monkeypatch.chdir(tmp_path)
    assert isinstance(store_from_url("memory://"), MemoryStore)
    for url, path in (
        ("sqlite:///shop.db", tmp_path / "shop.db"),
        ("sqlite:///.perdure/shop.db", tmp_path / ".perdure/shop.db"),
        (f"sqlite:///{tmp_path}/absolute.db", tmp_path / "absolute.db"),
    ):
        store = store_from_url(url)
        assert isinstance(store, SqliteStore)
        asyncio.run(store.open())
        assert path.is_file()
        asyncio.run(store.close())


@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
def test_a_list_of_hosts_is_one_database_and_a_list_of_urls_are_several(scheme):
    """Both have commas: what stands behind it tells."""
    assert isinstance(store_from_url(f"{scheme}://me:hush@h1:5432,h2:5433/shop"), PostgresStore)
    several = store_from_url(f"{scheme}://me:hush@h1,h2/shop,{scheme}://me:hush@h3/shop")
    assert isinstance(several, ManyStores)
    assert several._members.names == [f"{scheme}://me@h1,h2/shop", f"{scheme}://me@h3/shop"]
    with pytest.raises(InvalidSetting, match="given twice") as refused:
        store_from_url(f"{scheme}://me:hush@h1/shop,{scheme}://me:other@h1/shop")
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "shop.db",
        "sqlite:",
        "sqlite://",
        "sqlite:///",
        "sqlite://shop.db",
        "memory://x",
        "mysql://h/d",
        "postgresql://",
    ],
)
def test_other_urls_are_refused(url):
    """With the ones that work."""
    with pytest.raises(InvalidSetting, match=r"memory://.*sqlite:///"):
        store_from_url(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:////home/a@b:c/shop.db", "sqlite:////home/a@b:c/shop.db"),
        ("postgresql://host/shop", "postgresql://host/shop"),
        ("postgresql://me:hush@host:5432/shop", "postgresql://me@host:5432/shop"),
        ("postgresql://me:hu@sh@host/shop", "postgresql://me@host/shop"),
        ("postgresql://me:hu/sh@h1,h2/shop?password=hush", "postgresql://me@h1,h2/shop"),
        ("postgresql://:hush@a/x,postgresql://me:hush@b/y", "postgresql://@a/x,postgresql://me@b/y"),
        ("postgressql://me:hush@host/shop", "postgressql://me@host/shop"),
    ],
)
def test_a_url_is_shown_without_its_passwords(url, shown):
    """Whatever it holds, and whether it can be used or not; errors show it so too."""
    assert without_passwords(url) == shown
    if url.startswith("postgressql"):
        with pytest.raises(InvalidSetting) as refused:
            store_from_url(url)
        assert "hush" not in str(refused.value)
