"""How do readers follow a run over HTTP? Server-Sent Events out of the journal, each numbered: nobody misses or repeats any.

All readers of one run share the tail of its journal: the events of the last moments, already as text, in memory only while
somebody follows. Each reader has nothing of its own but its position; one that is slow waits for its own connection, falls
behind the tail and then reads the store, page by page, until it has caught up. So a thousand readers of one run cost one
look at the store for each commit, and none of them can slow down the kernel.
"""

from __future__ import annotations

import asyncio
import fnmatch
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, TypeAlias

from starlette.types import ASGIApp, Receive, Scope, Send

from perdure.errors import StoreError
from perdure.runtime import Runtime
from perdure.values.events import TERMINAL, Event
from perdure.values.json import encode

_PAGE = 500
#: How much of a journal its readers share.
_TAIL_EVENTS = 1_000
#: A comment is sent when nothing else was for so long: proxies keep the connection, and dead ones are found.
_BEAT_SECONDS = 15.0
#: News of all runs are told at most this often.
_CHANGES_SECONDS = 0.2
#: More runs than this are not named: a reader that is away for long costs no more than that.
_NAMED_MOST = 1_000
_HEADERS = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no")]
_RETRY = b"retry: 1000\n\n"


class _Piece(NamedTuple):
    """One event, ready to be sent."""

    seq: int
    type: str
    text: bytes


#: While what it gives is entered, it calls back when the stream must end, because its caller was locked out.
Hold: TypeAlias = Callable[[Callable[[], object]], AbstractContextManager[None]]


