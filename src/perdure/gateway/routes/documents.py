"""The description of this very interface: for programs, and for people."""

from __future__ import annotations

from starlette.responses import Response
from starlette.types import ASGIApp

from perdure.gateway.endpoint import Answer, Call, Section
from perdure.gateway.openapi import describe, describe_in_words

documents = Section("Description", "This interface, described.")


@documents.get("/openapi.json", scope=None, answers={200: "application/json"})
async def openapi(call: Call) -> Answer:
    """The OpenAPI 3.1 document."""
    return Answer(describe(call.gateway.sections, call.gateway.settings.prefix))


@documents.get("/docs", scope=None, answers={200: "text/html"})
async def docs(call: Call) -> ASGIApp:
    """The same for people."""
    return Response(describe_in_words(call.gateway.sections), media_type="text/html")
