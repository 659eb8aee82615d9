"""Rates: how many things may begin in a time, over all nodes: buckets of tokens that fill by the store's clock."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from perdure.store.contract import RateWish
from perdure.testing.store_conformance.bench import Bench, StoreTests


class RateTests(StoreTests):
    """What holds for limits by time."""

    def test_a_bucket_is_full_at_first(self, tmp_path: Path) -> None:
        """All of it may be taken at once or one by one, and then nothing."""

        async def scenario(bench: Bench) -> None:
            assert await _take(bench, 9, name="buyer") == (5, 2.0)
            assert await _take(bench, 1, name="buyer") == (0, 2.0)
            assert [await _take(bench, 1, name="seller") for _ in range(6)] == [(1, 0.0)] * 4 + [(1, 2.0), (0, 2.0)]

        self.play(tmp_path, scenario)

    def test_it_fills_by_the_clock(self, tmp_path: Path) -> None:
        """Never beyond its limit, however long nobody takes from it."""

        async def scenario(bench: Bench) -> None:
            await _take(bench, 5)
            await bench.clock.advance(5)
            assert await _take(bench, 9) == (2, 1.0)
            await bench.clock.advance(1000)
            assert await _take(bench, 9) == (5, 2.0)

        self.play(tmp_path, scenario)

    def test_the_wait_is_exact(self, tmp_path: Path) -> None:
        """After it one may be taken, and not a microsecond before; also where a token takes no whole number of them."""

        async def scenario(bench: Bench) -> None:
            for limit, seconds in ((3, 1.0), (7, 0.5), (1, 1.5), (600, 60.0), (1, 86_400.0)):
                rate = RateWish(f"{limit} in {seconds}", limit, seconds, limit)
                [tokens] = await bench.store.take([rate])
                for _ in range(3):
                    assert tokens.wait_seconds > 0
                    await bench.clock.advance(tokens.wait_seconds - 0.000_001)
                    [tokens] = await bench.store.take([rate])
                    assert tokens == (0, 0.000_001)
                    await bench.clock.advance(tokens.wait_seconds)
                    [tokens] = await bench.store.take([rate])
                    assert tokens.granted == 1

        self.play(tmp_path, scenario)

    def test_parts_of_a_token_are_not_lost(self, tmp_path: Path) -> None:
        """Who asks often gets no less than who asks seldom."""

        async def scenario(bench: Bench) -> None:
            often = RateWish("often", 3, 1.0, 3)
            granted = 0
            for _ in range(101):
                [tokens] = await bench.store.take([often])
                granted += tokens.granted
                await bench.clock.advance(0.07)
            assert granted == 3 + 3 * 7

        self.play(tmp_path, scenario)

    def test_asking_for_nothing_takes_nothing(self, tmp_path: Path) -> None:
        """It tells how long the next one takes."""

        async def scenario(bench: Bench) -> None:
            assert await _take(bench, 0) == (0, 0.0)
            assert await _take(bench, 5) == (5, 2.0)
            await bench.clock.advance(0.5)
            assert await _take(bench, 0) == (0, 1.5)

        self.play(tmp_path, scenario)

    def test_rates_do_not_touch_each_other(self, tmp_path: Path) -> None:
        """Of other names, or of another length under the same name; one that comes twice in a call counts twice."""

        async def scenario(bench: Bench) -> None:
            wishes = [RateWish("a", 2, 1.0, 2), RateWish("b", 2, 1.0, 2), RateWish("a", 3, 60.0, 2)]
            assert [tokens.granted for tokens in await bench.store.take([*wishes, wishes[2]])] == [2, 2, 2, 1]
            assert await bench.store.take([]) == []

        self.play(tmp_path, scenario)

    def test_a_changed_limit_counts_from_then_on(self, tmp_path: Path) -> None:
        """A lowered one cuts what is in the bucket; a raised one fills it faster."""

        async def scenario(bench: Bench) -> None:
            assert await _take(bench, 1) == (1, 0.0)
            assert await _take(bench, 9, limit=2) == (2, 5.0)
            assert await _take(bench, 9, limit=10) == (0, 1.0)
            await bench.clock.advance(4)
            assert await _take(bench, 9, limit=10) == (4, 1.0)

        self.play(tmp_path, scenario)

    def test_a_rate_that_lets_nothing_begin_is_refused(self, tmp_path: Path) -> None:
        """It is named, and the good ones beside it take nothing."""

        async def scenario(bench: Bench) -> None:
            for bad in (RateWish("bad", 0, 1.0, 1), RateWish("bad", 1, 0.0, 1), RateWish("bad", -1, -1.0, 1)):
                with pytest.raises(ValueError, match="bad"):
                    await bench.store.take([RateWish("buyer", 5, 10.0, 5), bad])
            assert await _take(bench, 5) == (5, 2.0)

        self.play(tmp_path, scenario)

    def test_a_bucket_outlives_what_is_cleared_away(self, tmp_path: Path) -> None:
        """Beats clear full buckets away; one that is not full yet is kept to the microsecond."""

        async def scenario(bench: Bench) -> None:
            await _take(bench, 5)
            await bench.clock.advance(9.5)
            await bench.beat("node_a")
            assert await _take(bench, 9) == (4, 0.5)
            await bench.clock.advance(10)
            await bench.beat("node_a")
            assert await _take(bench, 9) == (5, 2.0)

        self.play(tmp_path, scenario)

    def test_no_stretch_of_time_has_more_than_its_rate(self, tmp_path: Path) -> None:
        """Seeded dice, two processes: at most the limit and what its rate makes in that time; and never less than that."""

        async def scenario(bench: Bench) -> None:
            dice, other = Random(3), bench.beside()
            await other.open()
            grants: list[tuple[int, int]] = []
            for _ in range(150):
                await bench.clock.advance(dice.choice([0, 0.3, 1.1, 7, 40]) * dice.random())
                store = dice.choice([bench.store, other])
                [tokens] = await store.take([RateWish("buyer", 7, 10.0, dice.choice([1, 2, 9]))])
                grants.append((bench.clock.now_us(), tokens.granted))
            for first, (begin, _) in enumerate(grants):
                taken = 0
                for end, granted in grants[first:]:
                    taken += granted
                    assert taken <= 7 + (end - begin) * 7 // 10_000_000
            assert sum(granted for _, granted in grants) > 200
            if other is not bench.store:
                await other.close()

        self.play(tmp_path, scenario)


async def _take(
    bench: Bench, wanted: int, *, limit: int = 5, seconds: float = 10.0, name: str = "buyer"
) -> tuple[int, float]:
    [tokens] = await bench.store.take([RateWish(name, limit, seconds, wanted)])
    return tokens
