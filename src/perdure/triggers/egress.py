"""Which addresses may be called, and how?

A name is resolved once, every address that it has is checked, and the connection goes to one of those: between check and
use, nobody can change where it leads. No proxy of the environment is used, no redirect followed, and not much of an answer
read.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, TypeAlias

from perdure.errors import InvalidInput, NoRetry, PerdureError
from perdure.hands.threads import ThreadPool

if TYPE_CHECKING:
    import ssl

    import httpx2

Address: TypeAlias = "ipaddress.IPv4Address | ipaddress.IPv6Address"
#: The addresses of a name.
Resolve: TypeAlias = Callable[[str, int], Awaitable[list[str]]]

_URL_LONGEST = 2_000
#: Of an answer, for people who look why it was no good.
_ANSWER_BYTES = 2_000
_LOOKUPS_AT_ONCE = 4
#: What clouds answer secrets at, beside link-local addresses: AWS over IPv6, Alibaba, Oracle, Azure, Google over IPv6.
_METADATA = frozenset(
    map(
        ipaddress.ip_address,
        (
            "fd00:ec2::254", "fd00:ec2::23", "100.100.100.200", "192.0.0.192", "fd00:c1::a9fe:a9fe", "168.63.129.16",
            "fd20:ce::254",
        ),
    )
)  # fmt: skip
#: IPv6 addresses that lead to IPv4 ones: the last 32 bits.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class AddressRefused(NoRetry):
    """An address that nothing of this server may call."""


class NoAnswer(PerdureError):  # noqa: N818 - named for what happened
    """Nobody answered, or not in time."""


@dataclass(frozen=True, slots=True)
class Reach:
    """What may be called beside public addresses. Link-local ones and those of cloud metadata never may."""

    loopback: bool = False
    private: bool = False

    def allows(self, address: Address) -> bool:
        """Whether a connection may go there."""
        address = _meant(address)
        if address.is_loopback:
            return self.loopback
        if address in _METADATA or address.is_link_local or _leads_nowhere(address):
            return False
        return address.is_global or (self.private and address.is_private)


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: the status, and the beginning of the text."""

    status: int
    text: str


def check_url(url: str) -> None:
    """Raise InvalidInput for a URL that cannot be called, whatever its host's address."""
    import httpx2  # noqa: PLC0415 - only who calls others needs it

    try:
        found = httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError) as error:
        raise InvalidInput(f"this is no URL: {error}") from None
    if len(url) > _URL_LONGEST or found.scheme not in ("http", "https") or not found.host:
        raise InvalidInput(
            f"a webhook's URL begins with http:// or https:// and has at most {_URL_LONGEST:,} characters"
        )
    if found.userinfo or found.fragment:
        raise InvalidInput("a webhook's URL has neither a password nor a fragment: it is signed instead")


async def post(
    url: str, headers: Mapping[str, str], body: bytes, *, reach: Reach, seconds: float, resolve: Resolve | None = None
) -> Reply:
    """POST to `url`. Raises AddressRefused, and NoAnswer when none comes within `seconds`."""
    import httpx2  # noqa: PLC0415 - only who calls others needs it

    target = httpx2.URL(url)
    host = target.raw_host.decode("ascii")
    failure: Exception | None = None
    try:
        async with asyncio.timeout(seconds):
            for address in await _checked(host, target.port or _PORTS[target.scheme], reach, resolve or _resolve):
                try:
                    return await _send(target, str(address), headers, body)
                except httpx2.ConnectError as error:
                    failure = error  # another address may answer
    except TimeoutError:
        raise NoAnswer(f"{host} did not answer within {seconds:.0f} s") from None
    except httpx2.HTTPError as error:
        raise NoAnswer(f"{host}: {type(error).__name__}: {error}") from None
    raise NoAnswer(f"{host} cannot be reached: {failure}")


_PORTS = {"http": 80, "https": 443}


async def _checked(host: str, port: int, reach: Reach, resolve: Resolve) -> list[Address]:
    try:
        found = [ipaddress.ip_address(text.partition("%")[0]) for text in await resolve(host, port)]
    except (OSError, UnicodeError) as error:
        raise NoAnswer(f"{host} has no address: {error}") from None
    for address in found:
        if not reach.allows(address):
            raise AddressRefused(
                f"{host} has the address {address}, which is not public; a server calls such ones only when it is started "
                f"with --webhooks-to-private, and those of cloud metadata never"
            )
    return list(dict.fromkeys(found))


async def _resolve(host: str, port: int) -> list[str]:
    found = await _lookups().run(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    return [str(place[0]) for *_, place in found]


async def _send(target: httpx2.URL, address: str, headers: Mapping[str, str], body: bytes) -> Reply:
    import httpx2  # noqa: PLC0415 - only who calls others needs it

    # The certificate must be the name's, not the address's. No connection is kept: it would serve other names there too.
    transport = httpx2.AsyncHTTPTransport(verify=_tls(), trust_env=False)
    async with httpx2.AsyncClient(transport=transport, trust_env=False, follow_redirects=False, timeout=None) as client:
        request = client.build_request(
            "POST", target.copy_with(host=address), content=body,
            headers={**headers, "Host": target.netloc.decode("ascii"), "Accept-Encoding": "identity"},
            extensions={"sni_hostname": target.raw_host.decode("ascii")},
        )  # fmt: skip
        response = await client.send(request, stream=True)
        read = b""
        async for piece in response.aiter_raw():
            read += piece[: _ANSWER_BYTES - len(read)]
            if len(read) >= _ANSWER_BYTES:
                break
        await response.aclose()
    return Reply(response.status_code, read.decode("utf-8", "replace"))


@cache
def _lookups() -> ThreadPool:
    # Of its own: names that somebody makes slow to look up on purpose are not to hold up all other lookups of the process.
    return ThreadPool(_LOOKUPS_AT_ONCE, "perdure-lookup")


@cache
def _tls() -> ssl.SSLContext:
    import ssl  # noqa: PLC0415 - only who calls others needs it

    return ssl.create_default_context()


def _leads_nowhere(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and address.is_site_local:
        return True
    return address.is_multicast or address.is_unspecified or address.is_reserved


def _meant(address: Address) -> Address:
    """The address that a connection ends at."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    inside = address.ipv4_mapped or address.sixtofour
    if inside is None and address in _NAT64:
        inside = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if inside is None and address.teredo is not None:
        inside = address.teredo[1]
    return address if inside is None else inside
