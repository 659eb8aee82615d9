"""Pause, resume, cancel, quarantine, versions and patches: words of control, and code that changed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from perdure import Context, RunCancelled, RunFailed, Settings, agent, tool
from perdure.errors import AlreadySettled
from tests.scenario.worlds import Box, play, settle


def gated(box, effect="read", **options):
    """A tool that notes its name and waits until the test opens the gate of that name."""

    @tool(effect=effect, **options)
    async def act(name: str) -> str:
        box.note(name)
        await box.wait(name)
        return name

    return act


def test_a_paused_run_keeps_results_and_goes_on_when_resumed(world):
    """What is in flight ends and is recorded; the code learns of it at the resume, also after a restart."""
    box = Box()
    act = gated(box)

    @agent
    async def working(ctx: Context) -> list[str]:
        return [*await asyncio.gather(act("a"), act("b")), await act("c")]

    async def scenario():
        await world.start(working)
        run = await world.rt.start(working)
        await settle()
        await world.rt.pause(run.id, by="ann", note="hold on")
        row = await world.becomes(run, "paused")
        assert "perdure resume" in row.reason
        box.open("a")
        box.open("b")
        await settle()
        assert (await world.types(run)).count("step.completed") == 2
        assert box.calls == ["a", "b"]
        await world.restart(working)
        await settle()
        assert (await world.status(run)).status == "paused"
        assert box.calls == ["a", "b"]
        await world.rt.resume(run.id)
        box.open("c")
        assert await (await world.rt.run(run.id)).result() == ["a", "b", "c"]
        assert box.calls == ["a", "b", "c"]
        assert (await world.status(run)).attempt == 1

    play(world, scenario)


def test_a_crash_while_paused_leaves_steps_in_flight_for_the_resume(world):
    """Nothing is picked up before the resume; then each by its effect."""
    box = Box()
    act = gated(box)

    @agent
    async def working(ctx: Context) -> str:
        return await act("a")

    async def scenario():
        await world.start(working)
        run = await world.rt.start(working)
        await settle()
        await world.rt.pause(run.id)
        await world.becomes(run, "paused")
        await world.restart(working)
        assert box.calls == ["a"]
        box.open("a")
        await world.rt.resume(run.id)
        assert await (await world.rt.run(run.id)).result() == "a"

    play(world, scenario)


@pytest.mark.parametrize("restart", [False, True])
def test_timers_questions_and_messages_of_a_paused_run_wait_for_the_resume(world, restart):
    """While paused nothing fires; what came meanwhile counts afterwards."""

    @agent
    async def sleeping(ctx: Context) -> list[object]:
        async def nap() -> str:
            await asyncio.sleep(10)
            return "slept"

        return list(await asyncio.gather(nap(), ctx.receive("m"), ctx.ask("q?")))

    async def scenario():
        await world.start(sleeping)
        run = await world.rt.start(sleeping)
        await world.becomes(run, "waiting")
        await world.rt.pause(run.id)
        await world.becomes(run, "paused")
        if restart:
            await world.restart(sleeping)
        await world.clock.advance(60)
        await world.rt.send(run.id, "m", 1)
        await world.rt.answer(f"{run.id}:{(await world.rt.inbox())[0].step}", "yes")
        await settle()
        assert "timer.fired" not in await world.types(run)
        assert (await world.status(run)).status == "paused"
        if restart:
            await world.restart(sleeping)
        await world.rt.resume(run.id)
        await world.becomes(run, "succeeded")
        assert await (await world.rt.run(run.id)).result() == ["slept", 1, "yes"]

    play(world, scenario)


def test_a_queued_run_can_be_paused_resumed_and_cancelled(world):
    """A run that was never begun is held back, goes on, or ends without having run."""
    box = Box()
    act = gated(box)

    @agent(concurrency=1)
    async def single(ctx: Context, name: str) -> str:
        return await act(name)

    async def scenario():
        await world.start(single)
        first, second, third = [await world.rt.start(single, name) for name in "abc"]
        await settle()
        await world.rt.pause(second.id)
        await world.becomes(second, "paused")
        await world.rt.cancel(third.id)
        await world.becomes(third, "cancelled")
        box.open("a")
        await world.becomes(first, "succeeded")
        await world.restart(single)
        assert (await world.status(second)).status == "paused"
        assert box.calls == ["a"]
        box.open("b")
        await world.rt.resume(second.id)
        assert await (await world.rt.run(second.id)).result() == "b"
        with pytest.raises(RunCancelled):
            await (await world.rt.run(third.id)).result()

    play(world, scenario)


def test_words_of_control_that_change_nothing_harm_nothing(world):
    """Resuming what is not paused, pausing twice, cancelling twice."""
    box = Box()
    act = gated(box)

    @agent(concurrency=1)
    async def single(ctx: Context, name: str) -> str:
        return await act(name)

    async def scenario():
        await world.start(single)
        first, second = [await world.rt.start(single, name) for name in "ab"]
        await settle()
        for run in (first, second):
            await world.rt.resume(run.id)
            await settle()
            await world.rt.pause(run.id)
            await world.rt.pause(run.id)
            await settle()
            await world.rt.resume(run.id)
            await world.rt.resume(run.id)
            await settle()
        box.open("a")
        box.open("b")
        assert [await run.result() for run in (first, second)] == ["a", "b"]
        with pytest.raises(AlreadySettled):
            await world.rt.pause(first.id)

    play(world, scenario)


def test_cancelling_runs_clean_up_code_and_compensations_in_reverse(world):
    """Steps of `finally` and compensations run as steps, surviving a crash, before the run is cancelled."""
    box = Box()

    @tool(effect="keyed")
    async def act(name: str) -> None:
        box.note(name)
        if name == "slow":
            await box.wait("slow")

    @agent
    async def saga(ctx: Context) -> None:
        ctx.compensate(act, "undo 1")
        ctx.compensate(act, "undo 2")
        try:
            await asyncio.sleep(1_000)
        finally:
            await act("slow")

    async def scenario():
        await world.start(saga)
        run = await world.rt.start(saga)
        await world.becomes(run, "waiting")
        await asyncio.gather(*(world.rt.cancel(run.id, by="ann", reason="no need") for _ in range(2)))
        await settle()
        assert box.calls == ["slow"]
        assert (await world.status(run)).status == "running"
        box.open("slow")
        await world.restart(saga)
        await world.becomes(run, "cancelled")
        assert box.calls == ["slow", "slow", "undo 2", "undo 1"]
        with pytest.raises(RunCancelled, match="no need"):
            await (await world.rt.run(run.id)).result()
        assert (await world.types(run)).count("run.cancelling") == 1

    play(world, scenario)


@pytest.mark.parametrize("state", ["sleeping", "retrying", "paused"])
def test_a_run_can_be_cancelled_whatever_it_waits_for(world, state):
    """A timer, a retry or a pause."""

    @tool(effect="read", retries=5)
    async def fail() -> None:
        raise OSError

    @agent
    async def waiting(ctx: Context) -> None:
        try:
            if state == "retrying":
                await fail()
            await asyncio.sleep(100)
        finally:
            await ctx.emit("progress", {"cleaned": True})

    async def scenario():
        await world.start(waiting)
        run = await world.rt.start(waiting)
        await world.becomes(run, "waiting")
        if state == "paused":
            await world.rt.pause(run.id)
            await world.becomes(run, "paused")
        await world.rt.cancel(run.id)
        await world.becomes(run, "cancelled")
        assert "progress" in await world.types(run)

    play(world, scenario)


def test_an_agent_that_catches_its_cancellation_decides_itself(world):
    """What it returns or raises is the end."""

    @agent
    async def stubborn(ctx: Context) -> str:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            return "finished anyway"
        return ""

    async def scenario():
        await world.start(stubborn)
        run = await world.rt.start(stubborn)
        await world.becomes(run, "waiting")
        await run.cancel()
        assert await run.result() == "finished anyway"

    play(world, scenario)


def test_a_resolution_given_while_paused_counts_at_the_resume(world):
    """It waits in the mailbox with the word to resume behind it; neither is lost, also when both are found at once."""
    box = Box()
    act = gated(box, "once")

    @agent
    async def working(ctx: Context) -> str:
        return await act("a")

    async def scenario():
        await world.start(working)
        run = await world.rt.start(working)
        await settle()
        await world.restart(working)
        await world.becomes(run, "waiting")
        await world.rt.pause(run.id)
        await world.becomes(run, "paused")
        await world.rt.resolve(run.id, 1, "run-again")
        await settle()
        assert (await world.status(run)).status == "paused"
        assert box.calls == ["a"]
        await world.rt.resume(run.id)
        await settle()
        assert box.calls == ["a", "a"]
        box.open("a")
        assert await (await world.rt.run(run.id)).result() == "a"

    play(world, scenario)


# Code that changes, or that kills its worker.


def test_changed_code_parks_the_run_and_fixed_code_goes_on(world):
    """Quarantined with the divergence in the reason; after a retry on the right code nothing was lost."""
    box = Box()
    act = gated(box)
    box.open("a")
    box.open("b")

    @agent(name="work")
    async def old(ctx: Context) -> list[str]:
        first = await act("a")
        await ctx.receive("go")
        return [first, await act("b")]

    @agent(name="work")
    async def changed(ctx: Context) -> list[str]:
        await asyncio.sleep(1)
        return [await act("a")]

    async def scenario():
        await world.start(old)
        run = await world.rt.start(old)
        await world.becomes(run, "waiting")
        await world.restart(changed)
        await world.rt.send(run.id, "go")
        row = await world.becomes(run, "quarantined")
        assert "NonDeterminismError" in row.reason
        parked = await world.until(run, "run.quarantined")
        assert "recorded as tool 'act'" in parked.data["error"]["message"]
        await world.restart(changed)
        await world.rt.retry(run.id)
        await settle()
        await world.becomes(run, "quarantined")
        await world.restart(old)
        await world.rt.retry(run.id)
        assert await (await world.rt.run(run.id)).result() == ["a", "b"]
        assert box.calls == ["a", "b"]

    play(world, scenario)


def test_a_quarantined_run_can_be_cancelled_with_all_it_left_open(world):
    """Its questions leave the inbox and its children are cancelled, though its code cannot run."""

    @agent
    async def child(ctx: Context) -> None:
        await asyncio.sleep(1_000)

    @agent(name="work")
    async def old(ctx: Context) -> None:
        spawned = ctx.spawn(child)
        await asyncio.gather(ctx.ask("open?"), spawned, ctx.receive("go"))

    @agent(name="work")
    async def changed(ctx: Context) -> None:
        await ctx.receive("other")

    async def scenario():
        await world.start(old, child)
        run = await world.rt.start(old)
        await world.becomes(run, "waiting")
        await world.restart(changed, child)
        await world.rt.send(run.id, "go")
        await world.becomes(run, "quarantined")
        await world.rt.cancel(run.id)
        await world.becomes(run, "cancelled")
        assert await world.rt.inbox() == []
        await world.becomes(f"{run.id}.1", "cancelled")

    play(world, scenario)


def test_a_run_that_kills_its_worker_again_and_again_is_parked(world):
    """After the bound it is quarantined with the reason; others are unaffected, and a retry releases it."""
    box = Box()

    @tool(effect="read")
    async def deadly() -> str:
        box.note("deadly")
        await box.wait()
        return "survived"

    @agent
    async def victim(ctx: Context) -> str:
        return await deadly()

    @agent
    async def bystander(ctx: Context) -> str:
        await ctx.receive("go")
        return "fine"

    async def scenario():
        world.settings = Settings(strikes_most=3, idle_most=world.settings.idle_most)
        await world.start(victim, bystander)
        run = await world.rt.start(victim)
        other = await world.rt.start(bystander)
        await settle()
        for _ in range(4):
            await world.restart(victim, bystander)
        row = await world.becomes(run, "quarantined")
        assert "CrashLoop" in row.reason
        assert box.count("deadly") == 4
        await world.restart(victim, bystander)
        assert box.count("deadly") == 4
        box.open()
        await world.rt.retry(run.id)
        assert await (await world.rt.run(run.id)).result() == "survived"
        await world.rt.send(other.id, "go")
        assert await (await world.rt.run(other.id)).result() == "fine"
        assert (await world.status(other)).attempt == 1

    play(world, scenario)


def test_progress_and_orderly_shutdowns_clear_or_spare_the_count(world):
    """A completed step resets it; a worker that stops in an orderly way does not count."""
    box = Box()
    act = gated(box)

    @agent
    async def slow(ctx: Context) -> int:
        for n in range(4):
            await act(f"{n}")
        return ctx.run.attempt

    async def scenario():
        world.settings = Settings(strikes_most=2, idle_most=world.settings.idle_most)
        await world.start(slow)
        run = await world.rt.start(slow)
        await settle()
        for n in range(4):
            await world.restart(slow)
            await world.restart(slow)
            assert (await world.status(run)).strikes == 2
            if n < 3:
                box.open(f"{n}")
                await settle()
        for _ in range(5):
            await world.stop(finish_seconds=0)
            await world.start(slow)
        assert (await world.status(run)).strikes == 2
        box.open("3")
        assert await (await world.rt.run(run.id)).result() == 9
        assert (await world.types(run)).count("run.recovered") == 8

    play(world, scenario)


def test_a_run_stays_on_its_version(world):
    """A node without it says so in the run's row and leaves it alone; a node with both runs it."""

    def version(text):
        @agent(name="job", version=text)
        async def job(ctx: Context) -> str:
            await ctx.receive("go")
            return text

        return job

    v1, v2 = version("1"), version("2")

    async def scenario():
        await world.start(v1)
        waiting = await world.rt.start(v1)
        await world.becomes(waiting, "waiting")
        await world.crash()
        await world.start()
        queued = await world.rt.start(v1)
        await world.stop()
        await world.start(v2)
        await world.rt.send(waiting.id, "go")
        await world.rt.send(queued.id, "go")
        await settle()
        for run in (waiting, queued):
            row = await world.status(run)
            assert row.wait["kind"] == "worker"
            assert "version 1" in row.reason
        new = await world.rt.start_json("job", None)
        await new.send("go")
        assert await new.result() == "2"
        await world.rt.idle()
        await world.restart(v1, v2)
        for run in (waiting, queued):
            assert await (await world.rt.run(run.id)).result() == "1"

    play(world, scenario)


