"""Runs bodies as Ray tasks, with the cpus, gpus and memory that they ask for.

One task a body, unless its tool says `Compute(batch=...)`: while one submission goes out the next bodies of a size gather,
and go as one task. Each result comes back as soon as it is there; but one that takes long holds up those behind it, and
when one kills the worker, or is cancelled, the rest begin again, each in a task of its own. Hence only for repeatable
steps of milliseconds, and only on request.

Ray never tries a body again by itself (the kernel decides on that), and connects only to the address it is given.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import re
from collections import deque
from typing import Any, TypeAlias

from perdure.agents.attempt import NotBegun
from perdure.errors import ComputeRefused, InvalidSetting, OutOfMemory, PerdureError, WorkerLost
from perdure.hands.compute.cluster import Cluster
from perdure.hands.compute.contract import Begin, Message, TakeReport, Work
from perdure.hands.compute.ending import ending_of
from perdure.hands.threads import ThreadPool
from perdure.values.json import decode

_ADDRESS = re.compile(r"local|(\[[0-9a-fA-F:]+\]|[\w.-]+):\d{1,5}")
#: How long a disconnection may take before the node ends without it.
_CLOSE_SECONDS = 10.0

#: Bodies that may go together: their cpus, gpus and memory, and how many.
_Size: TypeAlias = "tuple[float, float, int | None, int]"


class RayEngine:
    """The Engine for a node with Ray. `address` is HOST:PORT of a cluster that this machine is part of, or `local`.

    Connects when the first body comes. Raises InvalidSetting for an address that is none, and where Ray is not installed.
    """

    def __init__(self, address: str, processes: int | None = None) -> None:
        if not _ADDRESS.fullmatch(address):
            raise InvalidSetting(
                f"{address!r} is no address of Ray: give HOST:PORT of the cluster that this machine has joined (ray start "
                f"--address=HOST:PORT), or 'local' for one of this node's own"
            )
        if importlib.util.find_spec("ray") is None:
            raise InvalidSetting("Ray is not installed here: pip install 'perdure[ray]'")
        self._cluster = Cluster(address, processes)
        # Always the same thread, since what Ray starts on this machine dies with the thread that started it.
        self._thread = ThreadPool(1, "perdure-ray")
        self._waiting: dict[_Size, deque[_Body]] = {}
        self._sender: asyncio.Task[None] | None = None
        self._followers: set[asyncio.Task[None]] = set()

    async def run(self, work: Work, take_report: TakeReport, begin: Begin) -> str:
        body = _Body(work, take_report, begin)
        self._queue(body)
        try:
            return await body.result
        except asyncio.CancelledError:
            if (batch := body.batch) is not None and (body.begun or batch.abandoned):
                self._stop(batch)
            raise

    def close(self) -> None:
        for task in [self._sender, *self._followers]:
            if task is not None:
                task.cancel()
        with contextlib.suppress(TimeoutError):
            self._thread.submit(self._cluster.disconnect).result(_CLOSE_SECONDS)
        self._thread.close()

    def _queue(self, body: _Body) -> None:
        self._waiting.setdefault(_size_of(body), deque()).append(body)
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send())

    async def _send(self) -> None:
        """Submit what waits, one size after the other, until nothing does."""
        while self._waiting:
            batch = self._next_batch()
            if not batch.bodies:
                continue
            works = [body.work for body in batch.bodies]
            try:
                batch.stream = await self._thread.run(self._cluster.submit, works)
            except Exception as error:  # noqa: BLE001 - whatever it is, these bodies have not begun
                batch.fail(error)
                continue
            if batch.abandoned:  # while it was on its way
                self._stop(batch)
            follower = asyncio.create_task(self._follow(batch))
            self._followers.add(follower)
            follower.add_done_callback(self._followers.discard)

    def _next_batch(self) -> _Batch:
        size, waiting = next(iter(self._waiting.items()))
        del self._waiting[size]
        bodies: list[_Body] = []
        while waiting and len(bodies) < size[-1]:
            body = waiting.popleft()
            if not body.result.done() and body.may_go():  # it was not cancelled meanwhile
                bodies.append(body)
        if waiting:
            self._waiting[size] = waiting  # behind the others
        return _Batch(bodies)

    async def _follow(self, batch: _Batch) -> None:
        lost: Exception | None = None
        try:
            async for part in batch.stream:
                for message in decode(await part):
                    self._take(batch, message)
        except Exception as error:  # noqa: BLE001 - Ray's errors have no root but this
            lost = error
        for body in batch.bodies:
            if body.result.done():
                continue
            if batch.shared and not body.begun:
                body.alone = True  # it is repeatable, and whose fault the loss was shows when each has its own task
                self._queue(body)
            else:
                body.result.set_exception(_cause(body.work, lost))

    def _take(self, batch: _Batch, message: Message) -> None:
        body = batch.bodies[0]
        match message:
            case ["begun"]:
                body.begun = True
                if body.result.done():  # cancelled while it stood behind others
                    self._stop(batch)
            case ["report", kind, name, data]:
                if not body.result.done():
                    body.take_report(kind, name, data)
            case ending:
                batch.bodies.popleft()
                body.end(ending)

    def _stop(self, batch: _Batch) -> None:
        with contextlib.suppress(RuntimeError):  # closed meanwhile, and stopped by that
            if batch.stream is not None:  # else it is on its way, and stopped when it is there
                self._thread.submit(lambda: self._cluster.cancel(batch.stream))


class _Body:
    """A body, from the moment it is asked for until it has ended."""

    def __init__(self, work: Work, take_report: TakeReport, begin: Begin) -> None:
        self.work = work
        self.take_report = take_report
        self._begin = begin
        self.result: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.batch: _Batch | None = None
        #: known to have begun. One that is not may have, if its worker was lost before it could say so
        self.begun = False
        #: it shares a task with no other
        self.alone = False

    def may_go(self) -> bool:
        """True when it may still begin; else whoever waits for it hears that it may not."""
        try:
            self._begin()
        except NotBegun as error:
            self.result.set_exception(error)
            return False
        return True

    def end(self, ending: Message) -> None:
        """Its last message is there."""
        if self.result.done():
            return
        try:
            self.result.set_result(ending_of(self.work, ending))
        except Exception as error:  # noqa: BLE001 - it goes to whoever waits
            self.result.set_exception(error)


class _Batch:
    """The bodies of one Ray task that have not ended, in the order in which they run."""

    def __init__(self, bodies: list[_Body]) -> None:
        self.bodies = deque(bodies)
        self.shared = len(bodies) > 1
        self.stream: Any = None
        for body in bodies:
            body.batch = self

    @property
    def abandoned(self) -> bool:
        """True when nobody waits for any of them."""
        return all(body.result.done() for body in self.bodies)

    def fail(self, error: Exception) -> None:
        """None of them could begin."""
        for body in self.bodies:
            if not body.result.done():
                body.result.set_exception(error)


def _size_of(body: _Body) -> _Size:
    compute = body.work.compute
    return (compute.cpus, compute.gpus, compute.memory_bytes, 1 if body.alone else compute.batch)


def _cause(work: Work, lost: Exception | None) -> PerdureError:
    """Why Ray lost a body, in our words. It may have begun, whether or not it could still say so."""
    ray: Any = importlib.import_module("ray.exceptions")
    told = " ".join(str(lost).split()) if lost is not None else "its task ended early"
    if isinstance(lost, ray.RayTaskError):
        return ComputeRefused(f"{work.place}: a Ray worker cannot run bodies; has it the same Perdure? {told}")
    if isinstance(lost, ray.TaskUnschedulableError):
        return ComputeRefused(f"{work.place} cannot be placed by Ray: {told}")
    if isinstance(lost, ray.OutOfMemoryError):
        return OutOfMemory(f"{work.title} was killed by Ray for lack of memory: {told}", in_doubt=True)
    return WorkerLost(f"Ray lost the worker of {work.title}: {told}", in_doubt=True)
