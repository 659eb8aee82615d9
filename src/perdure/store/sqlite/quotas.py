"""How much of what all nodes share may one have? Its rows, changed in one transaction; the arithmetic is in ../quotas.py.

Nothing is written that changes nothing: every commit wakes the other processes, and they might ask in turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apsw

from perdure.store.contract import QuotaWish, RateWish, Tokens
from perdure.store.queries import load_queries
from perdure.store.quotas import Bucket, Share, draw, new_share, period_of
from perdure.store.sqlite.nodes import Nodes
from perdure.store.sqlite.writing import Writing
from perdure.values.clock import Clock

_SQL = load_queries("sqlite", "quotas")


class Quotas:
    """Shares and buckets through one connection. Not for two threads at a time."""

    def __init__(self, db: apsw.Connection, clock: Clock, nodes: Nodes) -> None:
        self._db = db
        self._clock = clock
        self._nodes = nodes

    def share(self, node: str, wishes: Sequence[QuotaWish]) -> list[int]:
        """How much of each limit `node` may hold from now on."""
        with Writing(self._db):
            living = {other.id for other in self._nodes.living()}
            return [self._share(node, wish, living) for wish in wishes]

    def take(self, wishes: Sequence[RateWish]) -> list[Tokens]:
        """Take what is there, up to what is wanted."""
        with Writing(self._db):
            return [self._take(wish) for wish in wishes]

    def _share(self, node: str, wish: QuotaWish, living: set[str]) -> int:
        rows: list[Any] = self._db.execute(_SQL["shares"], (wish.name,)).fetchall()
        shares = {name: Share(held, wanted) for name, held, wanted in rows if name in living}
        share = new_share(node, wish, shares, self._clock.now_us())
        if node not in living:
            return 0
        if share == shares.get(node, Share()):
            return share.held
        if share == Share():
            self._db.execute(_SQL["drop_share"], (wish.name, node))
        else:
            self._db.execute(_SQL["set_share"], (wish.name, node, *share))
        return share.held

    def _take(self, wish: RateWish) -> Tokens:
        period = period_of(wish)
        found: Any = self._db.execute(_SQL["bucket"], (wish.name, period)).get
        bucket = None if found is None else Bucket(*found)
        left, tokens = draw(wish, bucket, self._clock.now_us())
        # A bucket of a time to come, which a clock that was set back left behind, must not wait for that time.
        if tokens.granted or (bucket is not None and bucket.time > left.time):
            self._db.execute(_SQL["set_bucket"], (wish.name, period, *left))
        return tokens