def test_a_patch_lets_old_and_new_runs_differ(world):
    """Runs recorded before the change keep to the old path, new ones take the new one."""
    box = Box()
    act = gated(box)
    for name in ("old", "new"):
        box.open(name)

    @agent(name="job")
    async def before(ctx: Context) -> str:
        await ctx.receive("go")
        return await act("old")

    @agent(name="job")
    async def after(ctx: Context) -> str:
        if ctx.patched("greet"):
            await act("new")
            await ctx.receive("go")
            return "patched"
        await ctx.receive("go")
        return await act("old")

    async def scenario():
        await world.start(before)
        old = await world.rt.start(before)
        await world.becomes(old, "waiting")
        await world.restart(after)
        new = await world.rt.start(after)
        await world.becomes(new, "waiting")
        await world.restart(after)
        await world.rt.send(old.id, "go")
        await world.rt.send(new.id, "go")
        assert await (await world.rt.run(old.id)).result() == "old"
        assert await (await world.rt.run(new.id)).result() == "patched"

    play(world, scenario)


def test_an_agent_that_exits_or_does_io_fails_alone(world):
    """SystemExit in agent code is the run's error; the worker goes on."""

    def read() -> str:
        return Path("/etc/hostname").read_text(encoding="utf-8")

    @agent
    async def leaving(ctx: Context) -> None:
        raise SystemExit(1)

    @agent
    async def reading(ctx: Context) -> str:
        return read()

    @agent
    async def fine(ctx: Context) -> str:
        return "fine"

    async def scenario():
        await world.start(leaving, reading, fine)
        with pytest.raises(RunFailed) as caught:
            await (await world.rt.start(leaving)).result()
        assert caught.value.type == "SystemExit"
        with pytest.raises(RunFailed, match="Put this into a @tool"):
            await (await world.rt.start(reading)).result()
        assert await (await world.rt.start(fine)).result() == "fine"

    play(world, scenario)


def test_a_run_that_is_parked_in_its_clean_up_can_be_cancelled_again(world):
    """Code that changed under a run that was being cancelled parks it; the second word ends it."""
    box = Box()

    @tool(effect="keyed")
    async def tidy() -> None:
        box.note("tidy")
        await box.wait()

    @agent
    async def cleaning(ctx: Context) -> None:
        try:
            await ctx.receive("word")
        finally:
            if "changed" in box.calls:
                await ctx.ask("Is this new?")
            await tidy()

    async def scenario():
        await world.start(cleaning)
        run = await world.rt.start(cleaning)
        await settle()
        await run.cancel()
        await box.reached(1)
        box.note("changed")
        await world.restart(cleaning)
        await world.becomes(run, "quarantined")
        await world.rt.cancel(run.id)
        await world.becomes(run, "cancelled")

    play(world, scenario)
