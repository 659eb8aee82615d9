"""What passes between a PostgreSQL client and its server, and which of it commits? Bytes in, bytes out: no I/O.

A commit is a simple query that contains the marker, or a stretch of messages up to a Sync that binds a statement whose SQL
does; one that was prepared long before is known by its name. Not understood: COPY FROM STDIN, whose Sync gets no answer
of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

_STARTUP = b""
_SSL_REQUEST, _GSS_REQUEST = (80877103).to_bytes(4), (80877104).to_bytes(4)
_QUERY, _PARSE, _BIND, _SYNC, _CALL = b"Q", b"P", b"B", b"S", b"F"
_READY = b"Z"
_ASKING = {_QUERY, _SYNC, _CALL}


@dataclass(slots=True)
class Armed:
    """How many more commits, or replies to commits, are to be swallowed; shared by the conversations of a proxy."""

    commits: int = 0
    replies: int = 0


@dataclass(slots=True)
class Passage:
    """What becomes of some bytes: what goes on, what goes back, and what was swallowed, which ends the conversation."""

    onward: bytes = b""
    back: bytes = b""
    swallowed: Literal["commit", "reply"] | None = None


class Conversation:
    """One connection of a client with a server, as seen from between."""

    def __init__(self, marker: bytes, armed: Armed) -> None:
        self._marker = marker
        self._armed = armed
        self._client = _Messages(typed=False)
        self._server = _Messages(typed=True)
        #: names of the statements that contain the marker
        self._marked: set[bytes] = set()
        self._commits = False
        #: ReadyForQuery messages that the server still owes; the first one ends the login
        self._owed = 1
        #: of these, how many come before the one to swallow
        self._before: int | None = None

    def to_server(self, data: bytes) -> Passage:
        """What the client says. Nothing of a message goes on before all of it is there."""
        passage = Passage()
        for kind, message in self._client.feed(data):
            if kind == _STARTUP and message[4:8] in {_SSL_REQUEST, _GSS_REQUEST}:
                passage.back += b"N"  # no encryption: it could not be read along
                continue
            if kind == _STARTUP:
                self._client.typed = True
            elif self._commits_by(kind, message):
                self._commits = True
                if self._armed.commits:
                    self._armed.commits -= 1
                    passage.swallowed = "commit"
                    return passage
            passage.onward += message
            if kind in _ASKING:
                self._ask()
        return passage

    def to_client(self, data: bytes) -> Passage:
        """What the server says."""
        passage = Passage()
        for kind, message in self._server.feed(data):
            if self._before == 0:
                if kind == _READY:
                    passage.swallowed = "reply"
                    return passage
                continue
            passage.onward += message
            if kind == _READY:
                self._owed -= 1
                if self._before is not None:
                    self._before -= 1
        return passage

    def _ask(self) -> None:
        if self._commits and self._armed.replies and self._before is None:
            self._armed.replies -= 1
            self._before = self._owed
        self._commits = False
        self._owed += 1

    def _commits_by(self, kind: bytes, message: bytes) -> bool:
        """A statement that is only parsed, to be used later, does nothing yet."""
        if kind == _PARSE:
            name = message[5:].split(b"\0", 1)[0]
            (self._marked.add if self._marker in message else self._marked.discard)(name)
        elif kind == _BIND:
            _portal, name, _rest = message[5:].split(b"\0", 2)
            return name in self._marked
        return kind == _QUERY and self._marker in message


class _Messages:
    """Cuts a stream into messages: a letter (but for the client's first ones), a length that counts itself, a body."""

    def __init__(self, *, typed: bool) -> None:
        self.typed = typed
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The letter and the bytes of each message that is complete now; `typed` may change in between."""
        self._rest += data
        while True:
            head = 1 if self.typed else 0
            size = head + int.from_bytes(self._rest[head : head + 4])
            if len(self._rest) < head + 4 or len(self._rest) < size:
                return
            message = bytes(self._rest[:size])
            del self._rest[:size]
            yield message[:head], message
