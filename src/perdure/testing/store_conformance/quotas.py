"""Quotas: what a node may hold of a limit that all share, never more in total than there is."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from perdure.store.contract import TURN_SECONDS, QuotaWish
from perdure.testing.store_conformance.bench import LEASE_SECONDS, Bench, StoreTests

NODES = ["node_a", "node_b", "node_c", "node_d"]


class QuotaTests(StoreTests):
    """What holds for shares of limits."""

    def test_a_node_alone_may_hold_all(self, tmp_path: Path) -> None:
        """What it wants, up to the limit; wanting less gives the rest back."""

        async def scenario(bench: Bench) -> None:
            await bench.beat("node_a")
            assert [await _share(bench, "node_a", wanted, 0) for wanted in (3, 9, 2, 0)] == [3, 5, 2, 0]

        self.play(tmp_path, scenario)

    def test_limits_do_not_touch_each_other(self, tmp_path: Path) -> None:
        """Many are asked for in one call, and answered in its order."""

        async def scenario(bench: Bench) -> None:
            await bench.beat("node_a", "node_b")
            wishes = [QuotaWish("buyer", 5, 0, 4), QuotaWish("buyer/acme", 1, 0, 4), QuotaWish("seller", 9, 0, 4)]
            assert await bench.store.share("node_a", wishes) == [4, 1, 4]
            assert await bench.store.share("node_b", wishes[::-1]) == [4, 0, 1]
            assert await bench.store.share("node_b", []) == []

        self.play(tmp_path, scenario)

    def test_parts_are_even_once_others_have_given_theirs_back(self, tmp_path: Path) -> None:
        """Who holds more than its part is told so, and keeps what it uses until it uses less."""

        async def scenario(bench: Bench) -> None:
            await bench.beat("node_a", "node_b")
            assert await _share(bench, "node_a", 9, 0, limit=6) == 6
            assert await _share(bench, "node_b", 9, 0, limit=6) == 0
            assert await _share(bench, "node_a", 9, 6, limit=6) == 6
            assert await _share(bench, "node_a", 9, 5, limit=6) == 5
            assert await _share(bench, "node_b", 9, 0, limit=6) == 1
            assert await _share(bench, "node_a", 9, 2, limit=6) == 3
            assert await _share(bench, "node_b", 9, 1, limit=6) == 3
            assert await _share(bench, "node_a", 9, 3, limit=6) == 3

        self.play(tmp_path, scenario)

    def test_who_wants_little_leaves_the_rest_to_the_others(self, tmp_path: Path) -> None:
        """Nothing is kept back while anybody wants it."""

        async def scenario(bench: Bench) -> None:
            await bench.beat(*NODES)
            wanted = {"node_a": 3, "node_b": 99, "node_c": 0, "node_d": 50}
            for node in NODES:
                await _share(bench, node, wanted[node], 0, limit=19)
            parts = {node: await _share(bench, node, wanted[node], 0, limit=19) for node in NODES}
            assert parts == {"node_a": 3, "node_b": 8, "node_c": 0, "node_d": 8}

        self.play(tmp_path, scenario)

    def test_what_cannot_be_divided_goes_round(self, tmp_path: Path) -> None:
        """Of two nodes that share a limit of one, or three of five, each has its turn; nobody waits for ever."""

        async def scenario(bench: Bench) -> None:
            for limit, nodes in ((1, NODES[:2]), (5, NODES[:3])):
                seen: dict[str, set[int]] = {node: set() for node in nodes}
                for _ in nodes:
                    await bench.beat(*nodes)
                    for node in nodes:
                        await _share(bench, node, 9, 0, limit=limit, name=f"of {limit}")
                    parts = [await _share(bench, node, 9, 0, limit=limit, name=f"of {limit}") for node in nodes]
                    assert sum(parts) == limit
                    for node, part in zip(nodes, parts, strict=True):
                        seen[node].add(part)
                    await bench.clock.advance(TURN_SECONDS)
                low = limit // len(nodes)
                assert seen == {node: {low, low + 1} for node in nodes}

        self.play(tmp_path, scenario)

    def test_a_turn_does_not_take_what_is_in_use(self, tmp_path: Path) -> None:
        """It begins when the other is done."""

        async def scenario(bench: Bench) -> None:
            await bench.beat("node_a", "node_b")
            first = "node_a" if await _share(bench, "node_a", 1, 0, limit=1) else "node_b"
            if first == "node_b":
                assert await _share(bench, "node_b", 1, 0, limit=1) == 1
            [second] = {"node_a", "node_b"} - {first}
            for _ in range(4):
                assert await _share(bench, second, 1, 0, limit=1) == 0
                assert await _share(bench, first, 1, 1, limit=1) == 1
                await bench.clock.advance(TURN_SECONDS)
                await bench.beat("node_a", "node_b")
            assert await _share(bench, first, 0, 0, limit=1) == 0
            assert await _share(bench, second, 1, 0, limit=1) == 1

        self.play(tmp_path, scenario)

    def test_the_dead_hold_nothing(self, tmp_path: Path) -> None:
        """From the moment their lease has run out, and not before; who comes back too late has lost its share."""

        async def scenario(bench: Bench) -> None:
            await bench.beat("node_a", "node_b")
            assert await _share(bench, "node_a", 5, 0) == 5
            await bench.clock.advance(LEASE_SECONDS - 0.001)
            await bench.beat("node_b")
            assert await _share(bench, "node_b", 5, 0) == 0
            await bench.clock.advance(0.001)
            assert await _share(bench, "node_a", 5, 5) == 0
            assert await _share(bench, "node_b", 5, 0) == 5
            await bench.beat("node_a")
            assert await _share(bench, "node_a", 5, 5) == 0
            assert await _share(bench, "node_b", 5, 5) == 5

        self.play(tmp_path, scenario)

    def test_who_comes_back_late_has_lost_its_share(self, tmp_path: Path) -> None:
        """Also when nobody asked for it meanwhile: until it asks again, it is for the others."""

        async def scenario(bench: Bench) -> None:
            await bench.beat("node_a")
            assert await _share(bench, "node_a", 5, 0) == 5
            await bench.clock.advance(LEASE_SECONDS)
            await bench.beat("node_a", "node_b")
            assert await _share(bench, "node_b", 5, 0) == 5

        self.play(tmp_path, scenario)

    def test_who_leaves_gives_all_back(self, tmp_path: Path) -> None:
        """At once."""

        async def scenario(bench: Bench) -> None:
            await bench.beat("node_a", "node_b")
            assert await _share(bench, "node_a", 5, 0) == 5
            await bench.store.leave("node_a")
            assert await _share(bench, "node_b", 5, 0) == 5
            assert await _share(bench, "node_a", 5, 5) == 0

        self.play(tmp_path, scenario)

    def test_who_has_not_beaten_gets_nothing(self, tmp_path: Path) -> None:
        """And takes nothing from anybody by having asked."""

        async def scenario(bench: Bench) -> None:
            await bench.beat("node_a")
            assert await _share(bench, "node_b", 5, 2) == 0
            assert await _share(bench, "node_a", 5, 0) == 5

        self.play(tmp_path, scenario)

    def test_what_is_used_beyond_the_share_does_not_count(self, tmp_path: Path) -> None:
        """A node cannot get more than there is by using it first."""

        async def scenario(bench: Bench) -> None:
            await bench.beat("node_a", "node_b")
            assert await _share(bench, "node_a", 4, 0) == 4
            assert await _share(bench, "node_b", 0, 5) == 1

        self.play(tmp_path, scenario)

    def test_a_lowered_limit_holds_as_soon_as_it_can(self, tmp_path: Path) -> None:
        """What is in use stays; nobody gets more meanwhile."""

        async def scenario(bench: Bench) -> None:
            await bench.beat("node_a", "node_b")
            assert await _share(bench, "node_a", 5, 0) == 5
            assert await _share(bench, "node_a", 5, 4, limit=2) == 4
            assert await _share(bench, "node_b", 5, 0, limit=2) == 0
            assert await _share(bench, "node_a", 5, 0, limit=2) == 1
            assert await _share(bench, "node_b", 5, 0, limit=2) == 1

        self.play(tmp_path, scenario)

    def test_a_wish_below_nothing_is_refused(self, tmp_path: Path) -> None:
        """It is named, and the good ones beside it are not granted."""

        async def scenario(bench: Bench) -> None:
            await bench.beat("node_a", "node_b")
            for bad in (QuotaWish("bad", -1, 0, 0), QuotaWish("bad", 1, -1, 0), QuotaWish("bad", 1, 0, -1)):
                with pytest.raises(ValueError, match="bad"):
                    await bench.store.share("node_a", [QuotaWish("buyer", 5, 0, 5), bad])
            assert await _share(bench, "node_b", 5, 0) == 5

        self.play(tmp_path, scenario)

    def test_two_processes_never_hold_more_than_there_is(self, tmp_path: Path) -> None:
        """What one was told is known to the other."""

        async def scenario(bench: Bench) -> None:
            other = bench.beside()
            await other.open()
            await bench.beat("node_a")
            await other.beat(bench.node("node_b"), LEASE_SECONDS)
            assert await bench.store.share("node_a", [QuotaWish("buyer", 5, 0, 3)]) == [3]
            assert await other.share("node_b", [QuotaWish("buyer", 5, 0, 3)]) == [2]
            if other is not bench.store:
                await other.close()

        self.play(tmp_path, scenario)

    def test_the_limit_holds_in_any_order_of_things(self, tmp_path: Path) -> None:
        """Seeded dice: after every step all that the living were told they may hold is no more than the limit.

        And nobody is told to hold less than it uses, or more than it wants; in the end all of it is given out evenly.
        """

        async def scenario(bench: Bench) -> None:
            play = _Play(bench, Random(7), limit=11)
            for _ in range(400):
                await play.step()
                assert sum(play.held.values()) <= play.limit
            assert min(play.asked.values()) > 20
            await bench.beat(*NODES)
            for node in NODES:
                await _share(bench, node, 99, 0, limit=play.limit)
            parts = [await _share(bench, node, 99, 0, limit=play.limit) for node in NODES]
            assert sorted(parts) == [2, 3, 3, 3]

        self.play(tmp_path, scenario)


class _Play:
    """Nodes that come and go by the dice, and use only what they may."""

    def __init__(self, bench: Bench, dice: Random, limit: int) -> None:
        self._bench = bench
        self._dice = dice
        self._expires = dict.fromkeys(NODES, 0)
        self.limit = limit
        #: what each living node may hold
        self.held: dict[str, int] = {}
        #: how often each asked while it was alive
        self.asked = dict.fromkeys(NODES, 0)

    async def step(self) -> None:
        """Time passes, and one node does something."""
        await self._bench.clock.advance(self._dice.choice([0, 0, 0, 0, 0.7, 2, TURN_SECONDS]))
        self.held = {node: held for node, held in self.held.items() if self._alive(node)}
        node = self._dice.choice(NODES)
        match self._dice.choice(["beat", "beat", "share", "share", "share", "leave" if self._rarely() else "beat"]):
            case "beat":
                await self._bench.beat(node)
                self._expires[node] = self._bench.clock.now_us() + round(LEASE_SECONDS * 1e6)
            case "leave":
                await self._bench.store.leave(node)
                self._expires[node] = 0
                self.held.pop(node, None)
            case _:
                await self._share(node)

    async def _share(self, node: str) -> None:
        using = self._dice.randint(0, self.held.get(node, 0))
        wanted = using + self._dice.choice([0, 1, 3, 20])
        told = await _share(self._bench, node, wanted, using, limit=self.limit)
        assert using <= told <= wanted
        if self._alive(node):
            self.held[node] = told
            self.asked[node] += 1
        else:
            assert told == 0

    def _alive(self, node: str) -> bool:
        return self._expires[node] > self._bench.clock.now_us()

    def _rarely(self) -> bool:
        return self._dice.random() < 0.2


async def _share(bench: Bench, node: str, wanted: int, using: int, *, limit: int = 5, name: str = "buyer") -> int:
    [told] = await bench.store.share(node, [QuotaWish(name, limit, using, wanted)])
    return told