class Streams:
    """The open streams of a gateway."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._tails: dict[str, _Tail] = {}
        self._changes: set[_Changes] = set()
        #: open asks, and when they were counted
        self._asks, self._counted = 0, -_CHANGES_SECONDS
        #: the server is about to end
        self.closed = asyncio.Event()
        runtime.kernel.followers.watchers.append(self._published)
        runtime.kernel.followers.listeners.append(self._elsewhere)

    def follow(self, run: str, after: int, types: Sequence[str], hold: Hold) -> ASGIApp:
        """The application that streams `run` after `after`, until its last event."""

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            tail = self._tails.get(run)
            if tail is None:
                tail = self._tails[run] = _Tail(run, self._runtime)
                tail.ended = (
                    self.closed.is_set()
                )  # or a reader who comes back too soon would keep the server from ending
            tail.readers += 1
            try:
                await _stream(receive, send, hold, _Reader(tail, after, types, self._runtime))
            finally:
                tail.readers -= 1
                if not tail.readers:
                    tail.close()
                    self._tails.pop(run, None)

        return application

    def changes(self, hold: Hold) -> ASGIApp:
        """The application that tells which runs have changed, coalesced."""

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            changes = _Changes(self._open_asks)
            changes.over = self.closed.is_set()
            self._changes.add(changes)
            try:
                await _stream(receive, send, hold, changes)
            finally:
                self._changes.discard(changes)

        return application

    def close(self) -> None:
        """End all streams: readers come back to wherever the server is then."""
        self.closed.set()
        for tail in self._tails.values():
            tail.end()
        for changes in self._changes:
            changes.end()

    async def _open_asks(self) -> int:
        """How many asks are open (at most 1,000), counted once for all who want to know."""
        now = asyncio.get_running_loop().time()
        if now - self._counted >= _CHANGES_SECONDS:
            self._counted = now
            self._asks = len(await self._runtime.store.asks(limit=1000))
        return self._asks

    def _published(self, run: str, events: list[Event]) -> None:
        tail = self._tails.get(run)
        if tail is not None:
            tail.published(events)
        for changes in self._changes:
            changes.changed(run)

    def _elsewhere(self) -> None:
        for tail in self._tails.values():
            tail.published([])
        for changes in self._changes:
            changes.changed(None)


class _Source:
    """What a stream is made of. `more` gives what there is now; `news` is a future for when there may be more."""

    over = False

    async def more(self) -> bytes:
        """What can be sent now."""
        raise NotImplementedError

    def news(self) -> asyncio.Future[None]:
        """Done when there may be more."""
        raise NotImplementedError


async def _stream(receive: Receive, send: Send, hold: Hold, source: _Source) -> None:
    """Send what `source` gives, until it is over, the reader has gone or may no longer listen."""
    reader = _Connection(receive)
    with hold(reader.close):
        try:
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            text = _RETRY
            while not reader.closed:
                if text:
                    await send({"type": "http.response.body", "body": text, "more_body": True})
                news = source.news()
                text = await source.more()
                if not text:
                    if source.over:
                        break
                    text = await reader.wait(news)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            reader.forget()


class _Connection:
    """One reader's connection: what wakes it is news, its end, or that it was silent for long.

    `asyncio.wait` for these would do the same, and take four times as long for each of ten thousand readers.
    """

    def __init__(self, receive: Receive) -> None:
        self.closed = False
        self._loop = asyncio.get_running_loop()
        self._woken: asyncio.Future[bytes] | None = None
        #: the news that wake this reader already: they are shared, and so may be waited for once more
        self._watched: asyncio.Future[None] | None = None
        self._end = asyncio.ensure_future(_gone(receive))
        self._end.add_done_callback(self.close)
        self._beat = self._loop.call_later(_BEAT_SECONDS, self._ring)

    async def wait(self, news: asyncio.Future[None]) -> bytes:
        """Return when there are news, or what is to be sent meanwhile."""
        self._woken = self._loop.create_future()
        if self.closed or news.done():
            return b""
        if news is not self._watched:
            self._watched = news
            news.add_done_callback(self._wake)
        return await self._woken

    def close(self, *_: object) -> None:
        """The reader has gone, or may listen no more."""
        self.closed = True
        self._wake()

    def forget(self) -> None:
        """The stream is over."""
        self._end.cancel()
        self._beat.cancel()

    def _wake(self, *_: object, say: bytes = b"") -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(say)

    def _ring(self) -> None:
        self._wake(say=b": beat\n\n")
        self._beat = self._loop.call_later(_BEAT_SECONDS, self._ring)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class _Tail:
    """The end of one run's journal, shared by those who follow it."""

    def __init__(self, run: str, runtime: Runtime) -> None:
        self.run = run
        self.readers = 0
        self.ended = False
        self._store = runtime.store
        #: without a gap
        self.pieces: deque[_Piece] = deque(maxlen=_TAIL_EVENTS)
        self._news: asyncio.Future[None] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._again = False

    @property
    def news(self) -> asyncio.Future[None]:
        """Done when there is more."""
        if self._news is None:
            self._news = asyncio.get_running_loop().create_future()
        return self._news

    def begin(self, pieces: Sequence[_Piece]) -> None:
        """A reader has read the end of the journal, as it was a moment ago: who else was near it goes on from here."""
        if pieces and not self.pieces:
            self.pieces.extend(pieces)
            self._read()

    def published(self, events: list[Event]) -> None:
        """There is more in the journal: these events, or (none) nobody knows what."""
        last = self.pieces[-1].seq if self.pieces else None
        if not events or (last is not None and events[0].seq > last + 1):
            self._read()
        elif last is None or events[0].seq == last + 1:
            self._add(events)

    def end(self) -> None:
        """Nothing more will come here."""
        self.ended = True
        self._tell()

    def close(self) -> None:
        """Nobody follows any more."""
        if self._reading is not None:
            self._reading.cancel()

    def _add(self, events: Iterable[Event]) -> None:
        self.pieces.extend(map(_piece, events))
        self._tell()

    def _tell(self) -> None:
        news, self._news = self._news, None
        if news is not None and not news.done():
            news.set_result(None)

    def _read(self) -> None:
        """Read what is missing, once for all readers."""
        self._again = True
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read_on(), name=f"perdure: tail of {self.run}")

    async def _read_on(self) -> None:
        try:
            while self._again:
                self._again = False
                while self.pieces:
                    last = self.pieces[-1].seq
                    events = await self._store.events(self.run, last, _PAGE)
                    if not events:
                        break
                    if self.pieces[-1].seq == last:
                        self._add(events)
        except StoreError:
            self.pieces.clear()  # so that readers ask the store for themselves, and end where it does not answer
        if not self.pieces:
            self._tell()


