"""Tools whose bodies the tests of compute have run elsewhere. Imported there by name, so nothing here needs pytest."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from perdure import Compute, NoRetry, current_step, tool

MIB = 2**20


@tool(effect="read", compute=Compute())
def double(n: int) -> int:
    return 2 * n


@tool(effect="read", compute=Compute())
async def double_slowly(n: int) -> int:
    await asyncio.sleep(0)
    return 2 * n


@tool(effect="read", compute=Compute())
def process_id() -> int:
    return os.getpid()


@tool(effect="read", compute=Compute())
def what_it_sees() -> dict[str, object]:
    step = current_step()
    return {
        "run": step.run, "session": step.session, "step": step.step, "attempt": step.attempt, "key": step.key,
        "last_heartbeat": step.last_heartbeat, "variable": os.environ.get("SEEN"), "input": sys.stdin.read(),
        "main": threading.current_thread() is threading.main_thread(),
    }  # fmt: skip


@tool(effect="read", compute=Compute())
def report(pieces: int) -> str:
    step = current_step()
    step.heartbeat({"at": 0})
    step.emit("progress", {"half": True})
    for n in range(pieces):
        step.stream(f"{n} ")
    return "reported"


@tool(effect="read", compute=Compute())
def report_and_wait() -> None:
    current_step().heartbeat({"at": 1})
    signal.pause()


@tool(effect="read", compute=Compute())
def refuse(kind: str) -> None:
    error = {"value": ValueError, "never": NoRetry, "exit": SystemExit}[kind]("no such shoe")
    error.add_note("left foot")
    raise error


@tool(effect="read", compute=Compute())
def queue_sql() -> None:
    current_step().execute("insert into t values (1)")


@tool(effect="read", compute=Compute())
def die(how: str) -> None:
    if how == "exit":
        os._exit(3)
    if how == "segfault":
        ctypes.string_at(0)
    if how == "forked":  # leaves a child behind that holds whatever is open
        if os.fork() == 0:
            signal.pause()
        os._exit(4)
    os.kill(os.getpid(), signal.SIGKILL)


@tool(effect="read", compute=Compute(memory="64MiB"))
def take_memory(mib: int) -> int:
    return len(bytearray(mib * MIB)) // MIB


@tool(effect="read", compute=Compute())
def hang(fifo: str, holding: bool = False) -> None:
    """Says into a pipe which processes work here, then works for ever; `holding` keeps the interpreter's lock."""
    began = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    Path(fifo).write_text(f"{os.getpid()} {began.pid}")
    (ctypes.PyDLL if holding else ctypes.CDLL)(None).pause()


@tool(effect="keyed", compute=Compute())
def meet(folder: str, others: int) -> int:
    """Ends when so many are at work at once."""
    Path(folder, str(os.getpid())).touch()
    while len(list(Path(folder).iterdir())) < others:
        threading.Event().wait(0.01)
    return others
