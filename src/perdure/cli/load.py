"""Which agents does FILE.py define? Imports the file as Python would, with its own directory on the path."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import click

from perdure.errors import PerdureError

if TYPE_CHECKING:
    from perdure.agents.agent import AnyAgent


class Agents:
    """What a file defines: `agents` in the order of their definition, each under the name it has in the file too."""

    def __init__(self, file: str, by_variable: dict[str, AnyAgent]) -> None:
        self.file = file
        self.agents = list({id(agent): agent for agent in by_variable.values()}.values())
        self._by_variable = by_variable

    def named(self, name: str | None) -> AnyAgent:
        """The agent with this name, or the file's only one. Raises UsageError."""
        names = list(dict.fromkeys(agent.name for agent in self.agents))
        if name is None and len(names) == 1:
            return self.agents[-1]
        known = ", ".join(names)
        if name is None:
            first = f"{self.file}:{self.agents[0].name}"
            raise click.UsageError(f"{self.file} defines several agents ({known}): name one, as in {first}")
        # The newest version of a name is the one defined last.
        found = next((agent for agent in reversed(self.agents) if agent.name == name), self._by_variable.get(name))
        if found is None:
            raise click.UsageError(f"{self.file} defines no agent {name!r}; it defines: {known}")
        return found


def load_agents(file: str) -> Agents:
    """The agents of `file`. Raises UsageError, with file:line, when it cannot be imported or defines none."""
    from perdure.agents.agent import Agent

    module = _import(Path(file))
    found = {name: value for name, value in vars(module).items() if isinstance(value, Agent)}
    if not found:
        raise click.UsageError(f"{file} defines no agent: decorate an async function with @agent (from perdure)")
    return Agents(file, found)


def split_target(target: str) -> tuple[str, str | None]:
    """FILE.py:AGENT as (file, agent); the agent may be missing."""
    file, separator, name = target.rpartition(":")
    return (file, name) if separator and file.endswith(".py") else (target, None)


def _import(path: Path) -> ModuleType:
    if not path.is_file():
        raise click.UsageError(f"there is no file {path} (from {Path.cwd()})")
    name = _free_name(path)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise click.UsageError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.resolve().parent))
    sys.modules[name] = module  # annotations are looked up through it
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # whatever the user's code raises
        if isinstance(error, PerdureError):
            raise click.UsageError(f"{_place(error, path)}: {error}") from error
        raise click.UsageError(f"{_place(error, path)}: {type(error).__name__}: {error}") from error
    return module


def _free_name(path: Path) -> str:
    # A file called json.py must not become everybody's json.
    taken = importlib.util.find_spec(path.stem) if path.stem.isidentifier() else None
    if taken is None or taken.origin == str(path.resolve()):
        return path.stem
    return f"perdure_file_{path.stem}"


def _place(error: BaseException, path: Path) -> str:
    """file:line of the user's own code, nearest to the error."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    directory = str(path.resolve().parent)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if str(Path(frame.filename).resolve()).startswith(directory)]
    return f"{own[-1].filename}:{own[-1].lineno}" if own else str(path)
