"""The Client gives what a Runtime gives: each call is made over HTTP and compared with the server's own Runtime."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import date

import pytest

from perdure import Client, Context, RunCancelled, RunFailed, Runtime, agent, tool
from perdure.errors import AlreadySettled, InvalidInput, NotFound
from perdure.store import MemoryStore
from perdure.store.contract import RunFilter
from perdure.values.runs import RunStatus
from tests.client.servers import first, play
from tests.gateway.servers import AGENTS, TOKEN, adder, asker, served


@agent
async def holder(ctx: Context, box: dict[str, int]) -> dict[str, int]:
    return box


@agent
async def tomorrow(ctx: Context, day: date) -> date:
    return day.replace(day=day.day + 1)


@agent
async def twice(ctx: Context, count: int) -> int:
    return count if count > 1 else ctx.continue_as(count + 1)


class TestStarting:
    def test_by_name_with_an_input_as_json(self):
        """One value for one parameter, an object for several, nothing for none; the result comes as JSON."""

        async def scenario(server, client):
            assert await (await client.start("adder", {"a": 1})).result() == 3
            assert await (await client.start_json("adder", {"a": 1, "b": 1})).result() == 2
            run = await client.start("asker", "How many?")
            await server.idle()
            [ask] = await client.inbox(run=run.id)
            assert ask.title == "How many?"
            assert (await (await client.start("listener")).status()).agent == "listener"
            with pytest.raises(InvalidInput, match="by name"):
                await client.start("adder", 1, 2)

        play(scenario)

    def test_by_agent_with_typed_arguments_and_result(self):
        """Values go as JSON and come back as the agent's types; a value that holds the parameter's name stays itself."""

        async def scenario(server, client):
            assert await (await client.start(tomorrow, date(2026, 1, 1))).result() == date(2026, 1, 2)
            assert await (await client.start(holder, {"box": 1})).result() == {"box": 1}
            assert await (await client.start(adder, 1, 5)).result() == 6
            with pytest.raises(InvalidInput, match="adder"):
                await client.start(adder, "one", 5)

        play(scenario, agents=[holder, tomorrow, adder])

    def test_options_reach_the_run(self):
        """Session, priority, concurrency key and idempotency key."""

        async def scenario(server, client):
            options = {"session": "a/b c", "priority": 7, "concurrency_key": "acme", "idempotency_key": "po-1"}
            run = await client.start("asker", "Well?", **options)
            assert (await client.start("asker", "Well?", **options)).id == run.id
            row = await server.runtime.find(run.id)
            assert (row.session, row.priority, row.concurrency_key) == ("a/b c", 7, "acme")
            assert row.idempotency_key == "po-1"
            with pytest.raises(InvalidInput, match="idempotency key"):
                await client.start("asker", "Well?", idempotency_key="schön")

        play(scenario)


class TestLooking:
    def test_a_run_is_the_row_of_the_runtime(self):
        """All of it but what only stores need; found by its end too."""

        async def scenario(server, client):
            run = await client.start("listener", session="s", priority=3)
            await server.idle()
            theirs = await server.runtime.find(run.id)
            assert await client.find(run.id) == theirs
            assert await client.find(run.id[-6:]) == theirs
            assert (await (await client.run(run.id)).status()) == theirs

        play(scenario)

    def test_lists_are_filtered_and_go_over_pages(self, monkeypatch):
        """Newest first, as many as wanted, however many a page holds."""
        monkeypatch.setattr("perdure.client.client._PAGE", 2)

        async def scenario(server, client):
            for count in range(5):
                await (await client.start("adder", {"a": count}, session=f"s{count % 2}")).result()
            await client.start("asker", "Well?")
            await server.idle()
            for wanted in (
                RunFilter(), RunFilter(limit=3), RunFilter(agent="adder"), RunFilter(session="s1"),
                RunFilter(statuses=(RunStatus.WAITING, RunStatus.FAILED)), RunFilter(since=0, until=1),
            ):  # fmt: skip
                assert await client.runs(wanted) == await server.runtime.runs(wanted)
            newest = (await client.runs())[0]
            assert await client.runs(RunFilter(before=newest.id)) == (await server.runtime.runs())[1:]
            with pytest.raises(InvalidInput, match="find"):
                await client.runs(RunFilter(suffix="abcd"))

        play(scenario)

    def test_journals_are_the_same_events(self, monkeypatch):
        """Whole, in part, and over pages."""
        monkeypatch.setattr("perdure.client.client._PAGE", 2)

        async def scenario(server, client):
            run = await client.start("adder", {"a": 1})
            await run.result()
            theirs = await server.runtime.journal(run.id)
            assert await client.journal(run.id) == theirs
            assert await client.journal(run.id, 1, 1) == theirs[1:2]
            assert [event async for event in run.events(1)] == theirs[1:]
            assert [event async for event in client.events(run.id[-6:])] == theirs
            assert [event async for event in client.events(run.id, theirs[-1].seq)] == []

        play(scenario)

    def test_runs_are_followed_live(self):
        """Events come while the run moves, and the stream ends with the run."""

        async def scenario(server, client):
            run = await client.start("listener")
            seen = []
            async for event in run.events():
                seen.append(event)
                if event.type == "message.awaited":
                    await run.send("word", "stop")
            assert seen == await server.runtime.journal(run.id)
            assert seen[-1].type == "run.succeeded"

        play(scenario)

    def test_two_runs_are_compared(self):
        """Pairs of steps as `diff_timelines` gives them."""

        async def scenario(server, client):
            left, right = await client.start("buyer", ["pen"]), await client.start("buyer", ["ink"])
            await server.idle()
            quoted, *_ = await client.diff(left.id, right.id)
            assert quoted.fields == ("args",)
            assert (quoted.left.args, quoted.right.args) == ({"item": "pen"}, {"item": "ink"})
            assert quoted.left.started == (await server.runtime.journal(left.id))[quoted.left.step + 1].time_us

        play(scenario)

    def test_sessions_agents_and_the_system(self):
        """What a server knows beside runs."""

        async def scenario(server, client):
            run = await client.start("listener", session="a/b")
            await server.idle()
            await client.send("a/b", "word", "hi", agent="listener")
            await server.idle()
            [row] = await client.sessions(agent="listener")
            assert row == (await server.runtime.store.sessions())[0]
            session = await client.session("listener", "a/b")
            assert (session.active, session.state["heard"]) == (run.id, 1)
            assert [each.id for each in session.runs] == [run.id]
            assert {each["name"] for each in await client.agents()} == {agent.name for agent in AGENTS}
            assert (await client.system())["nodes"][0]["alive"]
            with pytest.raises(NotFound):
                await client.session("listener", "nobody")

        play(scenario)


class TestEnds:
    def test_results_of_runs_that_ended_otherwise(self):
        """RunFailed with the original's type, RunCancelled with the reason, TimeoutError while it goes on."""

        async def scenario(server, client):
            with pytest.raises(RunFailed, match="no good can come") as failed:
                await (await client.start("failing")).result()
            assert failed.value.type == "ValueError"
            waiting = await client.start("listener")
            with pytest.raises(TimeoutError):
                await waiting.result(timeout=0.05)
            await waiting.cancel("changed my mind")
            with pytest.raises(RunCancelled, match="changed my mind"):
                await waiting.result()

        play(scenario)

    def test_a_run_that_continued_has_the_result_of_the_last(self):
        """As on a Runtime."""

        async def scenario(server, client):
            assert await (await client.start(twice, 1)).result() == 2

        play(scenario, agents=[twice])


