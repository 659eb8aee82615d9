"""Keeps the brain's hands off the world: files, sockets, threads and processes raise BrainIOError.

CPython reports such calls as audit events (PEP 578) before they happen. One hook, installed once, looks at
them only while agent code runs on this very thread; everything else in the process is untouched. This is a
guard against mistakes, not a sandbox: hostile code belongs into one (an audit hook cannot hold it).
"""

from __future__ import annotations

import sys
import threading
from types import FrameType

from perdure.errors import BrainIOError

_FORBIDDEN = {
    "open": "opens a file",
    "socket.__new__": "opens a socket",
    "socket.connect": "connects a socket",
    "socket.getaddrinfo": "looks up a host",
    "subprocess.Popen": "starts a process",
    "os.system": "starts a process",
    "os.exec": "starts a process",
    "os.fork": "forks the process",
    "os.posix_spawn": "starts a process",
    "os.remove": "removes a file",
    "os.rename": "renames a file",
    "os.mkdir": "makes a directory",
    "os.listdir": "lists a directory",
    "os.scandir": "lists a directory",
    "_thread.start_new_thread": "starts a thread",
    "time.sleep": "blocks the thread",
    "sqlite3.connect": "opens a database",
}

# The interpreter reads files on its own account: imports, tracebacks, log handlers that rotate.
_INTERPRETER = frozenset({
    "importlib._bootstrap", "importlib._bootstrap_external", "zipimport", "linecache", "tokenize",
    "traceback", "warnings", "logging", "logging.handlers", "zoneinfo", "zoneinfo._common", "inspect",
})  # fmt: skip

_brain_thread: int | None = None
_installed = False


def install() -> None:
    """Install the hook. Audit hooks cannot be removed, so this happens once per process."""
    global _installed  # noqa: PLW0603 - the interpreter itself holds this state per process
    if not _installed:
        sys.addaudithook(_audit)
        _installed = True


def enter() -> int | None:
    """Agent code begins to run on this thread; returns what `leave` needs."""
    global _brain_thread  # noqa: PLW0603 - read by a hook that takes no argument of ours
    before = _brain_thread
    _brain_thread = threading.get_ident()
    return before


def leave(before: int | None) -> None:
    """Agent code stopped running."""
    global _brain_thread  # noqa: PLW0603 - as above
    _brain_thread = before


def _audit(event: str, args: tuple[object, ...]) -> None:
    if _brain_thread is None or event not in _FORBIDDEN or threading.get_ident() != _brain_thread:
        return
    if event in {"open", "os.listdir", "os.scandir"} and _on_behalf_of_interpreter(sys._getframe(1)):
        return
    subject = f" ({args[0]!r})" if args and isinstance(args[0], str | bytes) else ""
    raise BrainIOError(f"agent code {_FORBIDDEN[event]}{subject}; {REMEDY}")


REMEDY = (
    "an agent is replayed from its journal, so it must not touch the world itself. "
    "Put this into a @tool, or call it as a step: await ctx.step(function, ...)"
)


def _on_behalf_of_interpreter(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_globals.get("__name__") in _INTERPRETER:
            return True
        frame = frame.f_back
    return False
