"""Bugs that only show with several nodes, or with a store that is far away: terms, shares, moves, lost replies."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

from perdure.agents.attempt import Attempt
from perdure.kernel import parts
from perdure.kernel.balance import Owners
from perdure.kernel.group_commit import GroupCommit
from perdure.kernel.handover import Handover
from perdure.kernel.leases import Leases
from perdure.kernel.membership import Membership
from perdure.kernel.quotas import Quota, Quotas
from perdure.kernel.rates import RateDoor
from perdure.kernel.term import Term
from perdure.store.memory import MemoryStore
from perdure.testing.planted.patches import Patch, always, always_soon, replaced, together
from perdure.values.clock import Clock


def no_term() -> Patch:
    """A node that was paused goes on with what it was about to begin."""

    def make(begin: Any) -> Any:
        def begin_anyway(self: Attempt) -> None:
            self._may_begin = lambda: True
            begin(self)

        return begin_anyway

    return together(replaced(Term, "assured", always_soon(None)), replaced(Attempt, "begin", make))


def term_by_wall_clock() -> Patch:
    def make(init: Any) -> Any:
        def init_with_wall_clock(self: Term, clock: Clock, seconds: float, ended: Callable[[], object]) -> None:
            wall = SimpleNamespace(monotonic=lambda: clock.now_us() / 1e6, call_later=clock.call_later)
            init(self, wall, seconds, ended)

        return init_with_wall_clock

    return replaced(Term, "__init__", make)


def cut_off_and_working() -> Patch:
    """A node that the store does not hear keeps its shards, and begins nothing new: what it began goes on."""
    return replaced(Membership, "_term_ended", always(None))


def blind_retry() -> Patch:
    """What may have happened is given to the store again as if it were new."""

    def make(write: Any) -> Any:
        async def write_copies(self: GroupCommit, transactions: list[Any]) -> Any:
            store = self._store

            async def commit(batch: list[Any]) -> Any:
                return await store.commit(list(batch))

            self._store = SimpleNamespace(commit=commit)
            try:
                return await write(self, transactions)
            finally:
                self._store = store

        return write_copies

    return replaced(GroupCommit, "_write", make)


def let_go_unwritten() -> Patch:
    """Shards are released before what was under way in them is written."""

    def make(let_go: Any) -> Any:
        async def release_first(self: Handover, shards: set[str]) -> None:
            fences = {shard: self._kernel.leases._leaving[shard] for shard in shards}
            await self._kernel.leases.release(shards)
            self._kernel.leases._leaving.update(fences)
            await let_go(self, shards)

        return release_first

    return together(replaced(Handover, "_write_all", always_soon(None)), replaced(Handover, "_let_go", make))


def share_kept() -> Patch:
    """Once a node holds places of a limit it keeps them, whatever the store says and however long it was not heard."""

    def make_wish(wish: Any) -> Any:
        def wish_and_keep(self: Quota) -> Any:
            held = self.held
            asked = wish(self)
            self.held = held
            return asked

        return wish_and_keep

    def make_answered(answered: Any) -> Any:
        return lambda self, share: answered(self, max(self.held, share))

    return together(
        replaced(Quotas, "lost", always(None)),
        replaced(Quota, "wish", make_wish),
        replaced(Quota, "answered", make_answered),
    )


def token_used_twice() -> Patch:
    return replaced(RateDoor, "enter", lambda enter: lambda self: None if self._tokens == 1 else enter(self))


def restless() -> Patch:
    """A node with one shard more than another gives one away, though they cannot be more even."""

    def make(give: Any) -> Any:
        def give_more(node: str, nodes: Any, owners: Owners, *more: Any) -> list[str]:
            mine = sorted(shard for shard, owner in owners.items() if owner == node)
            least = min(sum(owner == other for owner in owners.values()) for other in nodes)
            found: list[str] = give(node, nodes, owners, *more)
            return found or (mine[:1] if len(mine) > least and None not in owners.values() else [])

        return give_more

    return replaced(parts, "shards_to_give", make)


def never_shares() -> Patch:
    """Who owns everything keeps it, whoever comes."""
    return replaced(parts, "shards_to_give", always([]))


def cursor_too_far() -> Patch:
    """A reader of signals is told that it is one further than it is."""

    def make(read: Any) -> Any:
        async def read_too_far(self: MemoryStore, shards: Iterable[str], after: Any = None, limit: int = 1000) -> Any:
            found, cursor = await read(self, shards, after, limit)
            return found, cursor if found else max(cursor, self._data.last_signal) + 1

        return read_too_far

    return replaced(MemoryStore, "signals", make)


def lost_shards_kept() -> Patch:
    """A renewal that tells of lost shards is not heeded."""

    def make(renew: Any) -> Any:
        async def renew_and_forget(self: Leases) -> list[str]:
            held, leaving = dict(self._held), dict(self._leaving)
            await renew(self)
            self._held, self._leaving = held, leaving
            return []

        return renew_and_forget

    return replaced(Leases, "renew", make)