class TestSteering:
    def test_pause_resume_and_cancel(self):
        """Each becomes an event, by the name of the key."""

        async def scenario(server, client):
            run = await client.start("listener")
            await run.pause()
            assert (await first(run.events(), "run.paused")).data["by"] == "admin"
            assert (await run.status()).status == "paused"
            await run.resume()
            await first(run.events(), "run.resumed")
            await client.pause(run.id, note="lunch", by="ignored")
            await client.resume(run.id)
            await client.cancel(run.id, reason="enough")
            end = [event async for event in run.events()][-1]
            assert (end.type, end.data) == ("run.cancelled", {"by": "admin", "reason": "enough"})
            with pytest.raises(AlreadySettled, match="perdure fork"):
                await client.pause(run.id)

        play(scenario)

    def test_retry_and_fork_give_the_new_run(self):
        """That goes on from a step; with another input, or another result."""

        async def scenario(server, client):
            run = await client.start("asker", "Well?")
            await server.idle()
            await run.cancel()
            with pytest.raises(RunCancelled):
                await run.result()
            again = await client.retry(run.id, from_step=1)
            assert (await again.status()).forked_from[0] == run.id
            forked = await client.fork(run.id, at=1, result=9)
            assert await forked.result() == 9
            other = await client.fork(run.id, at=1, input="Really?")
            await server.idle()
            assert (await client.inbox(run=other.id))[0].title == "Really?"
            with pytest.raises(NotFound, match="no step 99"):
                await client.fork(run.id, at=99)

        play(scenario)

    def test_a_step_that_nobody_knows_of_is_resolved(self):
        """With what it brought."""
        begun = asyncio.Event()

        @tool(effect="once")
        async def charge() -> str:
            begun.set()
            await asyncio.Event().wait()
            return "never"

        @agent
        async def cashier(ctx: Context) -> str:
            return await charge()

        async def main():
            store = MemoryStore()
            async with Runtime(store, [cashier]) as runtime:
                id = (await runtime.start(cashier)).id
                await begun.wait()
                await runtime.stop(finish_seconds=0)
            async with (
                asyncio.timeout(30), served(store=store, agents=[cashier], on_socket=True) as server,
                Client(server.url, token=TOKEN) as client,
            ):  # fmt: skip
                await first(client.events(id), "step.unknown")
                await client.resolve(id, 1, "happened", result="receipt-1")
                assert await (await client.run(id)).result() == "receipt-1"

        asyncio.run(main())


