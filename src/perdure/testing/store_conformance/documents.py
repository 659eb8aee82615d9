"""Documents: kept as they are given, written by one of many, gone when their time is over."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from perdure.store.contract import Document
from perdure.testing.store_conformance.bench import Bench, StoreTests
from perdure.values.json import decode, encode

#: What a store might take for something else than text.
HOSTILE = [
    "\t\n", " ", "%s %(id)s %", "' or '1'='1", "../../etc", ":id ?1 $1", "NULL", "Z", "\\", "a", "a\x7f", "key:1", "{}",
    '"; drop table documents; --', "ä", "日本", "\ufeff", "😀", "😀" * 200,
]  # fmt: skip


class DocumentTests(StoreTests):
    """What holds for small records that belong to no run."""

    @pytest.mark.parametrize("name", HOSTILE)
    def test_a_document_is_kept_as_it_was_given(self, tmp_path: Path, name: str) -> None:
        """Whatever its kind, its id and its data hold; seen by other processes, and after the store was opened again."""

        async def scenario(bench: Bench) -> None:
            given = Document(name, name, encode({name: [name, "\0"]}), expires=bench.clock.now_us() + 1)
            kept = await bench.store.put_document(given)
            assert kept == replace(given, version=1)
            assert await bench.store.document(name, name) == kept
            assert await bench.store.documents(name) == [kept]
            other = bench.beside()
            await other.open()
            assert await other.document(name, name) == kept
            if other is not bench.store:
                await other.close()
            await bench.store.close()
            await bench.store.open()
            assert await bench.store.document(name, name) == kept
            assert decode(kept.data) == {name: [name, "\0"]}

        self.play(tmp_path, scenario)

    @pytest.mark.parametrize("name", ["", "x" * 201, "a\0b", "\ud800"])
    def test_what_no_kind_or_id_can_be_is_refused(self, tmp_path: Path, name: str) -> None:
        """By every call, in every store, and not by its driver."""

        async def scenario(bench: Bench) -> None:
            store = bench.store
            for kind, id in ((name, "a"), ("key", name)):
                with pytest.raises(ValueError, match="document"):
                    await store.put_document(Document(kind, id, "{}"))
                with pytest.raises(ValueError, match="document"):
                    await store.document(kind, id)
                with pytest.raises(ValueError, match="document"):
                    await store.drop_document(kind, id)
            with pytest.raises(ValueError, match="document"):
                await store.documents(name)
            if name:
                with pytest.raises(ValueError, match="document"):
                    await store.documents("key", after=name)
            assert await store.documents("key") == []

        self.play(tmp_path, scenario)

    @pytest.mark.parametrize(
        "given",
        [
            Document("key", "a", '"\0"'), Document("key", "a", '"\udc00"'), Document("key", "a", "{}", version=-1),
            Document("key", "a", "{}", version=2**63), Document("key", "a", "{}", expires=2**63),
            Document("key", "a", "{}", expires=-1),
        ],
    )  # fmt: skip
    def test_what_cannot_be_kept_is_refused(self, tmp_path: Path, given: Document) -> None:
        """The error says what is wrong, and neither the id nor the data: they may be secret."""

        async def scenario(bench: Bench) -> None:
            with pytest.raises(ValueError, match=r"^a document of kind key"):
                await bench.store.put_document(given)
            assert await bench.store.documents("key") == []

        self.play(tmp_path, scenario)

    def test_a_document_is_written_over_the_version_that_is_named(self, tmp_path: Path) -> None:
        """And over no other. The same call again, after its answer was lost, is told that somebody was first."""

        async def scenario(bench: Bench) -> None:
            store = bench.store
            assert await store.put_document(Document("key", "a", "0", version=1)) is None
            assert await store.document("key", "a") is None
            first = await store.put_document(Document("key", "a", "1"))
            assert first is not None
            assert await store.put_document(Document("key", "a", "1")) is None
            second = await store.put_document(replace(first, data="2", expires=bench.clock.now_us() + 9))
            assert second == Document("key", "a", "2", 2, bench.clock.now_us() + 9)
            for stale in (replace(first, data="3"), replace(first, version=3), replace(first, version=0)):
                assert await store.put_document(stale) is None
            assert await store.document("key", "a") == second
            third = await store.put_document(replace(second, expires=None))
            assert third == Document("key", "a", "2", 3)

        self.play(tmp_path, scenario)

    def test_of_many_writers_one_wins(self, tmp_path: Path) -> None:
        """To make a document, and to change it: of processes that own no shard too."""

        async def scenario(bench: Bench) -> None:
            other = bench.beside()
            await other.open()
            stores = [bench.store, other] * 3
            kept: Document | None = None
            for version in range(20):
                given = [Document("key", "a", f"{writer}", version) for writer in range(len(stores))]
                written = await asyncio.gather(
                    *(store.put_document(document) for store, document in zip(stores, given, strict=True))
                )
                [kept] = [document for document in written if document is not None]
                assert kept == replace(given[written.index(kept)], version=version + 1)
                assert await other.document("key", "a") == await bench.store.document("key", "a") == kept
            dropped = await asyncio.gather(*(store.drop_document("key", "a", 20) for store in stores))
            assert sorted(dropped) == [False] * 5 + [True]
            if other is not bench.store:
                await other.close()

        self.play(tmp_path, scenario)

    def test_a_document_is_gone_when_it_has_expired(self, tmp_path: Path) -> None:
        """From that microsecond on, as if it had never been: what takes its place begins anew."""

        async def scenario(bench: Bench) -> None:
            store = bench.store
            now = bench.clock.now_us()
            old = await store.put_document(Document("code", "a", "1", expires=now + 2_000_000))
            assert old is not None
            old = await store.put_document(replace(old, data="2"))
            lasting = await store.put_document(Document("code", "b", "1"))
            await bench.clock.advance(1.999999)
            assert await store.document("code", "a") == old
            assert await store.documents("code") == [old, lasting]
            await bench.clock.advance(0.000001)
            assert old is not None
            assert await store.document("code", "a") is None
            assert await store.documents("code") == [lasting]
            assert await store.put_document(replace(old, expires=None)) is None
            assert not await store.drop_document("code", "a")
            assert not await store.drop_document("code", "a", old.version)
            anew = await store.put_document(Document("code", "a", "3"))
            assert anew == Document("code", "a", "3", 1)
            assert await store.documents("code") == [anew, lasting]

        self.play(tmp_path, scenario)

    def test_others_of_a_kind_expire_while_one_is_written(self, tmp_path: Path) -> None:
        """They take nothing along: neither what lasts longer nor what is of another kind."""

        async def scenario(bench: Bench) -> None:
            store, now = bench.store, bench.clock.now_us()
            for kind in ("code", "cookie"):
                for number, expires in enumerate([now + 1_000_000, now + 1_000_001, None]):
                    await store.put_document(Document(kind, f"{number}", "{}", expires=expires))
            await bench.clock.advance(1)
            await store.put_document(Document("code", "3", "{}"))
            assert [document.id for document in await store.documents("code")] == ["1", "2", "3"]
            assert [document.id for document in await store.documents("cookie")] == ["1", "2"]

        self.play(tmp_path, scenario)

    def test_kinds_do_not_mix(self, tmp_path: Path) -> None:
        """What is done to one leaves a namesake of another kind as it is."""

        async def scenario(bench: Bench) -> None:
            store = bench.store
            key = await store.put_document(Document("key", "a", "1"))
            await store.put_document(Document("keys", "a", "2"))
            await store.put_document(Document("keys", "a", "3", version=1))
            assert await store.drop_document("keys", "a")
            assert await store.documents("keys") == []
            assert await store.documents("key") == [key]
            assert await store.documents("ke") == []

        self.play(tmp_path, scenario)

    def test_a_list_is_read_page_by_page(self, tmp_path: Path) -> None:
        """By id, character by character, in every store alike; from any text on."""

        async def scenario(bench: Bench) -> None:
            store = bench.store
            for name in reversed(HOSTILE):
                await store.put_document(Document("key", name, "{}"))
            found: list[str] = []
            while page := await store.documents("key", after=found[-1] if found else "", limit=4):
                assert len(page) <= 4
                found += [document.id for document in page]
            assert found == sorted(HOSTILE)
            rest = [document.id for document in await store.documents("key", after="b")]
            assert rest == [name for name in sorted(HOSTILE) if name > "b"]

        self.play(tmp_path, scenario)

    def test_a_document_is_dropped_in_the_version_that_is_meant(self, tmp_path: Path) -> None:
        """Or in any, if none is named; once. It may be made again then."""

        async def scenario(bench: Bench) -> None:
            store = bench.store
            first = await store.put_document(Document("key", "a", "1"))
            assert first is not None
            await store.put_document(first)
            assert not await store.drop_document("key", "a", 1)
            assert not await store.drop_document("key", "b")
            assert await store.document("key", "a") is not None
            assert await store.drop_document("key", "a", 2)
            assert await store.document("key", "a") is None
            assert not await store.drop_document("key", "a", 2)
            assert await store.put_document(replace(first, version=2)) is None
            assert await store.put_document(Document("key", "a", "1")) == first
            assert await store.drop_document("key", "a")
            assert not await store.drop_document("key", "a")

        self.play(tmp_path, scenario)
