"""Who signed this? Against the vectors of those who made the schemes up; and nobody else."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from perdure.errors import InvalidInput
from perdure.triggers.signatures import Scheme, WrongSignature, check_secret, new_secret, sign, verify

# The reference vector of Standard Webhooks.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID, TIME, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
NOW_US = TIME * 1_000_000
HEADERS = {
    b"webhook-id": ID.encode(), b"webhook-timestamp": str(TIME).encode(), b"webhook-signature": SIGNATURE.encode(),
}  # fmt: skip


def test_signing_gives_what_the_standard_gives():
    """The vector that all its libraries are tested with."""
    assert sign(SECRET, ID, TIME, BODY) == SIGNATURE
    assert sign(SECRET.removeprefix("whsec_"), ID, TIME, BODY) == SIGNATURE


def test_what_was_signed_is_believed():
    """And identified by its id; also when the sender changes its secret and signs with both."""
    assert verify(Scheme.STANDARD, SECRET, HEADERS, BODY, NOW_US) == ID
    both = {**HEADERS, b"webhook-signature": b"v1,AAAA v1a,BBBB " + SIGNATURE.encode()}
    assert verify(Scheme.STANDARD, SECRET, both, BODY, NOW_US + 299_000_000) == ID


@pytest.mark.parametrize(
    "changes",
    [{b"webhook-id": b"msg_other"}, {b"webhook-id": b""}, {b"webhook-id": b"a.b"}, {b"webhook-timestamp": b"1614265331"},
     {b"webhook-timestamp": b"-1"}, {b"webhook-timestamp": "²".encode()}, {b"webhook-timestamp": b""},
     {b"webhook-signature": b""}, {b"webhook-signature": b"v1,"}, {b"webhook-signature": SIGNATURE[3:].encode()},
     {b"webhook-signature": SIGNATURE.replace("v1,", "v2,").encode()}, {b"webhook-signature": "v1,é".encode()},
     {b"webhook-signature": SIGNATURE.replace("g0", "G0").encode()}],
)  # fmt: skip
def test_what_was_changed_is_not(changes):
    """Whatever of it."""
    with pytest.raises(WrongSignature):
        verify(Scheme.STANDARD, SECRET, {**HEADERS, **changes}, BODY, NOW_US)


def test_another_body_or_secret_is_not():
    """One byte is enough."""
    with pytest.raises(WrongSignature):
        verify(Scheme.STANDARD, SECRET, HEADERS, BODY + b" ", NOW_US)
    with pytest.raises(WrongSignature):
        verify(Scheme.STANDARD, new_secret(), HEADERS, BODY, NOW_US)


@pytest.mark.parametrize("seconds", [301, -301, 86_400])
def test_what_is_old_or_early_is_not(seconds):
    """Five minutes, either way."""
    with pytest.raises(WrongSignature):
        verify(Scheme.STANDARD, SECRET, HEADERS, BODY, NOW_US + seconds * 1_000_000)


def test_github():
    """The example of its documentation."""
    secret, body = "It's a Secret to Everybody", b"Hello, World!"
    right = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    id = verify(Scheme.GITHUB, secret, {b"x-hub-signature-256": right.encode()}, body, 0)
    # Its delivery id is not signed: anybody could send a copy under another one.
    assert id == verify(
        Scheme.GITHUB, secret, {b"x-hub-signature-256": right.encode(), b"x-github-delivery": b"2"}, body, 0
    )
    for wrong in ("", right[7:], right.replace("75", "76"), "sha1=" + right[7:]):
        with pytest.raises(WrongSignature):
            verify(Scheme.GITHUB, secret, {b"x-hub-signature-256": wrong.encode()}, body, 0)


def test_stripe():
    """t=TIME,v1=SIGNATURE over both; sent again with another time it is the same."""
    secret = "whsec_of_stripe_is_no_base64"

    def signed(time, body=BODY, key=secret):
        mac = hmac.new(key.encode(), f"{time}.".encode() + body, hashlib.sha256).hexdigest()
        return {b"stripe-signature": f"t={time},v0=1234,v1={mac}".encode()}

    first = verify(Scheme.STRIPE, secret, signed(TIME), BODY, NOW_US)
    assert first == verify(Scheme.STRIPE, secret, signed(TIME + 60), BODY, NOW_US)
    doubled = {b"stripe-signature": signed(TIME)[b"stripe-signature"] + b",t=1"}
    for wrong in (signed(TIME - 301), signed(TIME, b"{}"), signed(TIME, key="another"), {}, doubled):
        with pytest.raises(WrongSignature):
            verify(Scheme.STRIPE, secret, wrong, BODY, NOW_US)


@pytest.mark.parametrize(
    ("scheme", "secret"),
    [(Scheme.STANDARD, "whsec_short"), (Scheme.STANDARD, "no base64 at all, but long"), (Scheme.GITHUB, "guess-me"),
     (Scheme.STRIPE, "")],
)  # fmt: skip
def test_secrets_that_are_none_are_refused(scheme, secret):
    """Too short to be one, or not in the form of their scheme."""
    with pytest.raises(InvalidInput, match="secret"):
        check_secret(scheme, secret)
    check_secret(Scheme.STANDARD, new_secret())
