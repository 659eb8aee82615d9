"""What schedules start: each slot once, whoever tries, and nothing that is over."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator

from perdure import Context, agent
from perdure.errors import InvalidInput, NotFound
from perdure.store.contract import RunFilter
from perdure.testing.clock import settle
from perdure.triggers.cron import Cron
from perdure.triggers.timetable import LOOK_SECONDS
from perdure.values.clock import iso
from perdure.values.json import decode, encode
from tests.triggers.worlds import listener, noting, play

HOUR = 3600.0
# A FakeClock begins at 2026-01-01T00:00:00Z.


def _never_tea(what: str) -> str:
    if what == "tea":
        raise RuntimeError("never tea")
    return what


@agent
async def picky(ctx: Context, what: Annotated[str, AfterValidator(_never_tea)]) -> str:
    return what


async def runs(site, agent="noting"):
    """The slots that had runs, oldest first."""
    found = await site.store.runs(RunFilter(agent=agent, limit=1000))
    return [run.idempotency_key.partition("schedule:")[2] for run in reversed(found)]


def test_a_slot_starts_a_run_when_it_is_due():
    """Not before; and the schedule says what came of it, and what comes next."""

    async def scenario(site):
        async with site.up() as (runtime, triggers):
            await triggers.schedules.add("hourly", "noting", Cron("0 * * * *"), "tea")
            await triggers.look()
            await site.clock.advance(HOUR - 1)
            assert await runs(site) == []
            await site.clock.advance(2)
            assert await runs(site) == ["hourly:2026-01-01T01:00:00+00:00"]
            await site.clock.advance(HOUR)
            assert len(await runs(site)) == 2
            shown = (await triggers.schedules.find("hourly")).as_json(site.clock.now_us())
            assert shown["next"] == "2026-01-01T03:00:00.000000Z"
            assert shown["last"]["slot"] == "2026-01-01T02:00:00.000000Z"
            assert (await runtime.find(shown["last"]["run"])).status == "succeeded"
            assert await (await runtime.run(shown["last"]["run"])).result() == "tea"

    play(scenario)


def test_two_servers_start_a_slot_once():
    """Both wake at the same moment; an agent that interrupts is not interrupted by its own other half."""

    async def scenario(site):
        async with site.up() as (_, triggers), site.up():
            await triggers.schedules.add("hourly", "noting", Cron("0 * * * *"))
            await triggers.schedules.add("one", "impatient", Cron("0 * * * *"), None, session="s")
            await site.clock.advance(LOOK_SECONDS + 1)
            for _ in range(3):
                await site.clock.advance(HOUR)
            assert len(await runs(site)) == 3
            found = await site.store.runs(RunFilter(agent="impatient"))
            assert [run.status for run in found] == ["waiting", "cancelled", "cancelled"]

    play(scenario)


def test_the_same_start_at_the_same_moment_is_one_run():
    """An agent whose runs interrupt each other, started twice with one key: the second is the first."""

    async def scenario(site):
        async with site.up() as (a, _), site.up() as (b, _):
            for turn in range(5):
                key = f"key-{turn}"
                starts = [rt.start_json("impatient", None, session="s", idempotency_key=key) for rt in (a, b)]
                first, second = await asyncio.gather(*starts)
                assert first.id == second.id
                await settle()
                assert (await a.find(first.id)).status != "cancelled"

    play(scenario)


def test_a_start_finds_its_twin_that_has_begun_meanwhile():
    """The key is looked for, then the twin begins, then the session is looked at: the twin is not interrupted."""

    async def scenario(site):
        async with site.up() as (runtime, _):
            store, look = site.store, site.store.run_by_key
            began: list[Any] = []

            async def late(agent, key):
                found = await look(agent, key)
                if found is None and not began:
                    began.append(None)
                    began.append(await runtime.start_json("impatient", None, session="s", idempotency_key="k"))
                return found

            store.run_by_key = late
            again = await runtime.start_json("impatient", None, session="s", idempotency_key="k")
            await settle()
            assert again.id == began[1].id
            assert (await runtime.find(again.id)).status == "waiting"

    play(scenario)


def test_a_crash_between_start_and_note_starts_nothing_twice():
    """The run is there, the schedule does not know it: the next server finds it by its key."""

    async def scenario(site):
        async with site.up() as (runtime, triggers):
            await triggers.schedules.add("hourly", "noting", Cron("0 * * * *"), catch_up_seconds=HOUR)
            await triggers.look()
            write = site.store.put_document

            async def dies(document):
                if document.version:
                    runtime.kernel.kill()
                    await asyncio.Event().wait()
                return await write(document)

            site.store.put_document = dies
            await site.clock.advance(HOUR + 1)
            assert len(await runs(site)) == 1
            site.store.bury(runtime.kernel.node)
            site.store.put_document = write
        async with site.up() as (_, triggers):
            await site.clock.advance(LOOK_SECONDS)
            assert len(await runs(site)) == 1
            assert (await triggers.schedules.find("hourly")).last["run"] is not None

    play(scenario)


@pytest.mark.parametrize(
    ("catch_up", "made_up_for"), [(0, []), (3 * HOUR, ["hourly:2026-01-01T05:00:00+00:00"]), (600, [])]
)
def test_of_what_was_missed_at_most_the_newest_is_made_up_for(catch_up, made_up_for):
    """And only where the schedule says so, and it is not too old."""

    async def scenario(site):
        async with site.up() as (_, triggers):
            await triggers.schedules.add("hourly", "noting", Cron("0 * * * *"), catch_up_seconds=catch_up)
        await site.clock.advance(5.5 * HOUR)
        async with site.up():
            await site.clock.advance(LOOK_SECONDS + 1)
            assert await runs(site) == made_up_for
            await site.clock.advance(HOUR)
            assert await runs(site) == [*made_up_for, "hourly:2026-01-01T06:00:00+00:00"]

    play(scenario)


def test_a_slot_of_half_a_minute_ago_was_missed_too():
    """Nobody was up when it came: however short that was, it is the schedule that says what is made up for."""

    async def scenario(site):
        async with site.up() as (_, triggers):
            await triggers.schedules.add("hourly", "noting", Cron("0 * * * *"))
        await site.clock.advance(HOUR + 30)
        async with site.up():
            await site.clock.advance(LOOK_SECONDS + 1)
            assert await runs(site) == []

    play(scenario)


def test_a_server_that_was_asleep_does_not_run_after_what_is_over():
    """Its machine slept for hours: that was no time in which it was up."""

    async def scenario(site):
        async with site.up() as (_, triggers):
            await triggers.schedules.add("hourly", "noting", Cron("0 * * * *"))
            await triggers.look()
            await settle()
            site.clock._now_us += round(7.5 * HOUR * 1e6)
            await site.clock.advance(LOOK_SECONDS + 1)
            assert await runs(site) == []
            await site.clock.advance(HOUR)
            assert await runs(site) == ["hourly:2026-01-01T08:00:00+00:00"]

    play(scenario)


@pytest.mark.parametrize("made_early", [True, False])
def test_a_clock_that_jumped_ahead_and_came_back_silences_nothing(made_early):
    """What it noted meanwhile is yet to come: slots start by the clock as it is now, on this server and on others."""

    async def scenario(site):
        async with site.up() as (_, triggers), site.up() as (_, other):
            if made_early:
                await triggers.schedules.add("hourly", "noting", Cron("0 * * * *"))
            site.clock._now_us += round(100.5 * HOUR * 1e6)
            if not made_early:
                await triggers.schedules.add("hourly", "noting", Cron("0 * * * *"))
            await triggers.look()
            await site.clock.advance(HOUR)
            assert await runs(site) == ["hourly:2026-01-05T05:00:00+00:00"]
            site.clock._now_us -= round(100.5 * HOUR * 1e6)
            for server in (triggers, other):
                server.timetable.look_now()  # alarms go by time that passes, other than this clock's
            await settle()
            await site.clock.advance(HOUR + 1)
            assert await runs(site) == ["hourly:2026-01-05T05:00:00+00:00", "hourly:2026-01-01T02:00:00+00:00"]
            last = (await triggers.schedules.find("hourly")).last
            assert iso(last["slot"]) == "2026-01-01T02:00:00.000000Z"

    play(scenario)


def test_one_bad_schedule_stops_no_other(caplog):
    """A zone that this host lacks, a record that nobody can read, an agent whose validator breaks: each is seen."""

    async def scenario(site):
        async with site.up(agents=[noting]) as (_, triggers):
            for name in ("a", "b", "c", "good"):
                await triggers.schedules.add(name, "noting" if name == "good" else "picky", Cron("0 * * * *"), "tea")
        for name, changes in (("a", {"timezone": "Mars/Olympus"}), ("b", {"since": None, "cron": 5})):
            document = await site.store.document("schedule", name)
            await site.store.put_document(replace(document, data=encode({**decode(document.data), **changes})))
        async with site.up(agents=[noting, picky]) as (_, triggers):
            await site.clock.advance(HOUR + 1)
            assert await runs(site) == ["good:2026-01-01T01:00:00+00:00"]
            assert [schedule.name for schedule in await triggers.schedules.list()] == ["a", "c", "good"]
            shown = (await triggers.schedules.find("a")).as_json(site.clock.now_us())
            assert "Mars/Olympus" in shown["problem"]
            assert (shown["timezone"], shown["next"]) == ("Mars/Olympus", None)
            assert "never tea" in (await triggers.schedules.find("c")).last["problem"]
            with pytest.raises(InvalidInput, match="Mars"):
                await triggers.schedules.backfill("a", 0, 1)
            for name in ("a", "b"):
                await triggers.schedules.remove(name)
        said = [record.message for record in caplog.records if record.levelname == "ERROR"]
        assert sum("schedule b cannot be read" in message for message in said) == 1
        assert sum("schedule a starts nothing here" in message for message in said) == 1

    play(scenario)


def test_a_paused_schedule_starts_nothing_and_makes_up_for_nothing():
    """It goes on with what comes after it was resumed."""

    async def scenario(site):
        async with site.up() as (_, triggers):
            await triggers.schedules.add("hourly", "noting", Cron("0 * * * *"), catch_up_seconds=10 * HOUR)
            paused = await triggers.schedules.pause("hourly")
            assert paused.next(site.clock.now_us()) is None
            await site.clock.advance(2.5 * HOUR)
            await triggers.schedules.resume("hourly")
            await site.clock.advance(LOOK_SECONDS + 1)
            assert await runs(site) == []
            await site.clock.advance(HOUR)
            assert await runs(site) == ["hourly:2026-01-01T03:00:00+00:00"]

    play(scenario)


def test_other_servers_see_changes_within_seconds():
    """A schedule made by a process that ends at once is a server's business."""

    async def scenario(site):
        async with site.up() as (_, triggers):
            await site.clock.advance(HOUR - 20)
            await triggers.schedules.add("hourly", "noting", Cron("0 * * * *"))
            await site.clock.advance(LOOK_SECONDS)
            await site.clock.advance(30)
            assert len(await runs(site)) == 1
            await triggers.schedules.remove("hourly")
            await site.clock.advance(LOOK_SECONDS)
            await site.clock.advance(2 * HOUR)
            assert len(await runs(site)) == 1

    play(scenario)


