"""Several runtimes on one store, orderly and disorderly ends, and stores that fail."""

from __future__ import annotations

import asyncio
import time

import pytest

from perdure import Context, PerdureError, Runtime, Settings, agent, tool
from perdure.errors import Fenced, StoreBroken, StoreError, StoreFull
from perdure.store import SqliteStore
from perdure.testing.clock import FakeClock
from tests.scenario.worlds import Box, play, settle


def gated(box, effect="read"):
    """A tool that notes its name and waits until the test opens the gate of that name."""

    @tool(effect=effect)
    async def act(name: str) -> str:
        box.note(name)
        await box.wait(name)
        return name

    return act


def test_a_graceful_stop_lets_steps_finish_and_begins_none(world):
    """What ends within the deadline is recorded and not repeated; nothing new begins meanwhile."""
    box = Box()
    act = gated(box, "once")

    @agent
    async def working(ctx: Context) -> list[str]:
        return [await act("a"), await act("b")]

    async def scenario():
        await world.start(working)
        run = await world.rt.start(working)
        await settle()
        stopping = asyncio.create_task(world.stop(finish_seconds=5))
        await settle()
        box.open("a")
        await stopping
        assert box.calls == ["a"]
        box.open("b")
        await world.start(working)
        assert await (await world.rt.run(run.id)).result() == ["a", "b"]
        assert box.calls == ["a", "b"]
        assert (await world.status(run)).attempt == 1

    play(world, scenario)


@pytest.mark.parametrize("effect", ["read", "once"])
def test_a_graceful_stop_abandons_what_takes_too_long(world, effect):
    """Repeatable steps run again at the next start; a `once` step is then of unknown outcome."""
    box = Box()
    act = gated(box, effect)

    @agent
    async def working(ctx: Context) -> str:
        return await act("a")

    async def scenario():
        await world.start(working)
        run = await world.rt.start(working)
        await settle()
        stopping = asyncio.create_task(world.stop(finish_seconds=5))
        await world.clock.advance(4.9)
        assert not stopping.done()
        await world.clock.advance(0.2)
        await stopping
        await world.start(working)
        if effect == "read":
            box.open("a")
        else:
            assert (await world.becomes(run, "waiting")).wait["kind"] == "unknown"
            await world.rt.resolve(run.id, 1, "happened", result="a")
        assert await (await world.rt.run(run.id)).result() == "a"

    play(world, scenario)


def test_callers_who_go_on_calling_neither_hold_up_a_stop_nor_hang(world):
    """Each call is accepted or raises; what was accepted is there."""

    @agent
    async def waiting(ctx: Context) -> None:
        await ctx.receive("never")

    async def scenario():
        rt = await world.start(waiting)
        run = await rt.start(waiting)
        accepted = 0

        async def call_on():
            nonlocal accepted
            while True:
                await rt.send(run.id, "t", 1)
                accepted += 1

        calls = [asyncio.create_task(call_on()) for _ in range(20)]
        await settle()
        async with asyncio.timeout(10):
            await world.stop()
            ended = await asyncio.gather(*calls, return_exceptions=True)
        assert {isinstance(error, PerdureError) for error in ended} == {True}
        await world.start(waiting)
        await world.rt.idle()
        assert (await world.types(run)).count("message.received") == accepted

    play(world, scenario)


def test_a_second_stop_may_be_less_patient_and_waits_for_the_end(world):
    """Both return when the node has ended."""
    box = Box()
    act = gated(box)

    @agent
    async def working(ctx: Context) -> str:
        return await act("a")

    async def scenario():
        rt = await world.start(working)
        run = await rt.start(working)
        await settle()
        patient = asyncio.create_task(world.stop(rt, finish_seconds=60))
        await world.clock.advance(5)
        assert not patient.done()
        async with asyncio.timeout(5):
            await rt.stop(finish_seconds=0)
            await patient
        box.open("a")
        await world.start(working)
        assert await (await world.rt.run(run.id)).result() == "a"
        assert (await world.status(run)).attempt == 1

    play(world, scenario)


def test_a_runtime_that_never_started_can_be_stopped(world):
    """It returns at once, also the second time."""

    async def scenario():
        rt = Runtime(world.store(), clock=world.clock)
        for _ in range(2):
            async with asyncio.timeout(5):
                await rt.stop()
        await world.start()

    play(world, scenario)


def test_who_waits_on_a_runtime_that_stops_hears_of_it(world):
    """Results and events of runs that have not ended raise instead of hanging for ever."""

    @agent
    async def waiting(ctx: Context) -> None:
        await ctx.receive("never")

    async def scenario():
        await world.start(waiting)
        run = await world.rt.start(waiting)

        async def follow():
            return [event async for event in run.events()]

        tasks = [asyncio.create_task(run.result()), asyncio.create_task(follow())]
        await settle()
        rt = world.rt
        await world.stop()
        for task in tasks:
            with pytest.raises(PerdureError, match="stopped"):
                await task
        with pytest.raises(PerdureError):
            await rt.start(waiting)
        await world.start(waiting)

    play(world, scenario)


