"""How is the gateway set up? What it trusts, and its bounds."""

from __future__ import annotations

from dataclasses import dataclass, field

#: Names under which a server on this machine is reached.
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """What a gateway trusts, and its bounds. The defaults are for a server that only this machine reaches."""

    #: dev | serve; shown to people
    mode: str = "serve"
    #: names (without port) that requests may be addressed to
    hosts: tuple[str, ...] = LOOPBACK
    #: a port that requests must be addressed to, or None for any (behind a proxy)
    port: int | None = None
    #: where it is reached from outside, for links: scheme, host, port and path prefix
    public_url: str = "http://127.0.0.1:8420"
    #: a path in front of every path, as `/perdure`, where a proxy passes it on
    prefix: str = ""
    #: cookies travel over TLS only
    tls: bool = False
    #: a key that is an admin's, from PERDURE_TOKEN
    token: str | None = field(default=None, repr=False)
    #: of a body, unpacked
    body_bytes: int = 1 << 20
    #: requests of one caller, on average and at once
    requests_per_second: float = 5_000.0
    requests_at_once: int = 10_000
    #: of one address, of wrong keys and codes
    wrong_keys_per_second: float = 1.0
    wrong_keys_at_once: int = 20
    #: how long a console stays logged in without being used
    login_seconds: float = 12 * 3600.0
    #: how long a login code is good
    code_seconds: float = 600.0
