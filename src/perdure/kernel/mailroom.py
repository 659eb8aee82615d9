"""What comes from the store, and to whom does it go? Signals to the runs that are ours, news to those who watch.

The store is the mailbox: a signal stays there until the run it is for has journaled it, so leaving one alone loses
nothing. While a node stops it leaves them all.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from perdure.errors import AlreadySettled, Fenced
from perdure.kernel.signals import ONWARD
from perdure.store.contract import Cursor, Signal, Transaction
from perdure.values.runs import Run

if TYPE_CHECKING:
    from perdure.kernel.kernel import Kernel

_PAGE = 500


class Mailroom:
    """Watches the store for one node, and routes what it finds."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._cursor: Cursor = None

    async def watch(self) -> None:
        """Look at what other processes wrote, for ever."""
        kernel = self._kernel
        while True:
            await kernel.reads.wait_change()
            shards = kernel.leases.shards
            if shards:
                self._cursor = await self.read(shards, after=self._cursor)
                await kernel.ownership.offer_ready(shards)
            kernel.membership.changed()
            await kernel.reads.keep_trying(kernel.followers.changed_elsewhere)

    async def read(self, shards: list[str], *, after: Cursor = None) -> Cursor:
        """Route what came after `after`; gives how far that was."""
        # Some were routed when we put them ourselves; giving a run the same one twice changes nothing.
        while True:
            with self._kernel.taken.reading():
                signals, after = await self._kernel.reads.signals(shards, after, _PAGE)
                for signal in self._kernel.taken.still_there(signals):
                    self._route(signal)
            if len(signals) < _PAGE:
                return after

    def written(self, signals: Sequence[Signal], ids: Sequence[int]) -> None:
        """Signals that we put are durable: deliver those that are ours without waiting for the store to say so."""
        for signal, id in zip(signals, ids, strict=True):
            if id:
                self._route(replace(signal, id=id))

    async def redirect(self, run: Run, signal: Signal) -> None:
        """A signal came after the end of `run`: hand it to the run that continues it, or take it away."""
        fence = self._kernel.fence(run.shard)
        end = (await self._kernel.reads.events(run.id, run.seq - 1))[-1]
        onward: list[Signal] = []
        if end.type == "run.continued" and signal.kind in ONWARD:
            onward = [replace(signal, run=end.data["run"], id=0)]
        transaction = Transaction(fence=fence, consume=[signal.id], signals=onward)
        with contextlib.suppress(AlreadySettled, Fenced):  # somebody else did
            if fence is not None:
                await self._kernel.commits.commit(transaction, then=lambda ids: self.written(onward, ids))

    def _route(self, signal: Signal) -> None:
        live = self._kernel.live
        if self._kernel.halted:
            return
        if signal.run is not None and live.is_live(signal.run):
            live.take(signal)
        elif signal.shard:
            if self._kernel.fence(signal.shard) is not None:
                live.take(signal)
        else:
            self._kernel.spawn_task(self._route_to_run(signal))

    async def _route_to_run(self, signal: Signal) -> None:
        run = await self._kernel.reads.run(signal.run or "")
        if run is not None and self._kernel.fence(run.shard) is not None:
            await self._kernel.live.wake(run, signal)