def test_a_second_node_leaves_the_first_ones_runs_alone_and_takes_over_when_it_dies(world):
    """It steals nothing while the owner lives; after its death the run goes on there at once."""
    box = Box()
    act = gated(box)

    @agent
    async def working(ctx: Context) -> str:
        return await act("a")

    async def scenario():
        first = await world.start(working)
        run = await first.start(working)
        second = await world.start(working)
        await world.clock.advance(1)
        assert box.calls == ["a"]
        assert second.kernel.leases.shards == []
        late = await second.start(working)  # through the second, run by the first
        async with asyncio.timeout(5):
            await box.reached(2)
        await world.crash(first)
        box.open("a")
        await world.clock.advance(1)
        async with asyncio.timeout(5):
            assert await (await second.run(run.id)).result() == "a"
            assert await (await second.run(late.id)).result() == "a"
        assert (await world.status(run)).attempt == 2

    play(world, scenario)


def test_a_zombies_writes_are_refused_and_it_drops_its_runs(world):
    """A node that lost its shards while paused can do nothing any more, and the new owner's run is sound."""
    box = Box()

    @tool(effect="read")
    async def act() -> str:
        box.note("act")
        await box.wait(len(box.calls))
        return "done"

    @agent
    async def working(ctx: Context) -> str:
        return await act()

    async def scenario():
        first = await world.start(working)
        run = await first.start(working)
        await settle()
        # The first is paused for longer than its lease: its alarms do not ring.
        first.kernel.membership.rest()
        second = await world.start(working)
        await world.clock.advance(11)
        await world.clock.advance(1)
        assert second.kernel.leases.shards
        await settle()
        assert box.calls == ["act", "act"]
        box.open(1)
        await settle()
        assert first.kernel.live.all() == []
        assert first.kernel.failure is None
        started = await first.start(working)  # a zombie's own start is recorded, and run by the owner
        box.open(2)
        box.open(3)
        async with asyncio.timeout(5):
            assert await (await second.run(run.id)).result() == "done"
            assert await (await second.run(started.id)).result() == "done"

    play(world, scenario)


def test_clients_without_agents_can_do_everything_but_work(world):
    """Start, send, answer, pause, resume and cancel from another node; the worker reacts by itself."""

    @agent
    async def talking(ctx: Context) -> list[object]:
        return [await ctx.receive("m"), await ctx.ask("q?")]

    async def scenario():
        worker = await world.start(talking)
        client = await world.start()
        run = await client.start(talking)
        async with asyncio.timeout(10):
            await world.until(run, "message.awaited")
            await client.pause(run.id)
            await world.until(run, "run.paused")
            await client.send(run.id, "m", 1)
            await client.resume(run.id)
            opened = await world.until(run, "ask.opened")
            await client.answer(opened.data["id"], "yes")
            assert await run.result() == [1, "yes"]
            other = await client.start(talking)
            await world.until(other, "message.awaited")
            await client.cancel(other.id)
            await world.until(other, "run.cancelled")
        assert worker.kernel.failure is None

    play(world, scenario)


def test_a_worker_reacts_within_100_ms_to_another_process(tmp_path):
    """With real clocks on one file: median of some answers."""

    @agent
    async def asking(ctx: Context) -> object:
        return await ctx.ask("q?")

    async def scenario():
        path = f"sqlite:///{tmp_path}/shop.db"
        async with Runtime(path, [asking]) as worker, Runtime(path) as client:
            seconds = []
            for _ in range(7):
                run = await client.start(asking)
                async for event in worker.events(run.id):
                    if event.type == "ask.opened":
                        break
                start = time.perf_counter()
                await client.answer(f"{run.id}:1", 1)
                await (await worker.run(run.id)).result()
                seconds.append(time.perf_counter() - start)
            assert sorted(seconds)[3] < 0.1

    asyncio.run(asyncio.wait_for(scenario(), 20))


# Stores that fail.


class FailingStore:
    """A store whose commits fail while `error` is set."""

    def __init__(self, store):
        self._store = store
        self.error = None
        self.failures = 0

    def __getattr__(self, name):
        return getattr(self._store, name)

    async def commit(self, batch):
        self._fail()
        return await self._store.commit(batch)

    async def renew(self, *args):
        self._fail()
        return await self._store.renew(*args)

    def _fail(self):
        if self.error is not None:
            self.failures += 1
            raise self.error


def failing_world(world):
    """Let every store of the world be one that can fail; gives them."""
    stores = []

    def wrap(store):
        stores.append(FailingStore(store))
        return stores[-1]

    world.wrap = wrap
    return stores


