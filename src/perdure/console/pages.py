"""The console's own files: a page, scripts and styles. They hold nothing of anybody; what they show comes from the API."""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable

from starlette.responses import Response
from starlette.types import ASGIApp

from perdure.gateway.endpoint import Call, Section
from perdure.gateway.problems import Problem

pages = Section("Console", "The page in the browser.")

_TYPES = {
    "html": "text/html; charset=utf-8", "js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml", "json": "application/json", "txt": "text/plain; charset=utf-8",
    "md": "text/plain; charset=utf-8",
}  # fmt: skip


@pages.get("/", scope=None, answers={200: "text/html"})
async def console(call: Call) -> ASGIApp:
    """The console."""
    return _file(call, "index.html")


@pages.get("/console/{file}", scope=None, answers={200: "text/plain"}, problems=(404,))
async def console_file(call: Call) -> ASGIApp:
    """A file of the console."""
    return _file(call, call.path["file"])


@pages.get("/console/{folder}/{file}", scope=None, answers={200: "text/plain"}, problems=(404,))
async def console_file_below(call: Call) -> ASGIApp:
    """A file of the console, in a folder."""
    return _file(call, f"{call.path['folder']}/{call.path['file']}")


def _file(call: Call, name: str) -> ASGIApp:
    found = _all().get(name)
    if found is None:
        raise Problem(404, f"the console has no file {name[:100]!r}")
    content, tag = found
    headers = {"Cache-Control": "no-cache", "ETag": tag}
    if call.header("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=_TYPES[name.rpartition(".")[2]])


@cache
def _all() -> dict[str, tuple[bytes, str]]:
    """Every file by its name: a request can only name one of these, whatever it says."""
    root = files("perdure") / "console" / "static"
    found = {"/".join(path): node.read_bytes() for path, node in _walk(root, ())}
    return {name: (content, f'"{sha256(content).hexdigest()[:16]}"') for name, content in found.items()}


def _walk(node: Traversable, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], Traversable]]:
    if node.is_file():
        return [(path, node)] if path[-1].rpartition(".")[2] in _TYPES else []
    if not node.is_dir():
        return []
    return [found for child in node.iterdir() for found in _walk(child, (*path, child.name))]
