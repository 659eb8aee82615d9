"""Who signed this body? Standard Webhooks, both ways; and the schemes of GitHub and Stripe, to be checked.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from enum import StrEnum

from perdure.errors import InvalidInput

#: How far a signature's time may be from ours: an older one is perhaps somebody's copy.
TOLERANCE_SECONDS = 300
_PREFIX = "whsec_"
_LONGEST = 256


class WrongSignature(Exception):  # noqa: N818 - says what was found
    """Nobody who knows the secret has sent this, or not now."""


class Scheme(StrEnum):
    """How a sender signs."""

    #: webhook-id, webhook-timestamp, webhook-signature
    STANDARD = "standard-webhooks"
    #: X-Hub-Signature-256; it has no time, so a copy is recognised by its content only
    GITHUB = "github"
    #: Stripe-Signature
    STRIPE = "stripe"


def new_secret() -> str:
    """A secret of 256 bits, as Standard Webhooks writes it."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def check_secret(scheme: Scheme, secret: str) -> None:
    """Raise InvalidInput for what cannot be the secret of this scheme, or is too easily guessed."""
    try:
        key = _key(secret) if scheme is Scheme.STANDARD else secret.encode()
    except ValueError:
        raise InvalidInput(f"a secret of {scheme} is {_PREFIX} and base64; leave it out, and one is made") from None
    if not 16 <= len(key) <= _LONGEST:
        raise InvalidInput(f"a secret has 16 to {_LONGEST} bytes, not {len(key)}")


def sign(secret: str, id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`."""
    return f"v1,{base64.b64encode(_standard(secret, id, str(timestamp), body)).decode()}"


def verify(scheme: Scheme, secret: str, headers: Mapping[bytes, bytes], body: bytes, now_us: int) -> str:
    """Check a body's signature in constant time; what identifies this delivery, however often it is sent.

    headers: names in lower case. Raises WrongSignature.
    """
    match scheme:
        case Scheme.STANDARD:
            return _verify_standard(secret, headers, body, now_us)
        case Scheme.GITHUB:
            _verify_github(secret, headers, body)
        case Scheme.STRIPE:
            _verify_stripe(secret, headers, body, now_us)
    # What these two send beside the body is not signed, or is new with every try.
    return hashlib.sha256(body).hexdigest()


def _verify_standard(secret: str, headers: Mapping[bytes, bytes], body: bytes, now_us: int) -> str:
    id, timestamp = _header(headers, b"webhook-id"), _header(headers, b"webhook-timestamp")
    if not 1 <= len(id) <= _LONGEST or not id.isprintable() or "." in id:
        raise WrongSignature("webhook-id")
    _check_time(timestamp, now_us)
    expected = base64.b64encode(_standard(secret, id, timestamp, body))
    given = _header(headers, b"webhook-signature").split(" ")
    _require(expected, [text[3:] for text in given if text.startswith("v1,")])
    return id


def _verify_github(secret: str, headers: Mapping[bytes, bytes], body: bytes) -> None:
    given = _header(headers, b"x-hub-signature-256")
    expected = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    _require(expected.encode(), [given[7:]] if given.startswith("sha256=") else [])


def _verify_stripe(secret: str, headers: Mapping[bytes, bytes], body: bytes, now_us: int) -> None:
    fields = [field.strip().partition("=")[::2] for field in _header(headers, b"stripe-signature").split(",")]
    times = [value for name, value in fields if name == "t"]
    if len(times) != 1:
        raise WrongSignature("Stripe-Signature")
    _check_time(times[0], now_us)
    expected = hmac.new(secret.encode(), times[0].encode() + b"." + body, hashlib.sha256).hexdigest()
    _require(expected.encode(), [value for name, value in fields if name == "v1"])


def _standard(secret: str, id: str, timestamp: str, body: bytes) -> bytes:
    return hmac.new(_key(secret), f"{id}.{timestamp}.".encode() + body, hashlib.sha256).digest()


def _key(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError("no base64") from error


def _header(headers: Mapping[bytes, bytes], name: bytes) -> str:
    return headers.get(name, b"")[:8192].decode("latin-1")


def _check_time(text: str, now_us: int) -> None:
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise WrongSignature("its time")
    if abs(int(text) - now_us / 1e6) > TOLERANCE_SECONDS:
        raise WrongSignature("it is too old, or from the future")


def _require(expected: bytes, given: list[str]) -> None:
    """One of several signatures is enough: senders add a second one while they change their secret."""
    if not any(hmac.compare_digest(expected, text.encode("latin-1")) for text in given):
        raise WrongSignature("its signature")
