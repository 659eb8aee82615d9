"""Which requests are not even looked at? Those addressed to another name, and those that another site's page sends.

A page anywhere in the world can make its visitor's browser send requests to this machine, and name this machine's address
by a name of its own. Browsers say where a request comes from (Origin, Sec-Fetch-Site) and whom it is addressed to (Host):
all three are checked for every method, and nothing a request says overrides its method, host or path.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from perdure.gateway.problems import Problem
from perdure.gateway.settings import GatewaySettings

#: For all answers. The console's scripts and styles are files of its own; nothing else runs, and nobody may frame it.
SECURITY_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'; "
        "img-src 'self' data:"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

#: What a browser says of a request that its user, or a page of ours, has sent.
_OWN_SITES = (b"same-origin", b"none")
_SAFE = ("GET", "HEAD")


def check_host(headers: Mapping[bytes, bytes], settings: GatewaySettings) -> str:
    """The host that the request is addressed to. Raises Problem (421) for one that is not ours."""
    host = headers.get(b"host", b"").decode("latin-1").lower()
    name, port = _split(host)
    if name not in settings.hosts or (settings.port is not None and port not in (None, str(settings.port))):
        raise Problem(
            421, f"this server does not answer for host {host!r}; allow it with --host-name", error="WrongHost"
        )
    return host


def check_origin(method: str, headers: Mapping[bytes, bytes], host: str, *, tls: bool) -> None:
    """Raises Problem (403) for a request that a page of another origin has sent."""
    origin = headers.get(b"origin")
    if origin is not None and not _is_ours(origin.decode("latin-1"), host, tls=tls):
        raise _foreign("Origin", origin)
    site = headers.get(b"sec-fetch-site", b"none")
    if site not in _OWN_SITES:
        # A link on another page may lead here, to pages that change nothing.
        followed = headers.get(b"sec-fetch-mode") == b"navigate" and headers.get(b"sec-fetch-dest") == b"document"
        if not (method in _SAFE and followed):
            raise _foreign("Sec-Fetch-Site", site)


def check_intent(method: str, headers: Mapping[bytes, bytes]) -> None:
    """For callers known by a cookie: raises Problem (403) unless a script of ours has sent what changes something."""
    if method not in _SAFE and headers.get(b"x-perdure-csrf") != b"1":
        raise Problem(403, "a request with the console's cookie needs the header X-Perdure-CSRF: 1", error="Forbidden")


def _split(host: str) -> tuple[str, str | None]:
    name, colon, port = host.rpartition(":")
    if not colon or (host.startswith("[") and host.endswith("]")):
        return host, None
    return name, port


def _is_ours(origin: str, host: str, *, tls: bool) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.netloc.lower() == host and parts.scheme in (("https",) if tls else ("http", "https"))


def _foreign(header: str, value: bytes) -> Problem:
    said = value.decode("latin-1")[:100]
    return Problem(403, f"{header} says {said!r}: requests of other sites' pages are refused here", error="Forbidden")
