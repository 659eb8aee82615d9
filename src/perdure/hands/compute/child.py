"""The main program of a process of the local pool: bodies come in as lines, messages go out as lines.

It runs one body at a time, in its main thread, and never outlives the node: the system kills it when the thread that
started it ends (Linux), and everywhere it ends itself when nobody holds the other end of its input any more.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import signal
import sys
import threading
from queue import SimpleQueue
from typing import BinaryIO

from perdure.hands.compute.body import run_body
from perdure.hands.compute.contract import Message, Work
from perdure.values.json import encode

_PR_SET_PDEATHSIG = 1


def main(parent: int) -> None:
    """Serve `parent`, the process that started this one, until it ends."""
    _die_with(parent)
    source, sink = _own_pipes()
    inbox: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_read, args=(source, inbox), daemon=True).start()
    lock = threading.Lock()

    def send(message: Message) -> None:
        line = encode(message).encode() + b"\n"
        with lock:  # a body may report from threads of its own
            sink.write(line)
            sink.flush()

    while True:
        run_body(Work.from_json(inbox.get()), send)


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # a C library without it: the end of the input remains
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before it could be watched
        os._exit(1)


def _own_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Input and output, moved out of the body's way: it reads nothing, and what it prints goes to standard error."""
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    if hasattr(os, "register_at_fork"):
        # A process that the body forks and forgets must not hold our pipes open: the node would wait for their end.
        for pipe in (source, sink):
            os.register_at_fork(after_in_child=functools.partial(os.close, pipe.fileno()))
    return source, sink


def _read(source: BinaryIO, inbox: SimpleQueue[bytes]) -> None:
    # In a thread, so that the end of the input is seen also while a body runs.
    for line in source:
        inbox.put(line)
    if hasattr(os, "killpg"):
        os.killpg(0, signal.SIGKILL)  # with whatever the body started
    os._exit(1)
