"""What is an endpoint? A method, a path, a scope, what it takes and what it answers: routes and OpenAPI come from it.

A section collects the endpoints about one kind of thing, `@runs.get("/v1/runs/{run}", scope=..., answers=RunDetail)`; the
docstring of the decorated function is what OpenAPI and /docs say of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import BaseModel
from starlette.types import ASGIApp
from starlette.types import Scope as Connection

from perdure.gateway.access.principal import Principal, Scope

if TYPE_CHECKING:
    from perdure.gateway.app import Gateway


#: In place of any JSON value, when nothing was sent.
NO_BODY = object()


@dataclass(frozen=True, slots=True)
class Call:
    """One request, read and checked: who calls, and with what."""

    gateway: Gateway
    principal: Principal
    #: the variable parts of the path, by name
    path: Mapping[str, str]
    #: an instance of the endpoint's `query` model, or None
    query: Any
    #: an instance of the endpoint's `body` model; the JSON value itself (or NO_BODY) where that is `object`, and the bytes
    #: as they came where it is `bytes`; or None
    body: Any
    #: header names in lower case
    headers: Mapping[bytes, bytes]
    connection: Connection

    def header(self, name: str) -> str | None:
        """A header's value, or None."""
        value = self.headers.get(name.lower().encode("latin-1"))
        return None if value is None else value.decode("latin-1")


@dataclass(frozen=True, slots=True)
class Answer:
    """A JSON value to be sent."""

    value: Any = field(default_factory=dict)
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


#: What an endpoint gives back: JSON, or an application that sends something else (a stream, a file).
Handler: TypeAlias = Callable[[Call], Awaitable["Answer | ASGIApp"]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One thing that can be asked for."""

    method: str
    path: str
    handler: Handler
    section: str
    #: what the caller must be allowed to do; None: anybody may ask
    scope: Scope | None
    #: what each good status answers: a model, a media type, or None for nothing
    answers: Mapping[int, type[BaseModel] | str | None]
    query: type[BaseModel] | None = None
    #: a model, `object` for any JSON value, or `bytes` for what the handler reads itself
    body: type[Any] | None = None
    #: media type of the body
    takes: str = "application/json"
    body_optional: bool = False
    #: headers that it reads, with their schemas
    headers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    #: statuses of problems beside those that every endpoint may have
    problems: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """The name of the operation."""
        return self.handler.__name__

    @property
    def about(self) -> str:
        """What it does."""
        return self.handler.__doc__ or ""


class Section:
    """Endpoints about one kind of thing, in the order of their definition."""

    def __init__(self, name: str, about: str) -> None:
        self.name = name
        self.about = about
        self.endpoints: list[Endpoint] = []

    def get(self, path: str, **options: Any) -> Callable[[Handler], Handler]:
        """Something to look at."""
        return self._add("GET", path, options)

    def post(self, path: str, **options: Any) -> Callable[[Handler], Handler]:
        """Something that is done."""
        return self._add("POST", path, options)

    def delete(self, path: str, **options: Any) -> Callable[[Handler], Handler]:
        """Something that is taken away."""
        return self._add("DELETE", path, options)

    def _add(self, method: str, path: str, options: dict[str, Any]) -> Callable[[Handler], Handler]:
        answers = options.pop("answers", None)
        if not isinstance(answers, Mapping):
            answers = {options.pop("status", 200): answers}

        def add(handler: Handler) -> Handler:
            self.endpoints.append(
                Endpoint(
                    method, path, handler, section=self.name, answers=answers, scope=options.pop("scope"), **options
                )
            )
            return handler

        return add
