"""How much of what all share may one have? The arithmetic of stores that keep it in rows; nothing here reads or writes.

Whole numbers only, so that nothing is lost to rounding and a wait is exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from perdure.store.contract import TURN_SECONDS, QuotaWish, RateWish, Tokens

#: What a row can hold.
_LARGEST = 2**63 - 1


class Share(NamedTuple):
    """What a node may hold of a limit, and what it would like to."""

    held: int = 0
    wanted: int = 0


class Bucket(NamedTuple):
    """What was in a bucket at `time`, in parts of a token: as many make one as its period has microseconds.

    So it gains `limit` parts each microsecond, and is full again after one period.
    """

    level: int
    time: int


def new_share(node: str, wish: QuotaWish, shares: Mapping[str, Share], now: int) -> Share:
    """The share of `node` from `now` on, where the living nodes have these `shares`. Raises ValueError."""
    if min(wish.limit, wish.using, wish.wanted) < 0 or wish.limit > _LARGEST:
        raise ValueError(f"limit {wish.name}: {wish} cannot be counted. Numbers are from 0 to {_LARGEST}.")
    wanted = min(max(wish.wanted, wish.using), wish.limit)
    part = even_part(node, {name: share.wanted for name, share in shares.items()} | {node: wanted}, wish.limit, now)
    free = wish.limit - sum(share.held for name, share in shares.items() if name != node)
    kept = min(wish.using, shares.get(node, Share()).held)
    return Share(max(kept, min(part, free)), wanted)


def even_part(node: str, wanted: Mapping[str, int], limit: int, now: int) -> int:
    """What of `limit` falls to `node`: those who want less than an even part leave the rest to the others."""
    left, hungry = limit, sorted(wanted, key=lambda name: (wanted[name], name))
    while hungry and wanted[hungry[0]] <= left // len(hungry):
        modest = hungry.pop(0)
        left -= wanted[modest]
        if modest == node:
            return wanted[node]
    part, over = divmod(left, len(hungry))
    turn = now // round(TURN_SECONDS * 1e6)
    place = (sorted(hungry).index(node) - turn) % len(hungry)
    return part + (place < over)


def period_of(wish: RateWish) -> int:
    """Microseconds in which an empty bucket fills up. Raises ValueError for a rate that cannot be kept."""
    period = round(wish.seconds * 1e6)
    if wish.limit < 1 or period < 1:
        raise ValueError(f"rate {wish.name}: {wish.limit} in {wish.seconds} seconds lets nothing ever begin")
    if wish.limit * period > _LARGEST:
        raise ValueError(f"rate {wish.name}: {wish.limit} in {wish.seconds} seconds is more than can be counted")
    return period


def draw(wish: RateWish, bucket: Bucket | None, now: int) -> tuple[Bucket, Tokens]:
    """Take what is there, up to what is wanted; no `bucket` is a full one. What is left, and what was taken."""
    period = period_of(wish)
    level = full = wish.limit * period
    if bucket is not None:
        # A clock that was set back gives nothing, and takes nothing away.
        level = min(full, bucket.level + max(0, now - bucket.time) * wish.limit)
    granted = max(0, min(wish.wanted, level // period))
    level -= granted * period
    missing = max(0, period - level)
    return Bucket(level, now), Tokens(granted, -(-missing // wish.limit) / 1e6)
