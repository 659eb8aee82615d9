"""Agents: which there are, what they take and give, and their code."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from pydantic.errors import PydanticInvalidForJsonSchema

from perdure.agents.agent import AnyAgent
from perdure.errors import NotFound
from perdure.gateway import schemas
from perdure.gateway.access.principal import Scope
from perdure.gateway.endpoint import Answer, Call, Section
from perdure.store.contract import Node

agents = Section("Agents", "What can be started, with the JSON schemas of input and output.")


@agents.get("/v1/agents", scope=Scope.VIEWER, answers=schemas.Agents)
async def list_agents(call: Call) -> Answer:
    """The agents of this server, and those that other nodes of its store have."""
    nodes = await _living(call)
    elsewhere = {name for node in nodes for name, _ in node.programs}
    names = sorted({*call.gateway.runtime.agents.names(), *elsewhere})
    return Answer({"items": [_shown(call, name, nodes) for name in names], "next": None})


@agents.get("/v1/agents/{agent}", scope=Scope.VIEWER, answers=schemas.Agent, problems=(404,))
async def one_agent(call: Call) -> Answer:
    """One agent."""
    name, nodes = call.path["agent"], await _living(call)
    if call.gateway.runtime.agents.latest(name) is None and not _versions(name, nodes):
        raise _unknown(call, name)
    return Answer(_shown(call, name, nodes))


@agents.get("/v1/agents/{agent}/source", scope=Scope.OPERATOR, answers=schemas.Source, problems=(404,))
async def agent_source(call: Call) -> Answer:
    """The file that defines an agent of this server, to see where its steps stand."""
    agent = call.gateway.runtime.agents.latest(call.path["agent"])
    if agent is None:
        raise _unknown(call, call.path["agent"])
    try:
        file = inspect.getsourcefile(agent.function)
        lines, _ = inspect.findsource(agent.function)
    except (OSError, TypeError):
        raise NotFound(f"the source of {agent.name} is not on this machine") from None
    return Answer({"file": file or "", "first_line": 1, "text": "".join(lines)})


def _shown(call: Call, name: str, nodes: list[Node]) -> dict[str, Any]:
    own = call.gateway.runtime.agents
    agent, elsewhere = own.latest(name), _versions(name, nodes)
    versions = list(dict.fromkeys([*own.versions(name), *elsewhere]))
    about = _about(agent) if agent is not None else dict.fromkeys(_UNKNOWN)
    return {"name": name, "versions": versions, "working": bool(elsewhere), **about}


_UNKNOWN = ("version", "description", "input_schema", "output_schema", "busy", "concurrency", "file", "line")


def _about(agent: AnyAgent) -> dict[str, Any]:
    code = getattr(inspect.unwrap(agent.function), "__code__", None)
    return {
        "version": agent.version, "description": inspect.getdoc(agent.function),
        "input_schema": _schema(agent.signature.input_schema), "output_schema": _schema(agent.signature.output_schema),
        "busy": agent.busy, "concurrency": agent.concurrency,
        "file": getattr(code, "co_filename", None), "line": getattr(code, "co_firstlineno", None),
    }  # fmt: skip


def _schema(tell: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
    try:
        return tell()
    except PydanticInvalidForJsonSchema:
        return None  # types that only Python knows: the input is still checked, but nobody can be told how


def _versions(name: str, nodes: list[Node]) -> list[str]:
    return [version for node in nodes for program, version in node.programs if program == name]


async def _living(call: Call) -> list[Node]:
    return [node for node in await call.gateway.runtime.store.nodes() if node.alive]


def _unknown(call: Call, name: str) -> NotFound:
    known = ", ".join(sorted(call.gateway.runtime.agents.names())) or "none"
    return NotFound(f"there is no agent {name!r}; this server has: {known}")
