"""The OpenAPI 3.1 document of a gateway, made from its endpoints; and the same as a page for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from http import HTTPStatus
from typing import Any, TypeGuard

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from perdure.gateway.endpoint import Endpoint, Section
from perdure.gateway.problems import MEDIA_TYPE
from perdure.gateway.routing import variables
from perdure.views.version import VERSION

_PROBLEM = {
    "type": "object",
    "description": "RFC 9457: what happened, to what, and the remedy.",
    "properties": {
        "type": {"type": "string"}, "title": {"type": "string"}, "status": {"type": "integer"},
        "detail": {"type": "string"}, "error": {"type": "string", "description": "The name of the error."},
    },
    "required": ["type", "title", "status", "detail", "error"],
}  # fmt: skip
_REFERENCE = "#/components/schemas/{model}"


def describe(sections: Iterable[Section], prefix: str = "") -> dict[str, Any]:
    """The document."""
    sections = list(sections)
    endpoints = [endpoint for section in sections for endpoint in section.endpoints]
    schemas = _schemas(endpoints)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Perdure", "version": VERSION, "description": "The runtime that AI agents live on."},
        "servers": [{"url": prefix or "/"}],
        "tags": [{"name": section.name, "description": section.about} for section in sections],
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "schemas": {**schemas.definitions, "Problem": _PROBLEM},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def describe_in_words(sections: Iterable[Section]) -> str:
    """A page for people, without a script."""
    body = "".join(_section_in_words(section) for section in sections)
    return _PAGE.replace("{body}", body).replace("{version}", escape(VERSION))


class _Schemas:
    """The schemas of all models, by mode."""

    def __init__(self, references: dict[Any, Any], definitions: dict[str, Any]) -> None:
        self.references = references
        self.definitions = definitions

    def of(self, model: type[BaseModel], *, sent: bool) -> dict[str, Any]:
        """What refers to a model: one that callers send, or are sent."""
        found: dict[str, Any] = self.references[model, "validation" if sent else "serialization"]
        return found


def _schemas(endpoints: Iterable[Endpoint]) -> _Schemas:
    wanted: dict[tuple[type[BaseModel], Any], None] = {}
    for endpoint in endpoints:
        for model in (endpoint.query, endpoint.body):
            if _is_model(model):
                wanted[model, "validation"] = None
        for answer in endpoint.answers.values():
            if _is_model(answer):
                wanted[answer, "serialization"] = None
    references, whole = models_json_schema(list(wanted), ref_template=_REFERENCE)
    return _Schemas(references, whole.get("$defs", {}))


def _operation(endpoint: Endpoint, schemas: _Schemas) -> dict[str, Any]:
    summary, _, description = endpoint.about.partition("\n")
    operation: dict[str, Any] = {
        "operationId": endpoint.name, "tags": [endpoint.section], "summary": summary.strip(),
        "description": _description(endpoint, description), "parameters": [*_parameters(endpoint, schemas)],
        "responses": _responses(endpoint, schemas),
    }  # fmt: skip
    if endpoint.scope is None:
        operation["security"] = []
    if endpoint.body is not None:
        schema = schemas.of(endpoint.body, sent=True) if _is_model(endpoint.body) else {}
        operation["requestBody"] = {
            "required": not endpoint.body_optional, "content": {endpoint.takes: {"schema": schema}},
        }  # fmt: skip
    return operation


def _description(endpoint: Endpoint, more: str) -> str:
    needs = "Anybody may ask." if endpoint.scope is None else f"Needs scope `{endpoint.scope}`."
    words = " ".join(more.split())
    return f"{words} {needs}".strip()


def _parameters(endpoint: Endpoint, schemas: _Schemas) -> Iterator[dict[str, Any]]:
    for name in variables(endpoint.path):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    for name, schema in endpoint.headers.items():
        yield {"name": name, "in": "header", "required": False, "schema": schema}
    if endpoint.query is not None:
        reference = schemas.of(endpoint.query, sent=True)["$ref"]
        model = schemas.definitions[reference.rpartition("/")[2]]
        for name, schema in model["properties"].items():
            required = name in model.get("required", ())
            yield {"name": name, "in": "query", "required": required, "schema": _said(schema)}


def _said(schema: dict[str, Any]) -> dict[str, Any]:
    """Of a query parameter: what is left out is left out, and never null."""
    choices = [choice for choice in schema.get("anyOf", ()) if choice != {"type": "null"}]
    if len(choices) != 1:
        return schema
    return {name: value for name, value in {**schema, **choices[0]}.items() if name not in {"anyOf", "default"}}


def _responses(endpoint: Endpoint, schemas: _Schemas) -> dict[str, Any]:
    responses = {str(status): _answer(endpoint, status, schemas) for status in endpoint.answers}
    if "Last-Event-ID" in endpoint.headers:
        responses["200"]["content"]["text/event-stream"] = {"schema": {"type": "string"}}
    for status in sorted({*_problems(endpoint), *endpoint.problems}):
        responses[str(status)] = {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
    return responses


def _answer(endpoint: Endpoint, status: int, schemas: _Schemas) -> dict[str, Any]:
    answer = endpoint.answers[status]
    about = {"description": HTTPStatus(status).phrase}
    if answer is None:
        return about
    if isinstance(answer, str):
        return {**about, "content": {answer: {"schema": {}}}}
    return {**about, "content": {"application/json": {"schema": schemas.of(answer, sent=False)}}}


def _problems(endpoint: Endpoint) -> Iterator[int]:
    """What may go wrong with every endpoint of this kind."""
    yield from (400, 403, 421, 429, 503)
    if endpoint.scope is not None:
        yield 401
    if endpoint.body is not None:
        yield from (413, 415, 422)
    if variables(endpoint.path):
        yield 404


def _is_model(found: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(found, type) and issubclass(found, BaseModel)


def _section_in_words(section: Section) -> str:
    rows = "".join(_endpoint_in_words(endpoint) for endpoint in section.endpoints)
    return f"<section><h2>{escape(section.name)}</h2><p>{escape(section.about)}</p><dl>{rows}</dl></section>"


def _endpoint_in_words(endpoint: Endpoint) -> str:
    scope = "anybody" if endpoint.scope is None else str(endpoint.scope)
    return (
        f"<dt><code><b>{endpoint.method}</b> {escape(endpoint.path)}</code> <small>{scope}</small></dt>"
        f"<dd>{escape(' '.join(endpoint.about.split()))}</dd>"
    )


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Perdure HTTP API</title><link rel="stylesheet" href="console/docs.css"></head>
<body><main><h1>Perdure HTTP API</h1><p>Version {version}. For programs: <a href="openapi.json">openapi.json</a>.
Requests carry <code>Authorization: Bearer KEY</code>.</p>{body}</main></body></html>
"""
