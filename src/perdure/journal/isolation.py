"""Keeps the brain's hands off the world: files, sockets, threads and processes raise BrainIOError.

CPython reports such calls as audit events (PEP 578) before they happen. One hook, installed once, looks at
them only while agent code runs on this very thread; everything else in the process is untouched. What CPython
does not report passes: a file, a socket or a pool of threads that is open already, mkfifo, C extensions. This is a
guard against mistakes, not a sandbox: hostile code belongs into one (an audit hook cannot hold it).
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from perdure.errors import BrainIOError

_FORBIDDEN = {
    "open": "opens a file",
    "socket.__new__": "opens a socket",
    "socket.connect": "connects a socket",
    "socket.bind": "binds a socket",
    "socket.sendto": "sends on a socket",
    "socket.sendmsg": "sends on a socket",
    "socket.getaddrinfo": "looks up a host",
    "socket.gethostbyname": "looks up a host",
    "socket.gethostbyaddr": "looks up a host",
    "socket.getnameinfo": "looks up a host",
    "http.client.send": "sends a request",  # on a connection that was opened earlier
    "subprocess.Popen": "starts a process",
    "os.system": "starts a process",
    "os.exec": "starts a process",
    "os.fork": "forks the process",
    "os.forkpty": "forks the process",
    "os.spawn": "starts a process",
    "os.posix_spawn": "starts a process",
    "os.kill": "signals a process",
    "os.killpg": "signals processes",
    "os.remove": "removes a file",
    "os.rename": "renames a file",
    "os.link": "makes a link",
    "os.symlink": "makes a link",
    "os.truncate": "truncates a file",
    "os.chmod": "changes a file's rights",
    "os.chown": "changes a file's owner",
    "os.utime": "changes a file's times",
    "os.setxattr": "changes a file's attributes",
    "os.removexattr": "changes a file's attributes",
    "os.mkdir": "makes a directory",
    "os.rmdir": "removes a directory",
    "os.chdir": "changes the directory",
    "os.listdir": "lists a directory",
    "os.scandir": "lists a directory",
    "_thread.start_new_thread": "starts a thread",  # reported from 3.12 on, before by us
    "_thread.start_joinable_thread": "starts a thread",  # 3.13
    "multiprocessing.Process.start": "starts a process",  # reported by us
    "time.sleep": "blocks the thread",  # reported from 3.13 on
    "sqlite3.connect": "opens a database",
}

# What the interpreter does on its own account: it imports (and caches bytecode), shows tracebacks, rotates logs.
_HOUSEKEEPING = frozenset({"open", "os.listdir", "os.scandir", "os.mkdir", "os.rename", "os.remove"})
_INTERPRETER = frozenset({
    "importlib._bootstrap", "importlib._bootstrap_external", "importlib.metadata", "zipimport", "linecache", "tokenize",
    "traceback", "warnings", "logging", "logging.handlers", "zoneinfo", "zoneinfo._common", "inspect",
})  # fmt: skip

#: Threads on which agent code runs right now; each host loop has a thread of its own.
_threads: set[int] = set()
_installed = False


def install() -> None:
    """Install the hook. Audit hooks cannot be removed, so this happens once per process."""
    global _installed  # noqa: PLW0603 - the interpreter itself holds this state per process
    if not _installed:
        from multiprocessing.process import BaseProcess  # noqa: PLC0415 - 3 ms, for who runs agents

        sys.addaudithook(_audit)
        _report_start(BaseProcess, "multiprocessing.Process.start")  # with `spawn`, no audit event would tell
        if sys.version_info < (3, 12):
            _report_start(threading.Thread, "_thread.start_new_thread")
        _installed = True


def enter() -> int | None:
    """Agent code begins to run on this thread; returns what `leave` needs."""
    thread = threading.get_ident()
    if thread in _threads:  # within another run: the garbage collector may come upon a dropped one at any time
        return None
    _threads.add(thread)
    return thread


def leave(entered: int | None) -> None:
    """Agent code stopped running."""
    if entered is not None:
        _threads.discard(entered)


def _report_start(startable: Any, event: str) -> None:
    """Have `startable.start` raise an audit event, as CPython does elsewhere. Subclasses inherit or call it."""
    start: Callable[[Any], None] = startable.start

    @functools.wraps(start)
    def reported(self: Any) -> None:
        sys.audit(event)
        start(self)

    startable.start = reported


def _audit(event: str, args: tuple[object, ...]) -> None:
    if not _threads or event not in _FORBIDDEN or threading.get_ident() not in _threads:
        return
    if event in _HOUSEKEEPING:
        if args and isinstance(args[0], int):
            return  # a file that is open already, such as a pipe of the process that Popen is about to report
        if _on_behalf_of_interpreter(sys._getframe(1)) or (event == "open" and _is_time_zone(*args[:2])):
            return
    subject = f" ({args[0]!r})" if args and isinstance(args[0], str | bytes) else ""
    raise BrainIOError(f"agent code {_FORBIDDEN[event]}{subject}; {REMEDY}")


REMEDY = (
    "an agent is replayed from its journal, so it must not touch the world itself. "
    "Put this into a @tool, or call it as a step: await ctx.step(function, ...)"
)


def _on_behalf_of_interpreter(frame: FrameType | None) -> bool:
    # What is below the run's loop is the host, and the host may well be in the middle of an import.
    while frame is not None and frame.f_globals.get("__name__") != "perdure.journal.loop":
        if frame.f_globals.get("__name__") in _INTERPRETER:
            return True
        frame = frame.f_back
    return False


def _is_time_zone(path: object, mode: object) -> bool:
    # ZoneInfo is written in C and opens its files without a frame of its own.
    folders = getattr(sys.modules.get("zoneinfo"), "TZPATH", ())
    return isinstance(path, str) and path.startswith(tuple(map(str, folders))) and mode == "r"
