"""One server, by its address and a key: requests, which of them are sent again, and what problems mean.

A request that did not get through was not taken: it is sent again, a few times, whatever it is. One that may have been taken
is sent again only where that changes nothing (`again`). Then the caller is told, and told what is not known.
"""

from __future__ import annotations

import asyncio
import inspect
import ipaddress
import random
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import SplitResult, quote, urlsplit

import httpx2

from perdure import errors
from perdure.client.reading import read_json
from perdure.errors import InvalidSetting, PerdureError, Unreachable
from perdure.values.json import encode_given

_TRIES = 3
_WAIT_SECONDS = 0.3
#: A server that is busy may ask for as much patience; beyond, the caller decides.
_WAIT_MOST_SECONDS = 5.0
_TIMEOUT = httpx2.Timeout(30.0, connect=5.0, pool=None)
#: A stream without a beat (15 s) for so long is dead.
_STREAM_TIMEOUT = httpx2.Timeout(45.0, connect=5.0, pool=None)
#: As long as a line of an exported journal may be.
_EVENT_BYTES_MOST = 64 * 1024 * 1024
_NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout)
#: What a proxy, or a server whose store is in trouble, answers for a moment.
_FOR_A_MOMENT = frozenset({502, 503, 504})
_NO_BODY: Any = object()


class Connection:
    """Requests to one server."""

    def __init__(self, url: str, token: str | None) -> None:
        parts = _checked(url)
        self.url = url.rstrip("/")
        self._has_token = token is not None
        headers = {"User-Agent": "perdure", "Accept": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {_checked_token(token)}"
        local = _is_loopback(parts.hostname or "")
        # What this machine says to itself is no business of a proxy's, and reading certificates takes longer than asking.
        plain = local and parts.scheme == "http"
        # As many connections as runs are followed.
        self._http = httpx2.AsyncClient(
            headers=headers, timeout=_TIMEOUT, trust_env=not local,
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if plain else httpx2.create_ssl_context(),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=20),
        )  # fmt: skip

    async def close(self) -> None:
        """Close all connections; idempotent."""
        await self._http.aclose()

    async def get(self, *path: str, **query: Any) -> Any:
        """The JSON at a path, given by its segments. Raises what the server says is wrong, Unreachable."""
        return await self._answer("GET", path, query, again=True)

    async def post(
        self, *path: str, body: Any = _NO_BODY, query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None, again: bool = False,
    ) -> Any:  # fmt: skip
        """What the server answers to a JSON body. Raises what it says is wrong, NotJsonError, Unreachable."""
        content, sent = b"", dict(headers or {})
        if body is not _NO_BODY:
            content, sent = encode_given(body).encode(), {**sent, "Content-Type": "application/json"}
        return await self._answer("POST", path, query or {}, again=again, content=content, headers=sent)

    @asynccontextmanager
    async def stream(self, *path: str, headers: Mapping[str, str], **query: Any) -> AsyncIterator[httpx2.EventSource]:
        """Server-Sent Events. Raises Unreachable, also when the stream breaks, and what the server says is wrong."""
        url, params = self._place(path), _given(query)
        try:
            async with self._http.sse(
                url, params=params, headers=headers, timeout=_STREAM_TIMEOUT, max_event_size=_EVENT_BYTES_MOST
            ) as source:
                if source.response.status_code in {429, *_FOR_A_MOMENT}:
                    raise Unreachable(f"{self.url} answers {source.response.status_code} for the moment")
                if not source.response.is_success:
                    await source.response.aread()
                    raise self._error(source.response)
                yield source
        except httpx2.RequestError as error:
            raise self._unreachable(error) from error

    async def _answer(
        self, method: str, path: tuple[str, ...], query: Mapping[str, Any], *, again: bool, **sent: Any
    ) -> Any:
        response = await self._response(method, self._place(path), again=again, params=_given(query), **sent)
        if not response.is_success:
            raise self._error(response)
        return read_json(response.content)

    async def _response(self, method: str, url: str, *, again: bool, **sent: Any) -> httpx2.Response:
        tries = 0
        while True:
            tries += 1
            wait: float | None = _WAIT_SECONDS * tries * random.uniform(0.5, 1.0)  # noqa: S311 - spreads callers
            try:
                response = await self._http.request(method, url, **sent)
            except httpx2.RequestError as error:
                taken = not isinstance(error, _NOT_SENT)
                if tries == _TRIES or (taken and not again):
                    raise self._unreachable(error, in_doubt=taken and not again) from error
            else:
                wait = _wait_of(response, again=again)
                if tries == _TRIES or wait is None:
                    return response
            await asyncio.sleep(wait or 0)

    def _place(self, path: tuple[str, ...]) -> str:
        return "/".join((self.url, "v1", *(quote(segment, safe="") for segment in path)))

    def _error(self, response: httpx2.Response) -> PerdureError:
        """The error that a problem stands for."""
        if response.headers.get("content-type", "").partition(";")[0] != "application/problem+json":
            return PerdureError(
                f"{self.url} answers {response.status_code}, and not as a Perdure server does; check the address"
            )
        problem = read_json(response.content)
        detail = str(problem.get("detail") or problem.get("title"))
        if response.status_code == 401 and not self._has_token:
            detail = f"{detail}. The key is taken from PERDURE_TOKEN, or given to Client(token=...)"
        return error_named(str(problem.get("error")), detail)

    def _unreachable(self, error: httpx2.RequestError, *, in_doubt: bool = False) -> Unreachable:
        reason = str(error) or type(error).__name__
        if in_doubt:
            return Unreachable(
                f"the connection to {self.url} broke before an answer came ({reason}): whether it did what was asked is "
                f"not known. Look before you ask again: perdure runs --server {self.url}"
            )
        return Unreachable(
            f"no server answers at {self.url} ({reason}). Is it running? Start one with `perdure dev FILE.py`; another "
            f"address is given with --server URL or PERDURE_SERVER"
        )


def error_named(name: str, detail: str) -> PerdureError:
    """The error of perdure.errors with this name; PerdureError for any other, or where it says more than its text."""
    found = getattr(errors, name, None)
    if not (inspect.isclass(found) and issubclass(found, PerdureError)):
        return PerdureError(detail)
    try:
        return found(detail)
    except TypeError:  # such as RunFailed, which names the run
        return PerdureError(detail)


def _wait_of(response: httpx2.Response, *, again: bool) -> float | None:
    """After how long to ask again; None when this is the answer."""
    if not (response.status_code == 429 or (again and response.status_code in _FOR_A_MOMENT)):
        return None
    said = response.headers.get("retry-after", "1")
    seconds = float(said) if said.isascii() and said.isdigit() else 1.0
    return seconds if seconds <= _WAIT_MOST_SECONDS else None


def _given(query: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in query.items() if value is not None}


def _checked(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        sound, parts = False, urlsplit("")
    if "@" in parts.netloc:
        raise InvalidSetting("a server's address holds no password; its key is PERDURE_TOKEN or Client(token=...)")
    if not sound or parts.query or parts.fragment:
        raise InvalidSetting(f"{url!r} is not the address of a server; it looks like http://127.0.0.1:8420")
    return parts


def _checked_token(token: str) -> str:
    token = token.strip()
    if not token or not token.isascii() or not token.isprintable():
        raise InvalidSetting("the key is empty or holds characters that no key has; make one with: perdure key create")
    return token


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
