"""Documents in a SQLite file: what has expired leaves nothing behind."""

from __future__ import annotations

import asyncio

import apsw

from perdure.store import SqliteStore
from perdure.store.contract import Document
from perdure.testing.clock import FakeClock


def ids(path) -> list[str]:
    """What is in the file, whether it can be seen or not."""
    db = apsw.Connection(str(path))
    try:
        return [id for (id,) in db.execute("select id from perdure_documents order by id")]
    finally:
        db.close()


def test_nothing_is_left_of_what_has_expired(tmp_path):
    """Once another of its kind is written, or tried to be."""

    async def scenario() -> None:
        clock = FakeClock()
        store = SqliteStore(str(tmp_path / "runs.db"), clock=clock)
        await store.open()
        for number in range(3):
            await store.put_document(Document("code", f"{number}", "{}", expires=clock.now_us() + 1_000_000))
        await store.put_document(Document("cookie", "9", "{}", expires=clock.now_us() + 1_000_000))
        await clock.advance(1)
        assert await store.documents("code") == []
        assert ids(tmp_path / "runs.db") == ["0", "1", "2", "9"]
        assert await store.put_document(Document("code", "5", "{}", version=3)) is None
        assert ids(tmp_path / "runs.db") == ["9"]
        await store.close()

    asyncio.run(scenario())
