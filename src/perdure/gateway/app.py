"""The gateway: an ASGI application in front of one Runtime.

A request passes, in this order: whom is it addressed to, where does it come from (guard.py), who calls and how often
(access/), which endpoint, may the caller do that, what was sent. Only then is anything done. Whatever goes wrong becomes
problem details; what nobody expected is logged here and tells the caller nothing of its inside.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl

from pydantic import BaseModel, ValidationError
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from perdure.errors import NotJsonError
from perdure.gateway.access.access import Access, Issuer
from perdure.gateway.access.principal import NOBODY, Principal
from perdure.gateway.body import PUBLIC_BODY_BYTES, read_body, read_json
from perdure.gateway.endpoint import NO_BODY, Answer, Call, Endpoint, Section
from perdure.gateway.events import Streams
from perdure.gateway.guard import SECURITY_HEADERS, check_host, check_intent, check_origin
from perdure.gateway.health import Health
from perdure.gateway.openapi import describe, describe_in_words
from perdure.gateway.problems import Problem, problem_of
from perdure.gateway.routing import Routes, is_text, variables
from perdure.gateway.settings import GatewaySettings
from perdure.gateway.shown import Shown
from perdure.runtime import Runtime
from perdure.triggers.triggers import Triggers
from perdure.values.json import encode

log = logging.getLogger("perdure.gateway")

_HEADERS = [(name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]


class Gateway:
    """HTTP in front of `runtime`, which must be started before the first request comes.

    sections: what can be asked for (`perdure.gateway.routes.SECTIONS`, and the console's). issuer: somebody else who says
    who callers are. store_name: how the store is shown to people: without passwords. triggers: those of `runtime`, which
    whoever serves starts and stops; left out, they can be defined here, and nothing comes of them here. examine: looks at
    machine and store as `perdure doctor` does; it may take a while, and is called in a thread.
    """

    def __init__(
        self, runtime: Runtime, settings: GatewaySettings | None = None, *, sections: Iterable[Section],
        issuer: Issuer | None = None, store_name: str = "", triggers: Triggers | None = None,
        examine: Callable[[], list[dict[str, Any]]] | None = None,
    ) -> None:  # fmt: skip
        self.runtime = runtime
        self.settings = settings or GatewaySettings()
        self.sections = list(sections)
        self.store_name = store_name
        self.access = Access(runtime.store, runtime.kernel.clock, self.settings, issuer)
        self.streams = Streams(runtime)
        self.triggers = triggers or Triggers(runtime)
        self.shown = Shown(runtime)
        self.health = Health(runtime.kernel.clock, examine)
        self._routes = Routes(endpoint for section in self.sections for endpoint in section.endpoints)

    @cached_property
    def description(self) -> str:
        """The OpenAPI document, as text."""
        return encode(describe(self.sections, self.settings.prefix))

    @cached_property
    def description_in_words(self) -> str:
        """The same as a page."""
        return describe_in_words(self.sections)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection's request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 4403})  # none is offered: refused before it is accepted
            return
        if scope["type"] != "http":
            return
        out = _Sender(send)
        headers = dict(scope["headers"])
        try:
            response = await self._answer(scope, headers, receive, out)
            await response(scope, receive, out)
        except Exception as error:
            problem = problem_of(error)
            if problem.status >= 500:
                log.error("%s %s: %s", scope["method"], _shown_path(scope["path"]), problem.error, exc_info=error)
            if out.started:
                raise
            await problem.response()(scope, receive, out)

    async def _answer(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, out: _Sender) -> ASGIApp:
        method = scope["method"]
        host = check_host(headers, self.settings)
        check_origin(method, headers, host, tls=self.settings.tls)
        path = self._path(scope)
        if path == self.settings.prefix != "" and method in ("GET", "HEAD"):
            return RedirectResponse(f"{path}/", 308)  # the console's addresses are relative to its folder
        endpoint, values = self._find(method, path)
        # What there is, and what not, is told only to who is known.
        public = isinstance(endpoint, Endpoint) and endpoint.scope is None
        if public:
            self.access.take_public(_address(scope))
        principal = NOBODY if public else await self._known(method, scope, headers, out)
        if isinstance(endpoint, Problem):
            raise endpoint
        if endpoint.scope is not None and not principal.may(endpoint.scope):
            raise Problem(403, f"this needs scope {endpoint.scope}; yours: {', '.join(sorted(principal.scopes))}")
        call = Call(
            self, principal, dict(zip(variables(endpoint.path), values, strict=True)),
            query=_query(endpoint, scope["query_string"]), body=await self._body(endpoint, headers, receive),
            headers=headers, connection=scope,
        )  # fmt: skip
        answer = await endpoint.handler(call)
        return _json(answer) if isinstance(answer, Answer) else answer

    def _path(self, scope: Scope) -> str:
        path = (scope.get("raw_path") or scope["path"].encode()).partition(b"?")[0].decode("latin-1")
        prefix = self.settings.prefix
        if prefix and path.startswith(f"{prefix}/"):
            return str(path[len(prefix) :])
        return str(path)

    def _find(self, method: str, raw_path: str) -> tuple[Endpoint | Problem, list[str]]:
        try:
            endpoints, values = self._routes.find(raw_path)
        except Problem as problem:
            return problem, []
        endpoint = endpoints.get("GET" if method == "HEAD" else method)
        if endpoint is None:
            allowed = ", ".join(sorted(endpoints))
            return Problem(405, f"{method} is not possible here; possible: {allowed}", headers={"Allow": allowed}), []
        return endpoint, values

    async def _known(self, method: str, scope: Scope, headers: dict[bytes, bytes], out: _Sender) -> Principal:
        principal = await self.access.authenticate(headers, _address(scope))
        if principal.via == "cookie":
            check_intent(method, headers)
        room = self.access.take(principal)
        out.add("RateLimit-Policy", self.access.rate_policy)
        out.add("RateLimit", f'"default";r={room.remaining}')
        if not room.granted:
            wait = str(max(1, round(room.wait_seconds + 0.5)))
            raise Problem(429, f"too many requests with this key; go on in {wait} s", headers={"Retry-After": wait})
        return principal

    async def _body(self, endpoint: Endpoint, headers: dict[bytes, bytes], receive: Receive) -> Any:
        if endpoint.body is None:
            return None
        most = (
            self.settings.body_bytes if endpoint.scope is not None else min(self.settings.body_bytes, PUBLIC_BODY_BYTES)
        )
        body = await read_body(receive, headers, most)
        if endpoint.body is bytes:
            return body
        if not body and endpoint.body_optional:
            return NO_BODY if endpoint.body is object else endpoint.body()
        value = read_json(body, headers.get(b"content-type", b"").decode("latin-1"))
        return value if endpoint.body is object else _validated(endpoint.body, value, 422, "the body")


def _address(scope: Scope) -> str:
    return str(scope["client"][0]) if scope.get("client") else "?"


def _shown_path(path: str) -> str:
    """A path as a log may keep it: without the token of an approval link."""
    head, separator, _ = path.partition("/a/")
    return f"{head}{separator}..." if separator else path


class _Sender:
    """Sends answers with the headers that all of them have."""

    def __init__(self, send: Send) -> None:
        self.started = False
        self._send = send
        self._more: list[tuple[bytes, bytes]] = []

    def add(self, name: str, value: str) -> None:
        """One more header for this answer."""
        self._more.append((name.lower().encode(), value.encode("latin-1")))

    async def __call__(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            own = [name for name, _ in message["headers"]]
            rest = [header for header in _HEADERS if header[0] not in own]
            cached = [] if b"cache-control" in own else [(b"cache-control", b"no-store")]
            message = {**message, "headers": [*message["headers"], *rest, *self._more, *cached]}
        await self._send(message)


def _json(answer: Answer) -> Response:
    if answer.status == 204:
        return Response(status_code=204, headers=dict(answer.headers))
    try:
        text = encode(answer.value)
    except NotJsonError as error:
        raise RuntimeError("an answer that is no JSON") from error  # our mistake, not the caller's
    return Response(text, answer.status, dict(answer.headers), "application/json")


def _query(endpoint: Endpoint, query_string: bytes) -> Any:
    if endpoint.query is None and not query_string:
        return None
    try:
        pairs = parse_qsl(
            query_string.decode("ascii"), keep_blank_values=True, strict_parsing=bool(query_string), errors="strict",
            max_num_fields=100,
        )  # fmt: skip
    except ValueError as error:
        raise Problem(400, f"the query string cannot be read: {error}") from None
    if not all(is_text(text) for pair in pairs for text in pair):
        raise Problem(400, "the query string holds control characters, and nothing here is named with any")
    if endpoint.query is None:
        raise Problem(400, f"this takes no query parameters, not {pairs[0][0]!r}")
    return _validated(endpoint.query, _collected(endpoint.query, pairs), 400, "the query string")


def _collected(model: type[BaseModel], pairs: list[tuple[str, str]]) -> Mapping[str, Any]:
    """Parameters by name; only those whose field is a tuple may come several times."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        several = name in model.model_fields and "tuple" in str(model.model_fields[name].annotation)
        if several:
            found.setdefault(name, []).append(value)
        elif name in found:
            raise Problem(400, f"the query parameter {name!r} is given twice")
        else:
            found[name] = value
    return found


def _validated(model: type[BaseModel], value: Any, status: int, what: str) -> BaseModel:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        detail = f"{what} does not fit: {place + ': ' if place else ''}{first['msg']}"
        raise Problem(status, detail, error="InvalidInput") from None
