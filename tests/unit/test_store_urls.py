"""A URL names a store."""

from __future__ import annotations

import asyncio

import pytest

from perdure.errors import InvalidSetting
from perdure.store import MemoryStore, SqliteStore, store_from_url


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


@pytest.mark.parametrize(
    "url", ["", "shop.db", "sqlite:", "sqlite://", "sqlite:///", "sqlite://shop.db", "memory://x", "postgresql://h/d"]
)
def test_other_urls_are_refused(url):
    """With the ones that work."""
    with pytest.raises(InvalidSetting, match=r"memory://.*sqlite:///"):
        store_from_url(url)
