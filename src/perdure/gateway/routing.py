"""Which endpoint does a path name? Exactly one or none: no prefix, no suffix, no other spelling of a path leads anywhere.

Paths are matched as they were sent, segment by segment, and only then decoded: an id may hold an encoded slash, and no
encoding of `/v1` is `/v1`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from perdure.gateway.endpoint import Endpoint
from perdure.gateway.problems import Problem


@dataclass(slots=True)
class _Place:
    """What lies behind some segments of a path."""

    fixed: dict[str, _Place] = field(default_factory=dict)
    variable: _Place | None = None
    endpoints: dict[str, Endpoint] = field(default_factory=dict)


class Routes:
    """Endpoints by path and method."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        self._root = _Place()
        for endpoint in endpoints:
            self._add(endpoint)

    def find(self, raw_path: str) -> tuple[dict[str, Endpoint], list[str]]:
        """The endpoints of a path by method, and the variable segments, decoded. Raises Problem (404, 400)."""
        values: list[str] = []
        place = self._walk(self._root, raw_path.split("/")[1:], 0, values)
        if place is None:
            raise Problem(404, f"there is nothing at {raw_path[:200]}; what there is: /docs")
        return place.endpoints, [_decoded(value) for value in values]

    def _walk(self, place: _Place, segments: list[str], at: int, values: list[str]) -> _Place | None:
        if at == len(segments):
            return place if place.endpoints else None
        segment = segments[at]
        if segment in place.fixed:
            found = self._walk(place.fixed[segment], segments, at + 1, values)
            if found is not None:
                return found
        if place.variable is None or not segment:
            return None
        values.append(segment)
        found = self._walk(place.variable, segments, at + 1, values)
        if found is None:
            values.pop()
        return found

    def _add(self, endpoint: Endpoint) -> None:
        place = self._root
        for segment in endpoint.path.split("/")[1:]:
            if segment.startswith("{"):
                place.variable = place.variable or _Place()
                place = place.variable
            else:
                place = place.fixed.setdefault(segment, _Place())
        assert endpoint.method not in place.endpoints, endpoint.path
        place.endpoints[endpoint.method] = endpoint


def variables(path: str) -> list[str]:
    """The names of a path's variable segments, in order."""
    return [segment[1:-1] for segment in path.split("/") if segment.startswith("{")]


def is_text(text: str) -> bool:
    """False for text with control characters: no name holds them, and not every store could look for them."""
    return _CONTROL.search(text) is None


_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def _decoded(segment: str) -> str:
    try:
        text = unquote_to_bytes(segment).decode()
    except UnicodeDecodeError:
        raise Problem(404, "the path holds bytes that are no UTF-8") from None
    if not is_text(text):
        raise Problem(404, "the path holds control characters, and nothing here is named with any")
    return text
