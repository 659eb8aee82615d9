"""How is a token of another issuer believed? Signed by a key that the issuer publishes, for us, now; nothing else counts.

OpenID Connect: the issuer's discovery document names its keys (JWKS), which are fetched again when a token names an unknown
one, but not more often than once in a while. Only asymmetric algorithms: with a symmetric one, whoever can verify a token
could make it. Scopes are those that the token grants as `perdure:viewer`, `perdure:operator` and so on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx2

from perdure.errors import InvalidSetting
from perdure.gateway.access.principal import Principal, Scope
from perdure.values.clock import Clock

_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA")
_PREFIX = "perdure:"
#: Keys are asked for at most this often, so that made-up tokens cannot make us ask.
_ASK_SECONDS = 30.0
#: Keys are asked for again after so long, so that one that was withdrawn is not believed for ever.
_KEPT_SECONDS = 3600.0
_PATIENCE_SECONDS = 5.0
#: How far the issuer's clock may be from ours.
_LEEWAY_SECONDS = 30


class OidcIssuer:
    """Tokens of one issuer that are meant for one audience.

    Raises InvalidSetting where `perdure[oidc]` is not installed, or the issuer's address is not https (but for loopback).
    """

    def __init__(self, issuer: str, audience: str, clock: Clock, client: httpx2.AsyncClient | None = None) -> None:
        try:
            import jwt  # noqa: PLC0415 - an extra
        except ImportError:
            raise InvalidSetting("tokens of other issuers need an extra: pip install 'perdure[oidc]'") from None
        host = httpx2.URL(issuer).host
        if not issuer.startswith("https://") and host not in ("localhost", "127.0.0.1", "::1"):
            raise InvalidSetting(f"the issuer {issuer!r} must be reached over https, or anybody could speak for it")
        self._jwt = jwt
        self._issuer = issuer
        self._audience = audience
        self._clock = clock
        self._client = client or httpx2.AsyncClient(timeout=_PATIENCE_SECONDS)
        self._keys: dict[str, Any] = {}
        self._asked = -_ASK_SECONDS
        self._asking = asyncio.Lock()

    async def verify(self, token: str) -> Principal | None:
        """Who holds this token; None for one that is not theirs, not for us, not valid now, or grants nothing here."""
        try:
            header = self._jwt.get_unverified_header(token)
            key = await self._key(str(header.get("kid", "")))
            if key is None or header.get("alg") not in _ALGORITHMS:
                return None
            claims = self._jwt.decode(
                token, key, algorithms=list(_ALGORITHMS), audience=self._audience, issuer=self._issuer,
                leeway=_LEEWAY_SECONDS, options={"require": ["exp", "iss", "aud", "sub"]},
            )  # fmt: skip
        except (self._jwt.PyJWTError, httpx2.HTTPError, ValueError, LookupError, AttributeError, TypeError):
            return None  # not signed for us, or the issuer does not say with what
        scopes = frozenset(_granted(claims))
        name = str(claims["email"] if claims.get("email_verified") is True and claims.get("email") else claims["sub"])
        return Principal(name, scopes, "jwt", str(claims["sub"])) if scopes else None

    async def _key(self, id: str) -> Any:
        known = self._keys.get(id)
        if known is not None and self._clock.monotonic() - self._asked < _KEPT_SECONDS:
            return known
        async with self._asking:
            now = self._clock.monotonic()
            if now - self._asked >= (_ASK_SECONDS if id not in self._keys else _KEPT_SECONDS):
                self._asked = now
                self._keys = await self._published()
        return self._keys.get(id)

    async def _published(self) -> dict[str, Any]:
        about = (await self._client.get(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")).json()
        if about.get("issuer") != self._issuer:
            raise ValueError("the discovery document is another issuer's")
        published = (await self._client.get(str(about["jwks_uri"]))).json()
        keys = self._jwt.PyJWKSet.from_dict(published).keys
        return {str(key.key_id): key.key for key in keys}


def _granted(claims: dict[str, Any]) -> Iterator[Scope]:
    said = claims.get("scope", claims.get("scp", ()))
    words = said.split() if isinstance(said, str) else said if isinstance(said, list) else ()
    for scope in Scope:
        if f"{_PREFIX}{scope}" in words:
            yield scope
