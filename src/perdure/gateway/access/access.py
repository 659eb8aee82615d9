"""Who is it that calls? A key, a login or another issuer's token becomes a principal; nothing else does.

What was verified is believed for two seconds, so that a caller costs one look at the store in that time; and streams that
are open ask again that often, so that who is locked out is cut off too. What a request says of itself (names, scopes,
forwarded users) is not read at all.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

from perdure.errors import NotFound, StoreError
from perdure.gateway.access.keys import Key, Keys
from perdure.gateway.access.logins import Logins
from perdure.gateway.access.principal import Principal, Scope
from perdure.gateway.access.rates import Rates, Room
from perdure.gateway.problems import Problem
from perdure.gateway.settings import GatewaySettings
from perdure.store.contract import Store
from perdure.values.clock import Clock

log = logging.getLogger("perdure.gateway")

#: For how long a verified caller is believed, and how often open streams ask.
_BELIEVED_SECONDS = 2.0
_BELIEVED_MOST = 10_000
#: Requests of one address for what anybody may ask for: the console is seventy files.
_PUBLIC_PER_SECOND = 100.0
_PUBLIC_AT_ONCE = 2_000


class Issuer(Protocol):
    """Somebody else who says who callers are."""

    async def verify(self, token: str) -> Principal | None:
        """Who holds this token; None for one that is not theirs or not valid."""


class Access:
    """Who may call this gateway."""

    def __init__(self, store: Store, clock: Clock, settings: GatewaySettings, issuer: Issuer | None = None) -> None:
        self.keys = Keys(store, clock)
        self.logins = Logins(
            store, clock, code_seconds=settings.code_seconds, login_seconds=settings.login_seconds
        )  # fmt: skip
        # Cookies know no ports: two servers of one machine would log each other out.
        port = "" if settings.port is None else f"_{settings.port}"
        self.cookie = "__Host-perdure" if settings.tls and not settings.prefix else f"perdure_login{port}"
        self._settings = settings
        self._clock = clock
        self._issuer = issuer
        self._token = None if settings.token is None else _digest(settings.token)
        self._rates = Rates(clock, settings.requests_per_second, settings.requests_at_once)
        self._public = Rates(clock, _PUBLIC_PER_SECOND, _PUBLIC_AT_ONCE)
        self._wrong = Rates(clock, settings.wrong_keys_per_second, settings.wrong_keys_at_once)
        #: what a caller showed, hashed -> who it is, until when that is believed
        self._believed: dict[bytes, tuple[Principal, float]] = {}
        self._open: dict[object, tuple[str, Callable[[], object]]] = {}
        self._watch: asyncio.Task[None] | None = None

    async def authenticate(self, headers: Mapping[bytes, bytes], address: str) -> Principal:
        """Who calls. Raises Problem: 401, or 429 for an address that has shown too many wrong keys."""
        shown = self._shown(headers)
        if shown is None:
            raise _unauthenticated("send a key as `Authorization: Bearer KEY`; make one with: perdure key create")
        principal = await self._verify(shown)
        if principal is None:
            self.count_wrong(address)
            raise _unauthenticated(
                "this key or login is wrong, expired or revoked. Make a key with: perdure key create"
            )
        return principal

    def count_wrong(self, address: str) -> None:
        """An address showed a wrong key or code. Raises Problem (429) when it did so too often."""
        room = self._wrong.take(address)
        if not room.granted:
            wait = max(1, round(room.wait_seconds + 0.5))
            raise Problem(
                429, f"too many wrong keys from {address}; try again in {wait} s", headers={"Retry-After": str(wait)}
            )

    def take_public(self, address: str) -> None:
        """Count a request of who need not be known. Raises Problem (429)."""
        room = self._public.take(address)
        if not room.granted:
            raise Problem(429, f"too many requests from {address}", headers={"Retry-After": "1"})

    def take(self, principal: Principal) -> Room:
        """Count a request."""
        return self._rates.take(f"{principal.via}:{principal.id or principal.name}")

    @property
    def rate_policy(self) -> str:
        """The value of RateLimit-Policy."""
        return f'"default";q={self._rates.at_once};w={max(1, round(self._rates.at_once / self._rates.per_second))}'

    async def log_in(self, text: str, address: str) -> str:
        """The cookie for a login code or a key. Raises Problem (401, 429)."""
        principal = await self.logins.redeem(text) or await self._verify(("Bearer", text.strip()))
        if principal is None:
            self.count_wrong(address)
            raise _unauthenticated(
                "this code was used, has expired or is wrong; get another with: perdure key login-code"
            )
        refuse_borrowed(principal)
        return await self.logins.log_in(principal)

    async def log_out(self, headers: Mapping[bytes, bytes]) -> None:
        """End the login of this request's cookie."""
        shown = self._shown(headers)
        if shown is not None and shown[0] == "Cookie":
            self._believed.pop(_digest(" ".join(shown)), None)
            await self.logins.log_out(shown[1])

    @contextmanager
    def held_open(self, headers: Mapping[bytes, bytes], close: Callable[[], object]) -> Iterator[None]:
        """While a stream is open: `close` is called within five seconds when its caller is locked out."""
        shown = self._shown(headers)
        if shown is None:
            yield
            return
        mark = object()
        self._open[mark] = (" ".join(shown), close)
        if self._watch is None:
            self._watch = asyncio.create_task(self._watch_open(), name="perdure: open streams")
        try:
            yield
        finally:
            self._open.pop(mark, None)
            if not self._open and self._watch is not None:
                self._watch.cancel()
                self._watch = None

    def _shown(self, headers: Mapping[bytes, bytes]) -> tuple[str, str] | None:
        """What the caller shows: ("Bearer", key) or ("Cookie", login); a key counts before a cookie."""
        given = headers.get(b"authorization")
        if given is not None:
            kind, _, text = given.decode("latin-1").partition(" ")
            return ("Bearer", text.strip()) if kind.lower() == "bearer" else ("Unknown", "")
        for pair in headers.get(b"cookie", b"").decode("latin-1").split(";"):
            name, _, value = pair.strip().partition("=")
            if name == self.cookie:
                return ("Cookie", value)
        return None

    async def _verify(self, shown: tuple[str, str]) -> Principal | None:
        mark, now = _digest(" ".join(shown)), self._clock.monotonic()
        believed = self._believed.get(mark)
        if believed is not None and believed[1] > now:
            return believed[0]
        principal = await self._look(*shown)
        if principal is None:
            self._believed.pop(mark, None)
            return None
        if len(self._believed) >= _BELIEVED_MOST:
            self._believed.clear()
        self._believed[mark] = (principal, now + _BELIEVED_SECONDS)
        return principal

    async def _look(self, kind: str, text: str) -> Principal | None:
        if kind == "Cookie":
            return await self._logged_in(text)
        if kind != "Bearer" or not text:
            return None
        if self._token is not None and hmac.compare_digest(_digest(text), self._token):
            return Principal("admin", frozenset({Scope.ADMIN}), "key", "", _token_root(self._token))
        key = await self.keys.verify(text)
        if key is not None:
            return key.principal
        return await self._issuer.verify(text) if self._issuer is not None and text.count(".") == 2 else None

    async def _logged_in(self, cookie: str) -> Principal | None:
        found = await self.logins.find(cookie)
        kind, _, root = found.root.partition(" ") if found is not None else ("", "", "")
        match kind:
            case "key":
                key = await self._key(root.partition(" ")[0])
                return replace(found, scopes=key.scopes) if found and key and key.root == found.root else None
            case "token":
                return found if self._token is not None and found and found.root == _token_root(self._token) else None
        return found

    async def _key(self, id: str) -> Key | None:
        try:
            return await self.keys.find(id)
        except NotFound:
            return None

    async def check_open(self) -> None:
        """Cut off the open streams of those who may not call any more."""
        for mark in {mark for mark, _ in self._open.values()}:
            kind, _, text = mark.partition(" ")
            try:
                known = await self._verify((kind, text))
            except StoreError:
                continue  # who is locked out cannot be known now; the stream itself reads from the same store
            except Exception:
                log.exception("whoever holds a stream open could not be looked up")
                continue
            if known is None:
                for shown, close in list(self._open.values()):
                    if shown == mark:
                        close()

    async def _watch_open(self) -> None:
        while True:
            await asyncio.sleep(_BELIEVED_SECONDS)
            await self.check_open()


def refuse_borrowed(principal: Principal) -> None:
    """Raises Problem (403) for who is known by a token of another issuer: a login would outlive it."""
    if principal.via == "jwt":
        raise Problem(403, "a login would outlive the token of another issuer: use that", error="Forbidden")


def _token_root(digest: bytes) -> str:
    return f"token {digest.hex()[:16]}"


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def _unauthenticated(detail: str) -> Problem:
    return Problem(401, detail, headers={"WWW-Authenticate": 'Bearer realm="perdure"'})
