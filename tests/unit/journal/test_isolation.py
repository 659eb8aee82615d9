"""Agent code does not touch the world: what tries to says what to write instead; the rest of the process is free."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import http.client
import logging
import logging.handlers
import multiprocessing
import os
import socket
import sqlite3
import struct
import subprocess
import sys
import threading
import time
import traceback
import urllib.request
import warnings
import zoneinfo
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perdure import Context, agent
from perdure.errors import BrainIOError, NotInAgent
from tests.unit.journal.driver import Drive
from tests.unit.journal.scenarios import work

_HERE = Path(__file__)


@agent
async def doing(ctx: Context) -> str:
    """Do whatever the test put into `deed`."""
    result = deed()
    if asyncio.iscoroutine(result):
        result = await result
    return str(result)


deed: Callable[[], Any] = print


def _do(action: Callable[[], Any]) -> Drive:
    globals()["deed"] = action
    return Drive(doing).start()


@pytest.mark.parametrize(
    "action",
    [
        lambda: open(_HERE),  # noqa: PTH123, SIM115
        _HERE.read_text,
        lambda: os.open(_HERE, os.O_RDONLY),
        lambda: os.listdir("."),  # noqa: PTH208
        lambda: list(Path().iterdir()),
        lambda: list(os.walk(".")),
        lambda: os.remove("nothing"),  # noqa: PTH107
        lambda: os.mkdir("nothing"),  # noqa: PTH102
        lambda: os.chmod("nothing", 0o600),  # noqa: PTH101
        lambda: os.chown("nothing", -1, -1),
        lambda: os.utime("nothing"),
        socket.socket,
        lambda: socket.create_connection(("localhost", 1)),
        lambda: socket.gethostbyaddr("127.0.0.1"),
        lambda: socket.getnameinfo(("127.0.0.1", 1), 0),
        lambda: urllib.request.urlopen("http://localhost:1"),
        lambda: os.killpg(2**31 - 1, 0),
        lambda: subprocess.run(["true"], check=False, capture_output=True),
        lambda: multiprocessing.get_context("spawn").Process(target=print).start(),
        lambda: threading.Thread(target=print).start(),
        lambda: concurrent.futures.ThreadPoolExecutor(1).submit(print),
        lambda: os.system("true"),
        os.fork,
        lambda: sqlite3.connect(":memory:"),
        lambda: asyncio.open_connection("localhost", 1),
        lambda: asyncio.create_subprocess_exec("true"),
        lambda: asyncio.to_thread(print),
        lambda: asyncio.get_running_loop().run_in_executor(None, print),
        lambda: asyncio.get_running_loop().getaddrinfo("localhost", 1),
    ],
)
def test_touching_the_world_raises_an_error_that_says_what_to_write(action):
    """Files, directories, sockets, processes, databases, threads through asyncio."""
    with pytest.raises(BrainIOError, match=r"Put this into a @tool, or call it as a step: await ctx.step\(function"):
        _ = _do(action).value


@pytest.mark.skipif(not hasattr(os, "setxattr"), reason="a matter of Linux")
def test_changing_attributes_of_files_raises():
    """Either way."""
    for action in (lambda: os.setxattr("nothing", "user.a", b""), lambda: os.removexattr("nothing", "user.a")):
        with pytest.raises(BrainIOError, match="changes a file's attributes"):
            _ = _do(action).value


def test_a_connection_that_is_open_already_sends_no_request():
    """Sessions keep theirs alive."""
    here, there = socket.socketpair()
    with here, there:
        connection = http.client.HTTPConnection("localhost")
        connection.sock = here
        with pytest.raises(BrainIOError, match="sends a request"):
            _ = _do(lambda: connection.request("GET", "/")).value
        there.settimeout(0)
        with pytest.raises(BlockingIOError):
            there.recv(1)


def test_threads_and_processes_start_outside_of_a_run_as_ever():
    """Those of subclasses too, whether they have a start of their own or not."""
    done = []

    class Own(threading.Thread):
        def start(self) -> None:
            done.append("start")
            super().start()

        def run(self) -> None:
            done.append("run")

    own = Own()
    with pytest.raises(BrainIOError):
        _ = _do(own.start).value
    for thread in (own, threading.Timer(0, done.append, ["timer"])):
        thread.start()
        thread.join(10)
    process = multiprocessing.get_context("spawn").Process(target=int)
    process.start()
    process.join(30)

    assert done == ["start", "start", "run", "timer"]
    assert process.exitcode == 0


@pytest.mark.skipif(sys.version_info < (3, 13), reason="CPython reports it from 3.13 on")
def test_blocking_sleep_raises():
    """From Python 3.13 on; before, it only takes the time it takes."""
    with pytest.raises(BrainIOError, match="blocks the thread"):
        _ = _do(lambda: time.sleep(0)).value  # noqa: TID251


def test_a_thread_cannot_reach_into_a_run():
    """Neither by the thread-safe way nor by resolving what the run waits for."""
    inside: dict[str, Any] = {}

    @agent
    async def reached(ctx: Context) -> str:
        """Show the loop and wait."""
        inside.update(loop=asyncio.get_running_loop(), event=asyncio.Event())
        waiter = asyncio.create_task(inside["event"].wait())
        await work("a")
        return str(waiter.done())

    drive = Drive(reached).start()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        for action in (lambda: inside["loop"].call_soon_threadsafe(print), inside["event"].set):
            with pytest.raises(BrainIOError):
                pool.submit(action).result()
    drive.complete(1, "A")
    assert drive.value == "False"


def test_the_context_is_of_no_use_outside_of_its_run():
    """A step that is handed the context, or a closure over it, is told so."""
    kept: list[Context] = []

    @agent
    async def leaking(ctx: Context) -> None:
        """Leak."""
        kept.append(ctx)
        ctx.state["a"] = 1
        await work("a")

    Drive(leaking).start()
    ctx = kept[0]
    for use in (lambda: ctx.state, lambda: ctx.random, ctx.uuid, lambda: ctx.spawn(doing)):
        with pytest.raises(NotInAgent, match="was used outside of its agent's own code"):
            use()
    for coroutine in (ctx.emit("progress"), ctx.send("x", "y"), ctx.ask("?"), ctx.step(print), ctx.receive()):
        with pytest.raises(NotInAgent):
            coroutine.send(None)


def test_imports_work(tmp_path, monkeypatch):
    """Also of modules that read a file of their own while they are imported; and their bytecode is cached."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(sys, "pycache_prefix", None)
    (tmp_path / "a_module_nobody_has.py").write_text("with open(__file__) as file: text = file.read()")
    monkeypatch.syspath_prepend(tmp_path)

    def import_it() -> int:
        import a_module_nobody_has  # type: ignore[import-not-found]  # noqa: PLC0415

        return len(a_module_nobody_has.text)

    assert int(_do(import_it).value) > 10
    assert list(tmp_path.glob("__pycache__/a_module_nobody_has.*.pyc"))