def test_a_server_without_the_agent_leaves_the_slot_to_others():
    """It is neither lost nor noted as done."""

    async def scenario(site):
        async with site.up(agents=[listener]) as (_, bare), site.up():
            await bare.schedules.add("hourly", "noting", Cron("0 * * * *"))
            await site.clock.advance(LOOK_SECONDS + 1)
            await site.clock.advance(HOUR)
            assert len(await runs(site)) == 1

    play(scenario)


def test_a_backfill_starts_each_slot_once():
    """Those that had their run keep it; more than a thousand, and what is to come, are refused before anything starts."""

    async def scenario(site):
        async with site.up() as (_, triggers):
            schedules = triggers.schedules
            await schedules.add("hourly", "noting", Cron("0 * * * *"))
            await triggers.look()
            await site.clock.advance(HOUR + 1)
            now = site.clock.now_us()
            since = now - round(5 * HOUR * 1e6)
            first = (await schedules.backfill("hourly", since, now)).runs
            again = (await schedules.backfill("hourly", since, now)).runs
            assert first == again
            assert [iso(int((await site.store.run(id)).created))[:10] for id in first]
            assert len(first) == len(await runs(site)) == 5
            with pytest.raises(InvalidInput, match="more than 1,000"):
                await schedules.backfill("hourly", now - round(1001 * HOUR * 1e6), now)
            with pytest.raises(InvalidInput, match="past"):
                await schedules.backfill("hourly", since, now + 1)
            assert len(await runs(site)) == 5

    play(scenario)


