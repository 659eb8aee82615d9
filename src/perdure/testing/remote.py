"""What if the way to the store is cut? A line that loses requests, replies or both, and a store at its other end.

A request that is lost changed nothing, unless it was under way and arrives later; a reply that is lost leaves the caller
with a write that happened, and an error that says it may not have. Who waits hears so at once, or only when the line is
whole again, as the cut has it; then what was held up may go through instead.

Nothing here decides when a line is cut, nor what a store does with a batch that it is given twice: the store knows it
again (record.py).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NoReturn, TypeVar

from perdure.errors import StoreBusy
from perdure.store.contract import Store, Transaction
from perdure.testing.host import SimulatedHost, pass_time

T = TypeVar("T")

#: What asks nothing of the store.
_LOCAL = frozenset({"together", "close"})
#: What takes time here; other calls are held up by who watches them (watched.py).
_SLOW = frozenset({"beat", "renew", "shards"})
#: how long it takes to hear that a line is cut, and how late a request that was under way may arrive after that is over
_REFUSED_SECONDS = 0.02
_LATE_SECONDS_MOST = 1.0


class Line:
    """The way between one node and the store. Whole, until it is `cut`."""

    def __init__(self, host: SimulatedHost, dice: random.Random, lost_rate: float = 0.0, seconds: float = 0.0) -> None:
        #: chance that the reply to a call is lost while the line is whole
        self.lost_rate = lost_rate
        #: longest time that a call takes, either way
        self.seconds = seconds
        self._host = host
        self._dice = dice
        self._requests_pass = self._replies_pass = True
        self._hangs = False
        self._waiting: list[asyncio.Future[None]] = []
        #: writes that were under way when the line was cut
        self._late: list[Callable[[], object]] = []

    def cut(self, *, requests: bool, replies: bool, hangs: bool) -> None:
        """Lose requests, replies or both from now on; with `hangs`, nobody hears of it before the line is whole."""
        self._requests_pass, self._replies_pass, self._hangs = not requests, not replies, hangs

    def mend(self) -> None:
        """The line is whole. What was under way arrives, now or a little later."""
        self._requests_pass = self._replies_pass = True
        waiting, self._waiting = self._waiting, []
        late, self._late = self._late, []
        for whole in waiting:
            if not whole.done():
                whole.set_result(None)
        for arrive in late:
            self._host.call_later(self._dice.random() * _LATE_SECONDS_MOST, arrive)

    async def carry(self, call: Callable[[], Awaitable[T]], arrive: Callable[[], object] | None = None) -> T:
        """What `call` gives. Raises StoreBusy when the request or the reply is lost.

        `arrive` does what a request that is lost does when it arrives after all.
        """
        if not self._requests_pass:
            if self._hangs and self._dice.random() < 0.5:
                await self._whole()  # and then it goes through
            else:
                if arrive is not None and self._dice.random() < 0.5:
                    self._late.append(arrive)
                await self._lose()
        result = await call()
        if not self._replies_pass and self._hangs and self._dice.random() < 0.5:
            await self._whole()
        elif not self._replies_pass or (self.lost_rate and self._dice.random() < self.lost_rate):
            await self._lose()
        return result

    async def delay(self) -> None:
        """Return when a call has come one way."""
        if self.seconds:
            await pass_time(self._host, self._dice.random() * self.seconds)

    async def carry_news(self, news: Callable[[], Awaitable[None]]) -> None:
        """Return when there are news and the line is whole. Raises StoreBusy when it is not whole to begin with.

        Whoever listens has heard: other than the reply to a call, news are late and not lost.
        """
        if self._cut:
            await self._lose()
        await news()
        await self._whole()

    async def _lose(self) -> NoReturn:
        if self._hangs and self._cut:
            await self._whole()
        else:
            await pass_time(self._host, _REFUSED_SECONDS)
        raise StoreBusy("the store did not answer")

    @property
    def _cut(self) -> bool:
        return not (self._requests_pass and self._replies_pass)

    async def _whole(self) -> None:
        while self._cut:
            whole: asyncio.Future[None] = self._host.create_future()
            self._waiting.append(whole)
            await whole


class RemoteStore:
    """`store`, as a node at the other end of `line` sees it. `arrive` takes a batch that comes late."""

    def __init__(self, store: Store, line: Line, arrive: Callable[[Sequence[Transaction]], object]) -> None:
        self._store = store
        self._line = line
        self._arrive = arrive

    async def commit(self, batch: Sequence[Transaction]) -> list[Exception | list[int] | None]:
        return await self._line.carry(lambda: self._store.commit(batch), lambda: self._arrive(batch))

    async def wait_change(self) -> None:
        await self._line.carry_news(self._store.wait_change)

    def __getattr__(self, name: str) -> Any:
        self.__dict__[name] = carried = self._carry(name, getattr(self._store, name))  # asked for thousands of times
        return carried

    def _carry(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        if name in _LOCAL:
            return method
        if name in _SLOW:
            return lambda *args, **options: self._line.carry(lambda: self._call_slowly(method, *args, **options))
        return lambda *args, **options: self._line.carry(lambda: method(*args, **options))

    async def _call_slowly(self, method: Callable[..., Awaitable[T]], *args: Any, **options: Any) -> T:
        await self._line.delay()
        result = await method(*args, **options)
        await self._line.delay()
        return result
