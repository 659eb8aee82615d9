"""Where is a tool's function, and how does another process find it again?

By the name of its module, imported as usual; where that gives another file or nothing (a script, a file of agents that the
command line loaded under a name of its own), from the file.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from perdure.agents.signature import Signature
from perdure.agents.tool import Tool
from perdure.errors import ComputeRefused, InvalidSetting
from perdure.hands.compute.contract import Place

#: A script's name in other processes: not `__main__`, so that what stands behind `if __name__ == "__main__":` stays there.
_SCRIPT = "__mp_main__"

_signatures: dict[Place, Signature] = {}
_loading: Place | None = None


def place_of(tool: Tool[..., Any]) -> Place:
    """Where a tool's function is. Raises ComputeRefused for one that was typed at a prompt."""
    name, module = tool.function.__module__, sys.modules.get(tool.function.__module__)
    spec, file = getattr(module, "__spec__", None), getattr(module, "__file__", None)
    if name == "__main__" and spec is not None:  # python -m
        name = spec.name
    elif name == "__main__" and (file is None or not Path(file).is_file()):
        raise ComputeRefused(f"{tool.name} was typed at a prompt, where no other process finds it; put it into a file")
    return Place(
        _SCRIPT if name == "__main__" else name, file and str(Path(file).resolve()), tool.function.__qualname__
    )


def find(place: Place) -> Signature:
    """The function at a place, ready to be called with JSON. Raises ComputeRefused when it cannot be found or imported."""
    global _loading  # noqa: PLW0603 - what is being imported is a fact of the process
    if place not in _signatures:
        _loading = place
        try:
            _signatures[place] = _load(place)
        except ComputeRefused:
            raise
        except (Exception, SystemExit) as error:  # whatever the user's code raises when it is imported
            at = traceback.extract_tb(error.__traceback__)[-1]
            raise ComputeRefused(
                f"{place} cannot be imported in the process that is to run it: {type(error).__name__}: {error} "
                f"({at.filename}:{at.lineno}); its file must be there and importable as it is here"
            ) from error
        finally:
            _loading = None
    return _signatures[place]


def import_path() -> list[str]:
    """Where this process imports from, for one that starts in another directory."""
    return [entry or str(Path.cwd()) for entry in sys.path]


def refuse_while_loading() -> None:
    """Raises InvalidSetting in a process that imports a script for one of its tools: the script must not start there."""
    if _loading is not None:
        raise InvalidSetting(
            f"{_loading.file} makes a Runtime when it is imported, and the process that runs its tool imports it; put "
            'what starts it behind: if __name__ == "__main__":'
        )


def _load(place: Place) -> Signature:
    found: Any = sys.modules.get(place.module) or _import(place)
    for part in place.name.split("."):
        found = getattr(found, part, None)
    if isinstance(found, Tool):
        return found.signature
    if not callable(found):
        raise ComputeRefused(
            f"{place} is not there ({place.file}): define the tool at the top of its module, by that name"
        )
    return Signature(found)


def _import(place: Place) -> ModuleType:
    if place.file is None or not Path(place.file).is_file():  # an extension; or another machine, which has its own
        return importlib.import_module(place.module)
    spec = _spec(place.module)
    if spec is not None and spec.origin is not None and Path(spec.origin).resolve() == Path(place.file):
        return importlib.import_module(place.module)
    spec = importlib.util.spec_from_file_location(place.module, place.file)
    if spec is None or spec.loader is None:
        raise ComputeRefused(f"{place}: {place.file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[place.module] = module  # annotations are looked up through it
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[place.module]
        raise
    return module


def _spec(name: str) -> importlib.machinery.ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError):  # its package is not there
        return None