class TestPeople:
    def test_questions_are_found_and_answered(self):
        """The same answer again changes nothing, another one is too late."""

        async def scenario(server, client):
            run = await client.start(asker, "How many?")
            await server.idle()
            [ask] = await client.inbox(to="finance")
            [theirs] = await server.runtime.inbox()
            assert ask == replace(theirs, shard="", detail=ask.detail)
            assert await client.inbox(to="nobody") == []
            assert await client.find_ask(ask.id[-5:]) == ask
            with pytest.raises(InvalidInput, match="integer"):
                await client.answer(ask.id, "many")
            await client.answer(ask.id, 7, by="ignored")
            await client.answer(ask.id, 7)
            assert await run.result() == 7
            with pytest.raises(AlreadySettled, match="answered by admin"):
                await client.answer(ask.id, 8)
            closed = await client.find_ask(ask.id)
            assert (closed.status, closed.answer, closed.by) == ("answered", "7", "admin")

        play(scenario)

    def test_actions_are_approved_with_an_edit_or_rejected(self):
        """And the journal says what was agreed to."""

        async def scenario(server, client):
            run = await client.start("buyer", ["pen"])
            await server.idle()
            [ask] = await client.inbox(run=run.id)
            with pytest.raises(InvalidInput, match="no argument"):
                await client.approve(ask.id, edit={"amonut": "1"})
            await client.approve(ask.id, edit={"amount": "9.90"}, note="less")
            assert await run.result() == {"pen": "bought pen for 9.90"}
            run = await client.start("buyer", ["ink"])
            await server.idle()
            [ask] = await client.inbox(run=run.id)
            await client.reject(ask.id, note="no money")
            with pytest.raises(RunFailed, match="no money"):
                await run.result()

        play(scenario)