class _Reader(_Source):
    """One reader's position in a journal."""

    def __init__(self, tail: _Tail, after: int, types: Sequence[str], runtime: Runtime) -> None:
        self._tail = tail
        self._after = after
        self._types = types
        self._store = runtime.store

    def news(self) -> asyncio.Future[None]:
        return self._tail.news

    async def more(self) -> bytes:
        if self.over:
            return b""
        pieces = self._shared()
        if pieces is None:
            pieces = [_piece(event) for event in await self._store.events(self._tail.run, self._after, _PAGE)]
            if len(pieces) < _PAGE:
                self._tail.begin(pieces)
        if not pieces:
            self.over = self._tail.ended
            return b""
        self._after = pieces[-1].seq
        self.over = pieces[-1].type in TERMINAL
        text = b"".join(piece.text for piece in pieces if matches(piece.type, self._types))
        # Who wants only some types still hears how far it is: an id without data is remembered, and shown to nobody.
        return text if matches(pieces[-1].type, self._types) else text + f"id: {self._after}\n\n".encode()

    def _shared(self) -> list[_Piece] | None:
        """What the tail has after this position; None when the store has to be asked."""
        pieces = self._tail.pieces
        if not pieces or self._after < pieces[0].seq - 1 or self._after > pieces[-1].seq:
            return None
        missing = pieces[-1].seq - self._after
        return [pieces[index] for index in range(len(pieces) - missing, len(pieces))]


class _Changes(_Source):
    """Which runs have changed since it was last told."""

    def __init__(self, open_asks: Callable[[], Awaitable[int]]) -> None:
        self._open_asks = open_asks
        self._runs: set[str] = set()
        self._any = True
        self._told = -_CHANGES_SECONDS
        self._news: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def changed(self, run: str | None) -> None:
        """A run has more in its journal; None: some run has."""
        if run is not None and len(self._runs) < _NAMED_MOST:
            self._runs.add(run)
        self._any = True
        if not self._news.done():
            self._news.set_result(None)

    def end(self) -> None:
        """Nothing more will come here."""
        self.over = True
        if not self._news.done():
            self._news.set_result(None)

    def news(self) -> asyncio.Future[None]:
        if self._news.done():
            self._news = asyncio.get_running_loop().create_future()
        return self._news

    async def more(self) -> bytes:
        if not self._any or self.over:
            return b""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._told + _CHANGES_SECONDS - loop.time()))
        self._told, self._any = loop.time(), False
        runs, self._runs = sorted(self._runs), set()
        data = encode({"runs": runs if len(runs) < _NAMED_MOST else [], "asks": await self._open_asks()})
        return f"event: change\ndata: {data}\n\n".encode()


def matches(type: str, wanted: Sequence[str]) -> bool:
    """True for an event type that one of the patterns (`ask.opened`, `step.*`) names, or when there are none."""
    return not wanted or any(fnmatch.fnmatchcase(type, pattern) for pattern in wanted)


def _piece(event: Event) -> _Piece:
    # Put together by hand: `raw` is JSON already, and decoding and encoding it again would be most of the work.
    data = (
        f'{{"run":{encode(event.run)},"seq":{event.seq},"type":{encode(event.type)},"time":"{event.time}",'
        f'"step":{encode(event.step)},"attempt":{encode(event.attempt)},"data":{event.raw}}}'
    )
    return _Piece(event.seq, event.type, f"id: {event.seq}\nevent: {event.type}\ndata: {data}\n\n".encode())