def test_time_zones_work(tmp_path):
    """Also where their data is a file, and read for the first time."""
    header = b"TZif" + bytes(16) + struct.pack(">6l", 0, 0, 0, 0, 1, 4)
    (tmp_path / "Nowhere").write_bytes(header + struct.pack(">lbb", 3600, 0, 0) + b"NOW\0")
    zoneinfo.reset_tzpath([tmp_path])
    try:
        assert _do(lambda: zoneinfo.ZoneInfo.no_cache("Nowhere").key).value == "Nowhere"
    finally:
        zoneinfo.reset_tzpath()


def test_printing_logging_warning_and_tracebacks_work(capsys, caplog, recwarn):
    """What the interpreter reads on its own account is not the agent's doing."""

    def talk() -> str:
        print("hello")  # noqa: T201
        logging.getLogger("agent").error("logged")
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            warnings.warn("careful", stacklevel=1)
        try:
            raise ValueError("told")  # noqa: TRY301 - for its traceback
        except ValueError:
            traceback.print_exc()
            return traceback.format_exc()

    assert 'raise ValueError("told")' in _do(talk).value
    assert "hello" in capsys.readouterr().out
    assert "logged" in caplog.text


def test_a_log_file_that_is_opened_late_works(tmp_path):
    """Handlers may open and rotate their files when the first agent logs."""
    handler = logging.FileHandler(tmp_path / "log", delay=True)
    logger = logging.getLogger("perdure.test.late")
    logger.addHandler(handler)
    _ = _do(lambda: logger.error("written")).value
    handler.close()
    logger.removeHandler(handler)
    assert (tmp_path / "log").read_text() == "written\n"