def test_a_backfill_keeps_runs_of_another_input_and_goes_on_after_a_problem():
    """A slot that had its run keeps it, whatever the schedule says now; one that cannot start stops no other."""

    async def scenario(site):
        async with site.up(agents=[noting]) as (_, triggers):
            await triggers.schedules.add("hourly", "noting", Cron("0 * * * *"), "tea")
            await triggers.look()
            await site.clock.advance(2 * HOUR + 1)
            await triggers.schedules.remove("hourly")
        async with site.up(agents=[listener]) as (_, triggers):
            await triggers.schedules.add("hourly", "noting", Cron("0 * * * *"), {"no": "such"})
        async with site.up() as (_, triggers):
            now = site.clock.now_us()
            filled = await triggers.schedules.backfill("hourly", now - round(3 * HOUR * 1e6), now)
            assert len(filled.runs) == 2
            assert [problem["slot"] for problem in filled.problems] == ["2026-01-01T00:00:00.000000Z"]
            assert "what" in filled.problems[0]["problem"]
            assert len(await runs(site)) == 2

    play(scenario)


def test_a_trigger_starts_a_run_beside_all_slots():
    """Twice, two."""

    async def scenario(site):
        async with site.up() as (_, triggers):
            await triggers.schedules.add("hourly", "noting", Cron("0 * * * *"), paused=True)
            assert await triggers.schedules.trigger("hourly") != await triggers.schedules.trigger("hourly")

    play(scenario)


