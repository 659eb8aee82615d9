"""How does a browser log in? A code that is good once and for a short time becomes a cookie that no script can read.

Code and cookie are random; the store keeps their hashes, so that a restart of the server logs nobody out and a copy of
the database logs nobody in. A login ends when it was not used for a while, and with the key that it came from: codes and
logins carry that on.
"""

from __future__ import annotations

import hashlib
import secrets

from perdure.gateway.access.principal import Principal, Scope
from perdure.store.contract import Document, Store
from perdure.values.clock import Clock
from perdure.values.json import decode, encode

_CODE = "login-code"
_LOGIN = "login"
#: Letters and digits that nobody takes for one another, for a code that is typed.
_LETTERS = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"


class Logins:
    """The login codes and logins of a store."""

    def __init__(self, store: Store, clock: Clock, *, code_seconds: float, login_seconds: float) -> None:
        self._store = store
        self._clock = clock
        self._code_seconds = code_seconds
        self._login_seconds = login_seconds

    async def make_code(self, principal: Principal) -> tuple[str, int]:
        """A code with which `principal` may log in once, and until when (microseconds)."""
        code = "-".join("".join(secrets.choice(_LETTERS) for _ in range(5)) for _ in range(3))
        expires = self._clock.now_us() + round(self._code_seconds * 1e6)
        await self._store.put_document(Document(_CODE, _hash(code), _data(principal), 0, expires))
        return code, expires

    async def redeem(self, code: str) -> Principal | None:
        """Who the code was made for, once; None for a wrong, used or expired one."""
        id = _hash(code.strip().upper())
        document = await self._store.document(_CODE, id)
        if document is None or not await self._store.drop_document(_CODE, id, document.version):
            return None
        return _principal(document, id)

    async def log_in(self, principal: Principal) -> str:
        """The cookie of a new login."""
        cookie = secrets.token_urlsafe(32)
        await self._store.put_document(Document(_LOGIN, _hash(cookie), _data(principal), 0, self._until()))
        return cookie

    async def find(self, cookie: str) -> Principal | None:
        """Who is logged in with a cookie, which lasts on from now; None when nobody is (any more)."""
        id = _hash(cookie)
        document = await self._store.document(_LOGIN, id)
        if document is None:
            return None
        half_us = round(self._login_seconds / 2 * 1e6)
        if document.expires is not None and document.expires - self._clock.now_us() < half_us:
            await self._store.put_document(Document(_LOGIN, id, document.data, document.version, self._until()))
        return _principal(document, id)

    async def log_out(self, cookie: str) -> None:
        """End a login."""
        await self._store.drop_document(_LOGIN, _hash(cookie))

    def _until(self) -> int:
        return self._clock.now_us() + round(self._login_seconds * 1e6)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _data(principal: Principal) -> str:
    return encode({"name": principal.name, "scopes": sorted(principal.scopes), "root": principal.root})


def _principal(document: Document, id: str) -> Principal:
    data = decode(document.data)
    return Principal(data["name"], frozenset(map(Scope, data["scopes"])), "cookie", id, data["root"])