def test_a_log_file_is_rotated(tmp_path):
    """Whoever logs when it is full."""
    handler = logging.handlers.RotatingFileHandler(tmp_path / "log", maxBytes=10, backupCount=1)
    logger = logging.getLogger("perdure.test.full")
    logger.addHandler(handler)
    for text in ("oldest text", "older text", "newer text"):
        _ = _do(lambda text=text: logger.error(text)).value  # type: ignore[misc]
    handler.close()
    logger.removeHandler(handler)
    assert [(tmp_path / name).read_text() for name in ("log.1", "log")] == ["older text\n", "newer text\n"]


def test_an_import_further_down_the_stack_does_not_open_the_door():
    """A program may run its loop while it is imported; its agents are guarded all the same."""
    code = compile("run()", "a_program.py", "exec")
    with pytest.raises(BrainIOError):
        exec(code, {"__name__": "importlib._bootstrap", "run": lambda: _do(_HERE.read_text).value})


def test_the_guard_is_off_between_and_after_events():
    """The host, its tools and other code of the thread do what they like."""

    @agent
    async def twice(ctx: Context) -> str:
        """Wait in between."""
        return await work("a") + await work("b")

    drive = Drive(twice).start()
    assert _HERE.read_text()
    drive.complete(1, "A")
    assert _HERE.read_text()
    drive.complete(2, "B")
    assert drive.value == "AB"
    assert _HERE.read_text()
    with pytest.raises(BrainIOError):
        _ = _do(_HERE.read_text).value
    assert _HERE.read_text()


def test_a_run_that_is_dropped_within_another_leaves_that_ones_guard_on():
    """The garbage collector ends it wherever it comes upon it."""

    @agent
    async def dropped(ctx: Context) -> None:
        """Wait."""
        await work("a")

    kept = [Drive(dropped).start()]

    def collect_and_read() -> str:
        loop = asyncio.get_running_loop()
        kept.clear()
        gc.collect()
        assert asyncio.get_running_loop() is loop
        return _HERE.read_text()

    with pytest.raises(BrainIOError):
        _ = _do(collect_and_read).value


def test_other_threads_are_free_while_a_run_runs_and_each_run_is_guarded_on_its_own():
    """Two threads with agent code inside, one without; leaving in any order leaves no guard behind."""
    entered, leave = threading.Barrier(3), [threading.Event(), threading.Event()]
    outcomes: list[Any] = [None, None]

    @agent
    async def lingering(ctx: Context, number: int) -> str:
        """Stay until told, then touch the world."""
        entered.wait(10)
        leave[number].wait(10)
        try:
            return _HERE.read_text()
        except BrainIOError:
            return "guarded"

    def run(number: int) -> None:
        outcomes[number] = Drive(lingering, number=number).start().value
        outcomes[number] += " " + str(len(_HERE.read_text()) > 0)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    entered.wait(10)
    assert _HERE.read_text()
    for number in range(2):
        leave[number].set()
        threads[number].join(10)
    assert outcomes == ["guarded True", "guarded True"]
    assert _HERE.read_text()
