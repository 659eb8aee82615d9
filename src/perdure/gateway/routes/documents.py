"""The description of this very interface: for programs, and for people."""

from __future__ import annotations

from starlette.responses import Response
from starlette.types import ASGIApp

from perdure.gateway.endpoint import Call, Section

documents = Section("Description", "This interface, described.")


@documents.get("/openapi.json", scope=None, answers={200: "application/json"})
async def openapi(call: Call) -> ASGIApp:
    """The OpenAPI 3.1 document."""
    return Response(call.gateway.description, media_type="application/json")


@documents.get("/docs", scope=None, answers={200: "text/html"})
async def docs(call: Call) -> ASGIApp:
    """The same for people."""
    return Response(call.gateway.description_in_words, media_type="text/html")