def test_a_slot_that_cannot_start_says_why():
    """The agent has changed, and takes no such input any more: nothing is tried for ever, and it is seen."""

    async def scenario(site):
        async with site.up(agents=[listener]) as (_, triggers):
            await triggers.schedules.add("hourly", "noting", Cron("0 * * * *"), {"no": "such"})
        async with site.up() as (_, triggers):
            await site.clock.advance(HOUR + 1)
            assert await runs(site) == []
            assert "what" in (await triggers.schedules.find("hourly")).last["problem"]

    play(scenario)


def test_what_makes_no_sense_is_refused():
    """Names, inputs, times; and a name that is taken."""

    async def scenario(site):
        async with site.up() as (_, triggers):
            add, hourly = triggers.schedules.add, Cron("0 * * * *")
            for name in ("", "a b", "x" * 101, "../x", "-x"):
                with pytest.raises(InvalidInput):
                    await add(name, "noting", hourly)
            with pytest.raises(InvalidInput, match="what"):
                await add("wrong", "noting", hourly, {"no": "such"})
            with pytest.raises(InvalidInput, match="50 years"):
                await add("never", "noting", Cron("* * */20 * 1L"))
            with pytest.raises(InvalidInput):
                await add("late", "noting", hourly, catch_up_seconds=-1)
            await add("twice", "noting", hourly)
            with pytest.raises(InvalidInput, match="already"):
                await add("twice", "noting", hourly)
            for change in (triggers.schedules.pause, triggers.schedules.remove, triggers.schedules.trigger):
                with pytest.raises(NotFound, match="schedule list"):
                    await change("none")

    play(scenario)


def test_a_steered_agent_is_started_in_its_turn():
    """A slot has a key, and nothing could tell a steering message from its repetition."""

    async def scenario(site):
        async with site.up() as (_, triggers):
            await triggers.schedules.add("hourly", "steered", Cron("0 * * * *"), "go", session="s")
            await triggers.look()
            await site.clock.advance(2 * HOUR + 1)
            found = await site.store.runs(RunFilter(agent="steered"))
            assert sorted(run.status for run in found) == ["queued", "waiting"]

    play(scenario)