def test_a_full_disk_stalls_the_node_and_nothing_is_lost(world):
    """While there is no room nothing is acknowledged; with room all goes on by itself, leases included."""
    stores = failing_world(world)
    box = Box()
    act = gated(box, "once")

    @agent
    async def working(ctx: Context) -> list[str]:
        return [await act("a"), await act("b")]

    async def scenario():
        rt = await world.start(working)
        run = await rt.start(working)
        await settle()
        stores[0].error = StoreFull("no room")
        box.open("a")
        box.open("b")
        starting = asyncio.create_task(rt.start(working))
        await world.clock.advance(3.5)  # past a renewal
        assert stores[0].failures > 3
        assert box.calls == ["a"]
        assert not starting.done()
        assert rt.kernel.failure is None
        stores[0].error = None
        await world.clock.advance(4)
        assert await run.result() == ["a", "b"]
        assert await (await starting).result() == ["a", "b"]
        assert box.calls == ["a", "b", "a", "b"]

    play(world, scenario)


def test_a_stop_on_a_full_disk_takes_no_longer_than_it_may(world):
    """What could not be written was not acknowledged; the run goes on from there when there is room."""
    stores = failing_world(world)
    box = Box()
    act = gated(box)

    @agent
    async def working(ctx: Context) -> str:
        return await act("a")

    async def scenario():
        rt = await world.start(working)
        run = await rt.start(working)
        await settle()
        stores[0].error = StoreFull("no room")
        box.open("a")
        sending = asyncio.create_task(run.send("t", 1))
        stopping = asyncio.create_task(world.stop(rt, finish_seconds=5))
        await world.clock.advance(4.9)
        assert not stopping.done()
        await world.clock.advance(0.2)
        async with asyncio.timeout(5):
            await stopping
            with pytest.raises(StoreFull):
                await sending
        await world.clock.advance(30)  # nobody renews: the lease is over
        await world.start(working)
        assert await (await world.rt.run(run.id)).result() == "a"

    play(world, scenario)


def test_a_due_timer_is_looked_for_calmly_while_the_disk_is_full(world):
    """It stays due in the store until there is room: some looks a second are enough."""
    stores = failing_world(world)

    @agent
    async def sleeping(ctx: Context) -> str:
        await asyncio.sleep(1)
        return "woken"

    async def scenario():
        rt = await world.start(sleeping)
        run = await rt.start(sleeping)
        await rt.idle()
        looks = 0
        due = stores[0].due

        async def count(*args, **options):
            nonlocal looks
            looks += 1
            return await due(*args, **options)

        stores[0].due = count
        stores[0].error = StoreFull("no room")
        await world.clock.advance(3)
        assert 1 < looks < 15
        stores[0].error = None
        await world.clock.advance(1)
        assert await run.result() == "woken"

    play(world, scenario)


def test_a_broken_disk_stops_the_node_with_a_clear_error_everywhere(world):
    """Whoever waits or calls hears why; a restart recovers what was acknowledged."""
    stores = failing_world(world)
    box = Box()
    act = gated(box)

    @agent
    async def working(ctx: Context) -> str:
        return await act("a")

    async def scenario():
        rt = await world.start(working)
        run = await rt.start(working)
        await settle()
        waiting = [asyncio.create_task(run.result()), asyncio.create_task(rt.idle())]
        await settle()
        stores[0].error = StoreBroken("the disk failed")
        starting = [asyncio.create_task(rt.start(working)) for _ in range(3)]
        await settle()
        for task in [*waiting, *starting]:
            with pytest.raises(PerdureError, match="disk failed"):
                await task
        for call in (rt.start(working), rt.pause(run.id), rt.idle(), rt.send(run.id, "x")):
            with pytest.raises(PerdureError, match="disk failed"):
                await call
        stores[0].error = None
        await world.clock.advance(30)  # a dead node renews nothing
        await world.crash(rt)
        await world.start(working)
        box.open("a")
        assert await (await world.rt.run(run.id)).result() == "a"
        assert len(await world.rt.runs()) == 1

    play(world, scenario)


def test_a_fault_of_the_kernel_itself_is_loud(world):
    """An exception while writing stops the node with that error instead of leaving it deaf."""

    @agent
    async def working(ctx: Context) -> str:
        return "ok"

    async def scenario():
        rt = await world.start(working)

        def broken(run, events):
            raise RuntimeError("a watcher broke")

        rt.kernel.followers.watchers.append(broken)
        with pytest.raises(PerdureError, match="watcher broke"):
            await (await rt.start(working)).result()
        assert "watcher broke" in str(rt.kernel.failure)
        await world.crash(rt)
        await world.start(working)

    play(world, scenario)


def test_fenced_and_store_errors_are_what_they_say():
    """A refusal for lost ownership is not a failure of the store."""
    assert not issubclass(Fenced, StoreError)


def test_a_runtime_that_cannot_open_its_store_says_so(tmp_path):
    """The error names the file; nothing is left running."""
    (tmp_path / "not.db").write_bytes(b"x" * 4096)

    async def scenario():
        rt = Runtime(SqliteStore(str(tmp_path / "not.db")), settings=Settings(), clock=FakeClock())
        with pytest.raises(StoreError, match=r"not\.db"):
            async with rt:
                pass
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(scenario())
