"""What followers see: streams, emitted events, positions, restarts."""

from __future__ import annotations

import asyncio

from perdure import Context, Retries, agent, current_step, tool
from tests.scenario.worlds import Box, play, settle


def test_pieces_of_a_stream_are_coalesced_and_complete_with_the_step(world):
    """Pieces within 50 ms are one event; a stream ends before its step's result."""
    box = Box()

    @tool(effect="read")
    async def talk() -> str:
        step = current_step()
        for word in ("one ", "two ", "three "):
            step.stream(word)
        await box.wait()
        step.stream("four")
        step.stream({"n": 1}, name="items")
        return "done"

    @agent
    async def talking(ctx: Context) -> str:
        return await talk()

    async def scenario():
        await world.start(talking)
        run = await world.rt.start(talking)
        await world.clock.advance(0.06)
        deltas = [e for e in await world.journal(run) if e.type == "stream.delta"]
        assert [d.data["text"] for d in deltas] == ["one two three "]
        box.open()
        await run.result()
        events = await world.journal(run)
        deltas = [(e.data["name"], e.data.get("text") or e.data["items"]) for e in events if e.type == "stream.delta"]
        assert deltas == [("text", "one two three "), ("text", "four"), ("items", [{"n": 1}])]
        order = [e.type for e in events]
        assert order[-4:] == ["stream.completed", "stream.completed", "step.completed", "run.succeeded"]

    play(world, scenario)


def test_a_large_stream_does_not_wait_for_the_50_ms(world):
    """4 KB are written at once."""
    box = Box()

    @tool(effect="read")
    async def talk() -> None:
        for _ in range(5):
            current_step().stream("x" * 1_000)
        await box.wait()

    @agent
    async def talking(ctx: Context) -> None:
        await talk()

    async def scenario():
        await world.start(talking)
        run = await world.rt.start(talking)
        await settle()
        assert "stream.delta" in await world.types(run)
        box.open()
        await run.result()

    play(world, scenario)


def test_a_retried_attempt_resets_what_its_stream_showed(world):
    """After a failure, and after a crash, followers are told to drop the pieces; the new ones follow."""
    box = Box()

    @tool(effect="read", retries=Retries(1, first_seconds=1))
    def talk_sync() -> None:
        current_step().stream("half")
        if current_step().attempt == 1:
            raise OSError("cut")

    @tool(effect="read")
    async def talk() -> None:
        current_step().stream("whole")
        await box.wait()

    @agent
    async def talking(ctx: Context) -> None:
        await talk_sync()
        await talk()

    async def scenario():
        await world.start(talking)
        run = await world.rt.start(talking)
        await world.until(run, "step.failed")
        await world.clock.advance(1.1)
        await world.until(run, "step.completed")
        await world.clock.advance(0.1)
        await world.restart(talking)
        box.open()
        await (await world.rt.run(run.id)).result()
        seen = [(e.type, e.step, e.attempt) for e in await world.journal(run) if e.type.startswith("stream.")]
        assert seen == [
            ("stream.delta", 1, 1), ("stream.reset", 1, 2), ("stream.delta", 1, 2), ("stream.completed", 1, 2),
            ("stream.delta", 2, 1), ("stream.reset", 2, 2), ("stream.delta", 2, 2), ("stream.completed", 2, 2),
        ]  # fmt: skip

    play(world, scenario)


def test_agents_and_steps_emit_events_of_their_own(world):
    """In order, with the step and attempt for those of a step, and replayed without repetition."""

    @tool(effect="read")
    async def work() -> None:
        current_step().emit("progress", {"by": "step"})

    @agent
    async def emitting(ctx: Context) -> None:
        await ctx.emit("custom.begin", [1])
        await work()
        await ctx.receive("go")
        await ctx.emit("artifact", {"name": "report"})

    async def scenario():
        await world.start(emitting)
        run = await world.rt.start(emitting)
        await settle()
        await world.restart(emitting)
        await world.rt.send(run.id, "go")
        await (await world.rt.run(run.id)).result()
        emitted = [
            (e.type, e.data, e.step, e.attempt)
            for e in await world.journal(run)
            if e.type in {"progress", "artifact", "custom.begin"}
        ]
        assert emitted == [
            ("custom.begin", [1], 1, None),
            ("progress", {"by": "step"}, 2, 1),
            ("artifact", {"name": "report"}, 4, None),
        ]

    play(world, scenario)


def test_followers_resume_anywhere_and_lose_nothing(world):
    """Any number of readers, from any position, slow or quick, before, during and after the run and a restart."""

    @agent
    async def long(ctx: Context) -> int:
        for n in range(40):
            await ctx.emit("progress", {"n": n})
            await ctx.receive("next")
        return 40

    async def scenario():
        await world.start(long)
        run = await world.rt.start(long)
        seen = []

        async def follow(after, pause):
            async for event in world.rt.events(run.id, after):
                seen.append((after, event.seq))
                for _ in range(pause):
                    await asyncio.sleep(0)

        early = [asyncio.create_task(follow(after, pause)) for after, pause in ((0, 0), (5, 50), (1, 3))]
        for n in range(40):
            await world.rt.send(run.id, "next", n)
            if n == 20:
                await settle()
                await world.restart(long)
                for task in early:
                    task.cancel()
                await asyncio.gather(*early, return_exceptions=True)
                reached = {max((seq for one, seq in seen if one == after), default=after) for after in (0, 5, 1)}
                early = [asyncio.create_task(follow(start, 1)) for start in reached]
        await (await world.rt.run(run.id)).result()
        await asyncio.gather(*early)
        last = len(await world.journal(run))
        assert {seq for _, seq in seen} == set(range(1, last + 1))
        for after in {after for after, _ in seen}:
            seqs = [seq for one, seq in seen if one == after]
            assert seqs == list(range(after + 1, after + 1 + len(seqs)))
        events = [event.seq async for event in world.rt.events(run.id, last - 2)]
        assert events == [last - 1, last]

    play(world, scenario)
