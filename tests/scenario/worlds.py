"""A world for one scenario: a store, a clock and runtimes that can crash and come back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import psycopg

from perdure import Event, RunHandle, Runtime, Settings
from perdure.errors import PerdureError
from perdure.store import MemoryStore, SqliteStore, Store
from perdure.store.postgres import PostgresStore
from perdure.testing.checker import check_store
from perdure.testing.clock import FakeClock, settle
from perdure.testing.settling import settling
from perdure.values.runs import Run, RunStatus


class World:
    """One store and one clock; `rt` is the runtime that is up, if any."""

    def __init__(
        self, kind: str, folder: Path, settings: Settings, agents: Sequence[Any] = (), *, url: str = ""
    ) -> None:
        self.clock = FakeClock()
        self.settings = settings
        self.agents = list(agents)
        self._kind = kind
        self._path = str(folder / "world.db")
        self._url = url
        self._memory = MemoryStore(clock=self.clock) if kind == "memory" else None
        self._stores: dict[int, Store] = {}
        self._up: list[Runtime] = []
        self.wrap: Callable[[Store], Store] = lambda store: store

    @property
    def rt(self) -> Runtime:
        """The runtime that was started last."""
        return self._up[-1]

    @property
    def far(self) -> bool:
        """True when every call of the store goes to another process."""
        return bool(self._url)

    def store(self) -> Store:
        """A store object for one more kernel."""
        if self._url:
            return settling(PostgresStore(self._url, clock=self.clock))
        return self._memory or SqliteStore(self._path, clock=self.clock)

    async def start(self, *agents: Any, settings: Settings | None = None) -> Runtime:
        """One more runtime on the world's store."""
        store = self.store()
        rt = Runtime(
            self.wrap(store), agents or self.agents, clock=self.clock, settings=settings or self.settings,
            dice=lambda: 0.0,
        )  # fmt: skip
        self._stores[id(rt)] = store
        await rt.__aenter__()
        self._up.append(rt)
        await settle()
        return rt

    async def crash(self, rt: Runtime | None = None) -> None:
        """The process of a runtime dies: nothing more is written, its locks are gone."""
        rt = rt or self.rt
        rt.kernel.kill()
        await settle()
        if self._memory is not None:
            self._memory.bury(rt.kernel.node)
        await self._stores.pop(id(rt)).close()
        if self._url:
            expire(self._url, rt.kernel.node)
        self._up.remove(rt)

    async def restart(self, *agents: Any, settings: Settings | None = None) -> Runtime:
        """Crash, and come back."""
        await self.crash()
        return await self.start(*agents, settings=settings)

    async def stop(self, rt: Runtime | None = None, **options: Any) -> None:
        """An orderly end."""
        rt = rt or self.rt
        self._up.remove(rt)
        await rt.stop(**options)

    async def close(self) -> None:
        """The end of the scenario: everything must be sound."""
        store = self.store()
        for rt in list(self._up):
            await self.stop(rt, finish_seconds=0)
        await store.open()
        try:
            problems = [*await check_store(store), *await store.check()]
        finally:
            await store.close()
        assert not problems, "\n".join(problems)

    async def status(self, run: RunHandle[Any] | str) -> Run:
        """The row of a run."""
        return await self.rt.find(run if isinstance(run, str) else run.id)

    async def journal(self, run: RunHandle[Any] | str) -> list[Event]:
        """The journal of a run."""
        return await self.rt.journal(run if isinstance(run, str) else run.id)

    async def types(self, run: RunHandle[Any] | str) -> list[str]:
        """The types of a run's events."""
        return [event.type for event in await self.journal(run)]

    async def until(self, run: RunHandle[Any] | str, *types: str) -> Event:
        """Wait for the first event of one of these types; fails when the run ends without one."""
        id = run if isinstance(run, str) else run.id
        async with asyncio.timeout(10):
            async for event in self.rt.events(id):
                if event.type in types:
                    return event
        raise AssertionError(f"{id} ended without {types}: {await self.types(id)}")

    async def becomes(self, run: RunHandle[Any] | str, status: str) -> Run:
        """Let everything happen that can without time passing; the run must then have this status."""
        row = await self.status(run)
        for _ in range(50):
            if row.status == status:
                return row
            await settle()
            row = await self.status(run)
        raise AssertionError(f"{row.id} is {row.status} ({row.reason}), not {status}: {await self.types(run)}")


def expire(url: str, node: str) -> None:
    """A node's leases have run out: no lock tells a database that a process of another machine has died."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("update perdure.shards set expires = 0 where owner = %s", (node,))
        connection.execute("update perdure.nodes set expires = 0 where id = %s", (node,))


class Box:
    """What tools did, as seen from outside, and a gate that they wait at."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self._noted = asyncio.Event()
        self.gates: dict[Any, asyncio.Event] = {}

    def note(self, what: Any) -> None:
        """Remember."""
        self.calls.append(what)
        self._noted.set()

    async def reached(self, count: int) -> None:
        """Return when there were `count` notes."""
        while len(self.calls) < count:
            self._noted.clear()
            await self._noted.wait()

    async def wait(self, name: Any = "gate") -> None:
        """Wait until the test opens this gate."""
        await self.gates.setdefault(name, asyncio.Event()).wait()

    def open(self, name: Any = "gate") -> None:
        """Let who waits, and who comes, through."""
        self.gates.setdefault(name, asyncio.Event()).set()

    def count(self, what: Any) -> int:
        """How often something happened."""
        return self.calls.count(what)


def play(world: World, scenario: Callable[[], Awaitable[None]]) -> None:
    """Run a scenario and check the store at its end."""

    async def main() -> None:
        async with asyncio.timeout(45):
            try:
                await scenario()
            finally:
                if world._up and world.rt.kernel.failure is not None:
                    with contextlib.suppress(PerdureError, ValueError):
                        await world.crash()
            await world.close()

    asyncio.run(main())


__all__ = ["Box", "RunStatus", "World", "play", "settle"]
