"""Perdure: the runtime that AI agents live on.

The layers, lowest first (arrows of import point down only):

    values, errors   what everything speaks          journal   a run as a pure state machine
    agents           what users write against        store     where runs live
    kernel           decides and records             hands     acts on the world
    governance       pure decisions at the gate      runtime   wires it all together
    client           the same calls over HTTP        gateway   answers them
    cli, demo        for people                      testing   fakes, faults and suites, public

The names below are imported when they are first used: `perdure --help` needs none of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perdure.agents.agent import Agent, agent
    from perdure.agents.approval import Approval
    from perdure.agents.attempt import Attempt, current_step
    from perdure.agents.context import Child, Context
    from perdure.agents.tool import DID_NOT_HAPPEN, STILL_UNKNOWN, Happened, Tool, tool
    from perdure.client.client import Client
    from perdure.errors import NoRetry, PerdureError, RunCancelled, RunFailed, StepError
    from perdure.runtime import RunHandle, Runtime
    from perdure.values.compute import Compute
    from perdure.values.effects import Retries
    from perdure.values.events import Event
    from perdure.values.runs import Run, RunStatus
    from perdure.values.settings import Settings

__all__ = [
    "DID_NOT_HAPPEN",
    "STILL_UNKNOWN",
    "Agent",
    "Approval",
    "Attempt",
    "Child",
    "Client",
    "Compute",
    "Context",
    "Event",
    "Happened",
    "NoRetry",
    "PerdureError",
    "Retries",
    "Run",
    "RunCancelled",
    "RunFailed",
    "RunHandle",
    "RunStatus",
    "Runtime",
    "Settings",
    "StepError",
    "Tool",
    "agent",
    "current_step",
    "tool",
]

_HOMES = {
    "perdure.agents.agent": ("Agent", "agent"),
    "perdure.agents.approval": ("Approval",),
    "perdure.agents.attempt": ("Attempt", "current_step"),
    "perdure.agents.context": ("Child", "Context"),
    "perdure.agents.tool": ("DID_NOT_HAPPEN", "STILL_UNKNOWN", "Happened", "Tool", "tool"),
    "perdure.client.client": ("Client",),
    "perdure.errors": ("NoRetry", "PerdureError", "RunCancelled", "RunFailed", "StepError"),
    "perdure.runtime": ("RunHandle", "Runtime"),
    "perdure.values.compute": ("Compute",),
    "perdure.values.effects": ("Retries",),
    "perdure.values.events": ("Event",),
    "perdure.values.runs": ("Run", "RunStatus"),
    "perdure.values.settings": ("Settings",),
}

# Hidden from type checkers, which would otherwise accept any name.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        home = next((module for module, names in _HOMES.items() if name in names), None)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(importlib.import_module(home), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
