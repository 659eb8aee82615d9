"""The workers that chaos strikes: real processes, but quick to be born.

Importing takes ten times as long as working between two kills. So one process imports everything and then only forks.
Each line on its standard input describes a worker; what becomes of workers it says on its standard output. Both are
JSON. In: `name`, `url`, `namespace`. Out: the `name`, and `born` (process id), `ready` (its node), `frozen`, `ended` (wait
status), or `complaint`: what a worker should not have had to say.

A worker freezes at SIGUSR1. Its wall clock jumps at SIGUSR2, and at SIGHUP goes a year ahead for good.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import sys
import traceback
from collections import deque
from collections.abc import Sequence
from typing import Any, cast

from perdure.errors import PerdureError
from perdure.runtime import Runtime
from perdure.store import Store, store_from_url
from perdure.store.contract import Transaction
from perdure.testing.chaos.begins import NotedWorld
from perdure.testing.workflows import AGENTS, the_world
from perdure.values.clock import SystemClock
from perdure.values.json import decode, encode
from perdure.values.settings import Settings

_PR_SET_PDEATHSIG = 1
_CLONE_NEWNET = 0x40000000
_PIPE_BYTES_MOST = 4096
#: how long after its beginning a commit is on its way, and how long one is waited for
_SEND_SECONDS = 0.0005
_COMMIT_SECONDS_MOST = 0.2
_DAY_US = 86_400 * 1_000_000
_YEAR_US = 365 * _DAY_US


def main() -> None:
    """Start a worker per line of standard input; all end with it."""
    effects, lease_seconds = sys.argv[1:]
    warm_up()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the keepers
    for line in sys.stdin:
        worker = decode(line)
        store_from_url(worker["url"])  # imports the driver, once
        if os.fork() == 0:
            keep(worker, effects, float(lease_seconds))


def keep(worker: dict[str, str], effects: str, lease_seconds: float) -> None:
    """Have a worker, and say when it has ended."""
    end_with_parent()
    if worker["namespace"]:
        enter(worker["namespace"])
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        end_with_parent()
        asyncio.run(work(worker["name"], worker["url"], effects, lease_seconds))
        os._exit(1)
    say(worker["name"], born=pid)
    _, status = os.waitpid(pid, 0)
    say(worker["name"], ended=status)
    os._exit(0)


async def work(name: str, url: str, effects: str, lease_seconds: float) -> None:
    """Be a worker until killed."""
    logging.basicConfig(handlers=[Complaints(name)], level=logging.WARNING)
    the_world.set(NotedWorld(effects, name))
    clock = JumpingClock()
    loop = asyncio.get_running_loop()
    if url.startswith("postgres"):
        url += f"{'&' if '?' in url else '?'}application_name={name}"
    store = FreezingStore(store_from_url(url, clock), name)
    loop.add_signal_handler(signal.SIGUSR1, store.freeze_soon)
    loop.add_signal_handler(signal.SIGUSR2, clock.jump)
    loop.add_signal_handler(signal.SIGHUP, clock.age)
    async with Runtime(
        cast("Store", store), AGENTS, clock=clock, settings=Settings(lease_seconds=lease_seconds)
    ) as runtime:
        say(name, ready=runtime.kernel.node)
        try:
            await runtime.kernel.followers.failure()
        except PerdureError as failure:
            say(name, complaint="stopped by itself: " + "".join(traceback.format_exception(failure)))


class JumpingClock(SystemClock):
    """A wall clock that jumps a year behind, back, a year ahead, back, and so on."""

    def __init__(self) -> None:
        self._offsets_us = deque([0, -_YEAR_US, 0, _YEAR_US])

    def now_us(self) -> int:
        return super().now_us() + self._offsets_us[0]

    def jump(self) -> None:
        """The next jump."""
        self._offsets_us.rotate(-1)

    def age(self) -> None:
        """A year has passed, and a day."""
        self._offsets_us[0] = _YEAR_US + _DAY_US


class FreezingStore:
    """A worker's store, which freezes the worker at the worst moment: a commit is on its way, its answer is not here.

    Between two turns of the loop, not in the middle of one: a tool that is stopped before its first line is done has begun.
    """

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._name = name
        self._freezing = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def commit(self, batch: Sequence[Transaction]) -> list[Exception | list[int] | None]:
        if self._freezing:
            asyncio.get_running_loop().call_later(_SEND_SECONDS, self._freeze)
        return await self._store.commit(batch)

    def freeze_soon(self) -> None:
        """Stop with the next commit, or when there is none for a while, until SIGCONT."""
        self._freezing = True
        asyncio.get_running_loop().call_later(_COMMIT_SECONDS_MOST, self._freeze)

    def _freeze(self) -> None:
        if self._freezing:
            self._freezing = False
            say(self._name, frozen=True)
            os.kill(os.getpid(), signal.SIGSTOP)


class Complaints(logging.Handler):
    """Hands on what tells of a fault: tracebacks, and whatever asyncio finds wrong."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info is not None or (record.name == "asyncio" and record.levelno >= logging.ERROR):
            say(self._name, complaint=logging.Formatter().format(record))


def warm_up() -> None:
    """Build now what every worker would build again."""
    for agent in AGENTS:
        agent.signature.input_schema()
        agent.signature.output_schema()


def enter(namespace: str) -> None:
    """Have no network but that of the namespace, here and in what is forked from here."""
    place = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).setns(place, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "the network namespace cannot be entered", namespace)
    os.close(place)


def end_with_parent() -> None:
    """Be killed when the process that forked this one ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def say(name: str, **what: Any) -> None:
    """Tell the driver, in one piece."""
    line = encode({"name": name, **what}).encode()
    if len(line) >= _PIPE_BYTES_MOST:  # more would be torn between what others say
        line = encode({"name": name, "complaint": what["complaint"][-3000:]}).encode()
    os.write(1, line + b"\n")


if __name__ == "__main__":
    main()
