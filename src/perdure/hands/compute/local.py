"""Runs bodies in processes of this machine: as many at once as its cpus allow, kept for the next ones.

Without Ray. There are no GPUs, and memory is limited for each body but not planned for all of them together.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
from collections import deque
from collections.abc import AsyncIterator

from perdure.errors import ComputeRefused, InvalidSetting, WorkerLost
from perdure.hands.compute.contract import Begin, Message, TakeReport, Work
from perdure.hands.compute.ending import Raised
from perdure.hands.compute.process import Process
from perdure.hands.threads import ThreadPool

#: How long a process without work is kept.
_IDLE_SECONDS = 60.0


class LocalEngine:
    """The Engine for a node without Ray. `processes` is how many cpus it may use (default: the machine's)."""

    def __init__(self, processes: int | None = None) -> None:
        if processes is not None and processes < 1:
            raise InvalidSetting(f"processes must be 1 or more, not {processes}")
        self._places = Places(processes or machine_cpus())
        # One waits for each body, and one more may be burying the process of the body before.
        self._threads = ThreadPool(2 * self._places.most, "perdure-process")
        self._idle: dict[Process, asyncio.TimerHandle] = {}
        #: all that are not buried yet
        self._processes: set[Process] = set()
        self._closed = False

    async def run(self, work: Work, take_report: TakeReport, begin: Begin) -> str:
        if work.compute.gpus:
            raise ComputeRefused(
                f"{work.place} wants {work.compute.gpus:g} GPUs, which only Ray has: pip install 'perdure[ray]' and give "
                f"its address (--ray HOST:PORT, or Settings(ray=...))"
            )
        async with self._places.taken(math.ceil(work.compute.cpus)):
            while True:
                begin()
                process, used = self._take()
                try:
                    return await self._run_in(process, work, take_report)
                except WorkerLost as error:
                    if error.in_doubt or not used:
                        raise
                    # It died while it was idle: the body has not begun, so another process may have it.

    def close(self) -> None:
        self._closed = True
        processes = list(self._processes)
        for process in processes:
            process.kill()
        for timer in self._idle.values():
            timer.cancel()
        self._idle.clear()
        self._threads.close()
        for process in processes:
            process.bury()

    def _take(self) -> tuple[Process, bool]:
        """A process, and whether it has run a body before."""
        if self._closed:
            raise RuntimeError("no tool can begin: this worker has stopped")
        if self._idle:
            process, timer = self._idle.popitem()
            timer.cancel()
        else:
            process = Process()  # here on the loop's thread, which lives as long as the node
            self._processes.add(process)
        return process, process.used

    async def _run_in(self, process: Process, work: Work, take_report: TakeReport) -> str:
        usable = False
        try:
            result = await self._threads.run(process.run, work, _Mailbox(take_report).put)
            usable = True
            return result
        except Raised:
            usable = True
            raise
        finally:
            if usable:
                self._idle[process] = asyncio.get_running_loop().call_later(_IDLE_SECONDS, self._retire, process)
            else:  # it is lost, full, or still at work for nobody
                self._end(process)

    def _retire(self, process: Process) -> None:
        del self._idle[process]
        self._end(process)

    def _end(self, process: Process) -> None:
        process.kill()
        with contextlib.suppress(RuntimeError):  # closed meanwhile, and buried by that
            self._threads.submit(lambda: self._bury(process))

    def _bury(self, process: Process) -> None:
        """In a thread."""
        process.bury()
        self._processes.discard(process)


class Places:
    """The cpus of a pool. Whoever came first is served first, so that a large body is not passed by for ever."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._free = most
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @contextlib.asynccontextmanager
    async def taken(self, count: int) -> AsyncIterator[None]:
        """Hold `count` places, or all of them when there are fewer: the same tool runs on a small machine."""
        count = min(count, self.most)
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((count, turn))
        self._serve()
        try:
            await turn
            yield
        finally:
            if turn.done() and not turn.cancelled():
                self._free += count
            self._serve()

    def _serve(self) -> None:
        while self._waiting:
            count, turn = self._waiting[0]
            if turn.cancelled():
                self._waiting.popleft()
            elif count <= self._free:
                self._waiting.popleft()
                self._free -= count
                turn.set_result(None)
            else:
                return


class _Mailbox:
    """Carries reports from a thread to the loop, all that are there at once: a body may report faster than that."""

    def __init__(self, take_report: TakeReport) -> None:
        self._take_report = take_report
        self._loop = asyncio.get_running_loop()
        self._reports: deque[Message] = deque()
        self._called = False

    def put(self, report: Message) -> None:
        """From any thread."""
        self._reports.append(report)
        if not self._called:
            self._called = True
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits for this body any more
                self._loop.call_soon_threadsafe(self._hand_over)

    def _hand_over(self) -> None:
        self._called = False  # before looking, so that no report is left behind
        while self._reports:
            self._take_report(*self._reports.popleft())


def machine_cpus() -> int:
    """The cpus that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
