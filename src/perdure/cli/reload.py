"""How does `dev` take up new code? It starts its process again, on the same socket: whoever connects meanwhile waits.

A fresh interpreter has no remains of the old code, and what a reload loses is what a crash would lose: nothing. New code is
first loaded in a process of its own; while it does not load, the old one goes on and the error is shown.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path
from typing import NoReturn

from perdure.cli.output import note, paint

_LOOK_SECONDS = 0.4
#: Names the socket's descriptor to the process that follows.
_SOCKET = "PERDURE_DEV_SOCKET"
_RELOADED = "PERDURE_DEV_RELOADED"
_CHECK = "import sys; from perdure.cli.load import load_agents; load_agents(sys.argv[1])"


async def until_changed(file: Path, folder: Path) -> None:
    """Return when a module of the agents' `folder` has changed, and `file` as it is now loads."""
    seen = _stamps(folder)
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        stamps = _stamps(folder)
        if stamps != seen:
            seen = stamps
            if await _loads(file):
                return


async def until_loads(file: Path, folder: Path) -> None:
    """Return when `file` loads as it is now: it may have been saved once more while the node was stopping."""
    while not await _loads(file):
        await until_changed(file, folder)


def restart(listening: socket.socket) -> NoReturn:
    """Begin anew: the same command in this process's place, on the same socket."""
    listening.set_inheritable(True)
    os.environ[_SOCKET] = str(listening.fileno())
    os.environ[_RELOADED] = "1"
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - our own command


def inherited_socket() -> socket.socket | None:
    """The socket that the process before this one handed over, or None."""
    descriptor = os.environ.pop(_SOCKET, None)
    if descriptor is None:
        return None
    found = socket.socket(fileno=int(descriptor))
    found.set_inheritable(False)  # whatever agents start must not keep the port
    return found


def reloaded() -> bool:
    """True in a process that took the place of another: its page is open already."""
    return os.environ.get(_RELOADED) == "1"


def _stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """When the modules that lie in the folder of the agents were last changed, and their sizes."""
    found = {}
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if path is not None and Path(path).is_relative_to(folder) and "site-packages" not in path:
            try:
                stat = Path(path).stat()
            except OSError:
                continue  # an editor is just replacing it
            found[path] = (stat.st_mtime_ns, stat.st_size)
    return found


async def _loads(file: Path) -> bool:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-c", _CHECK, str(file), stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
    )
    _, errors = await process.communicate()
    if process.returncode:
        last = errors.decode(errors="replace").strip().splitlines()[-1:]
        note(paint(f"the new code does not load, so the old one goes on: {''.join(last)}", "yellow", err=True))
    return not process.returncode
