"""Tokens of another issuer: believed when that issuer signed them, for us, and they are good now; never otherwise."""

from __future__ import annotations

import asyncio
import time

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from perdure.errors import InvalidSetting
from perdure.gateway.access.oidc import OidcIssuer
from perdure.testing.clock import FakeClock

ISSUER = "https://login.example.com"
AUDIENCE = "perdure-of-acme"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
STRANGER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
CURVE = ec.generate_private_key(ec.SECP256R1())


class Provider:
    """An OpenID Connect provider, as far as anybody asks it."""

    def __init__(self, keys=None, issuer=ISSUER):
        self.keys = keys or {"k1": KEY}
        self.issuer = issuer
        self.asked = 0

    def client(self):
        return httpx2.AsyncClient(transport=httpx2.MockTransport(self._answer))

    def _answer(self, request):
        self.asked += 1
        if request.url.path.endswith("openid-configuration"):
            return httpx2.Response(200, json={"issuer": self.issuer, "jwks_uri": f"{ISSUER}/keys"})
        found = [{**_jwk(key), "kid": name, "use": "sig"} for name, key in self.keys.items()]
        return httpx2.Response(200, json={"keys": found})


def _jwk(key):
    algorithm = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    return algorithm.to_jwk(key.public_key(), as_dict=True)


def token(key=KEY, kid="k1", algorithm="RS256", **claims):
    """A token; claims that are None are left out."""
    usual = {
        "iss": ISSUER, "aud": AUDIENCE, "sub": "u1", "email": "ann@example.com",
        "email_verified": True, "exp": time.time() + 60,
        "scope": "openid perdure:viewer perdure:approver",
    }  # fmt: skip
    given = {name: value for name, value in {**usual, **claims}.items() if value is not None}
    return jwt.encode(given, key, algorithm=algorithm, headers={"kid": kid})


def verify(text, provider=None):
    """Who holds this token."""

    async def main():
        async with (provider or Provider()).client() as client:
            return await OidcIssuer(ISSUER, AUDIENCE, FakeClock(), client).verify(text)

    return asyncio.run(main())


def test_a_good_token_is_believed():
    """Its name and scopes are the holder's."""
    principal = verify(token())
    assert (principal.name, sorted(principal.scopes)) == ("ann@example.com", ["approver", "viewer"])
    assert verify(token(CURVE, algorithm="ES256"), Provider({"k1": CURVE})).name == "ann@example.com"


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "somebody-else"}, {"aud": None}, {"iss": "https://evil.example.com"}, {"iss": None}, {"exp": 1},
        {"exp": None}, {"sub": None}, {"nbf": time.time() + 3600}, {"scope": "openid"}, {"scope": "viewer admin"},
        {"scope": "perdure:viewerx"}, {"scope": None},
    ],
)  # fmt: skip
def test_a_token_that_is_not_for_us_now_is_not(claims):
    """Another audience or issuer, expired, not yet good, without what it must say, or without a scope of ours."""
    assert verify(token(**claims)) is None


def test_a_token_that_somebody_else_signed_is_not():
    """Also none that is signed with a public key as if it were a secret, or not at all."""
    assert verify(token(STRANGER)) is None
    assert verify(token(kid="k2")) is None
    assert verify(token(key="x" * 64, algorithm="HS256")) is None
    assert verify(jwt.encode({"iss": ISSUER}, "", algorithm="none", headers={"kid": "k1"})) is None
    assert verify("a.b.c") is None
    assert verify(token(), Provider(issuer="https://evil.example.com")) is None


def test_keys_are_asked_for_again_but_not_at_every_token():
    """A new key is found; made-up key names make nobody ask more than once in half a minute."""

    async def main():
        provider, clock = Provider(), FakeClock()
        async with provider.client() as client:
            issuer = OidcIssuer(ISSUER, AUDIENCE, clock, client)
            assert await issuer.verify(token())
            for number in range(10):
                assert await issuer.verify(token(kid=f"made-up-{number}")) is None
            assert provider.asked == 2
            provider.keys["k2"] = STRANGER
            await clock.advance(31)
            assert await issuer.verify(token(STRANGER, kid="k2"))
            assert provider.asked == 4

    asyncio.run(main())


def test_an_issuer_must_be_reached_safely():
    """Over http anybody on the way could publish keys."""
    with pytest.raises(InvalidSetting, match="https"):
        OidcIssuer("http://login.example.com", AUDIENCE, FakeClock())
