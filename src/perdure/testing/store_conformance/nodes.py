"""Nodes: who is there, what it says of itself, and how it goes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from perdure.errors import NotFound
from perdure.store.contract import DEAD_KEPT_SECONDS
from perdure.testing.store_conformance.bench import LEASE_SECONDS, Bench, StoreTests


class NodeTests(StoreTests):
    """What holds for nodes that beat."""

    def test_a_node_is_alive_while_it_beats(self, tmp_path: Path) -> None:
        """Its lease counts from its last beat; when that has run out others see it dead, not only gone."""

        async def scenario(bench: Bench) -> None:
            assert await bench.store.nodes() == []
            assert await bench.beat("node_a") == ["node_a"]
            await bench.clock.advance(LEASE_SECONDS / 2)
            assert await bench.beat("node_b", "node_a") == ["node_a", "node_b"]
            await bench.clock.advance(LEASE_SECONDS / 2)
            assert await bench.beat("node_a") == ["node_a", "node_b"]
            await bench.clock.advance(LEASE_SECONDS / 2)
            assert [(node.id, node.alive) for node in await bench.store.nodes()] == [
                ("node_a", True),
                ("node_b", False),
            ]
            assert await bench.beat("node_a") == ["node_a"]
            assert await bench.beat("node_b") == ["node_a", "node_b"]

        self.play(tmp_path, scenario)

    def test_a_node_is_listed_as_it_last_said(self, tmp_path: Path) -> None:
        """What the store gives it is the store's own, whatever the node says of that."""

        async def scenario(bench: Bench) -> None:
            said = bench.node(
                "node_a", programs=(("buyer", "v1"), ("seller", "v2")), figures='{"moving":3}', alive=True, expires=7
            )
            given = replace(said, expires=bench.clock.now_us() + round(LEASE_SECONDS * 1e6))
            assert await bench.store.beat(said, LEASE_SECONDS) == [given]
            assert await bench.store.nodes() == [given]
            said = replace(said, programs=(("buyer", "v2"),), draining=True, figures="{}", drain_asked=True)
            given = replace(said, expires=given.expires + 1_000_000, drain_asked=False)
            assert await bench.store.beat(said, LEASE_SECONDS + 1) == [given]

        self.play(tmp_path, scenario)

    def test_nodes_come_by_the_time_they_are_there(self, tmp_path: Path) -> None:
        """In the same order for everybody, so that all work out the same from it."""

        async def scenario(bench: Bench) -> None:
            for node, started in (("node_b", 5), ("node_c", 9), ("node_d", 2)):
                await bench.store.beat(bench.node(node, started=started), LEASE_SECONDS)
            living = await bench.store.beat(bench.node("node_a", started=5), LEASE_SECONDS)
            assert [node.id for node in living] == ["node_d", "node_a", "node_b", "node_c"]
            assert await bench.store.nodes() == living

        self.play(tmp_path, scenario)

    def test_the_dead_are_forgotten_in_the_end(self, tmp_path: Path) -> None:
        """After an hour, with the next beat of somebody."""

        async def scenario(bench: Bench) -> None:
            await bench.beat("node_a")
            await bench.clock.advance(LEASE_SECONDS + DEAD_KEPT_SECONDS - 1)
            await bench.beat("node_b")
            assert [node.id for node in await bench.store.nodes()] == ["node_a", "node_b"]
            await bench.clock.advance(1)
            await bench.beat("node_b")
            assert [node.id for node in await bench.store.nodes()] == ["node_b"]

        self.play(tmp_path, scenario)

    def test_a_node_that_leaves_is_gone_at_once(self, tmp_path: Path) -> None:
        """Leaving twice is fine; its shards are another matter."""

        async def scenario(bench: Bench) -> None:
            await bench.beat("node_a", "node_b")
            for _ in range(2):
                await bench.store.leave("node_a")
                assert [node.id for node in await bench.store.nodes()] == ["node_b"]
            assert [shard.owner for shard in await bench.store.shards()] == ["node_a"]

        self.play(tmp_path, scenario)

    def test_a_node_hears_that_it_is_to_drain(self, tmp_path: Path) -> None:
        """With its next beat and every one after it, as long as it is there; another node is not meant."""

        async def scenario(bench: Bench) -> None:
            store = bench.store
            await bench.beat("node_a", "node_b")
            await store.ask_drain("node_a")
            for _ in range(2):
                living = await store.beat(bench.node("node_a"), LEASE_SECONDS)
                assert [(node.id, node.drain_asked) for node in living] == [("node_a", True), ("node_b", False)]
            await store.leave("node_a")
            await bench.beat("node_a")
            assert [node.drain_asked for node in await store.nodes()] == [False, False]

        self.play(tmp_path, scenario)

    def test_nobody_can_be_asked_who_is_not_known(self, tmp_path: Path) -> None:
        """The error names the node."""

        async def scenario(bench: Bench) -> None:
            await bench.beat("node_a")
            with pytest.raises(NotFound, match="node_b"):
                await bench.store.ask_drain("node_b")

        self.play(tmp_path, scenario)

    def test_processes_see_each_others_nodes(self, tmp_path: Path) -> None:
        """And ask each other."""

        async def scenario(bench: Bench) -> None:
            other = bench.beside()
            await other.open()
            await bench.beat("node_a")
            living = await other.beat(bench.node("node_b"), LEASE_SECONDS)
            assert [node.id for node in living] == ["node_a", "node_b"]
            assert await bench.store.nodes() == living
            await other.ask_drain("node_a")
            assert [node.drain_asked for node in await bench.store.nodes()] == [True, False]
            if other is not bench.store:
                await other.close()

        self.play(tmp_path, scenario)
