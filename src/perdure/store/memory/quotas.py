"""How much of what all share may one have? Shares of limits, and buckets of tokens, in dicts."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from math import ceil, floor

from perdure.store.contract import TURN_SECONDS, QuotaWish, RateWish, Tokens
from perdure.store.memory.data import Bucket, Data, Share
from perdure.values.clock import Clock


class Quotas:
    """The limits of one store, among the nodes that are `alive`; tells `changed` when others may want to ask again."""

    def __init__(self, data: Data, clock: Clock, alive: Callable[[str], bool], changed: Callable[[], None]) -> None:
        self._data = data
        self._clock = clock
        self._alive = alive
        self._changed = changed

    def share(self, node: str, wishes: Sequence[QuotaWish]) -> list[int]:
        """How much of each limit `node` may hold from now on."""
        for wish in wishes:
            if min(wish.limit, wish.using, wish.wanted) < 0:
                raise ValueError(f"limit {wish.name}: {wish} has a number below 0")
        return [self._share(node, wish) if self._alive(node) else 0 for wish in wishes]

    def take(self, wishes: Sequence[RateWish]) -> list[Tokens]:
        """Take what is there, up to what is wanted."""
        for wish in wishes:
            if wish.limit < 1 or round(wish.seconds * 1e6) < 1:
                raise ValueError(f"rate {wish.name}: {wish.limit} in {wish.seconds} seconds lets nothing ever begin")
        return [self._take(wish) for wish in wishes]

    def drop_full(self) -> None:
        """Forget the buckets that are full again: they are as good as new."""
        now = self._clock.now_us()
        for name, period in [key for key, bucket in self._data.buckets.items() if bucket.time + key[1] <= now]:
            del self._data.buckets[name, period]

    def _share(self, node: str, wish: QuotaWish) -> int:
        shares = self._data.shares.setdefault(wish.name, {})
        for other in [other for other in shares if not self._alive(other)]:
            del shares[other]
        mine = shares.pop(node, Share(0, 0))
        wanted = min(max(wish.wanted, wish.using), wish.limit)
        wants = {node: wanted} | {name: other.wanted for name, other in shares.items()}
        part = _even_part(node, wants, wish.limit, self._clock.now_us() // round(TURN_SECONDS * 1e6))
        free = wish.limit - sum(other.held for other in shares.values())
        held = max(min(wish.using, mine.held), min(part, free))
        if held or wanted:
            shares[node] = Share(held, wanted)
        if not shares:
            del self._data.shares[wish.name]
        if (held, wanted) != mine:
            self._changed()
        return held

    def _take(self, wish: RateWish) -> Tokens:
        now, period = self._clock.now_us(), round(wish.seconds * 1e6)
        bucket = self._data.buckets.get((wish.name, period), Bucket(Fraction(wish.limit), now))
        gained = Fraction(max(0, now - bucket.time) * wish.limit, period)
        level = min(Fraction(wish.limit), bucket.level + gained)
        granted = max(0, min(wish.wanted, floor(level)))
        # A clock that was set back leaves a bucket of a time to come.
        if granted or bucket.time > now:
            self._data.buckets[wish.name, period] = Bucket(level - granted, now)
        missing = max(Fraction(0), 1 - (level - granted))
        return Tokens(granted, ceil(missing * period / wish.limit) / 1e6)


def _even_part(node: str, wanted: Mapping[str, int], limit: int, turn: int) -> int:
    """The water level at which all of `limit` is given out, and what is left over, in turns."""
    level = bisect_right(range(limit + 1), limit, key=lambda level: _sum_below(level, wanted)) - 1
    thirsty = sorted(other for other, amount in wanted.items() if amount > level)
    if node not in thirsty:
        return wanted[node]
    left = limit - _sum_below(level, wanted)
    return level + ((thirsty.index(node) - turn) % len(thirsty) < left)


def _sum_below(level: int, wanted: Mapping[str, int]) -> int:
    return sum(min(amount, level) for amount in wanted.values())
