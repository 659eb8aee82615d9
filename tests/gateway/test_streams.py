"""Streams: every event once and in order, live, for any number of readers, whatever ends or restarts in between."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import httpx2

from perdure import Context, Runtime, agent, current_step, tool
from perdure.errors import StoreBusy
from perdure.gateway.events import _Connection
from perdure.store import MemoryStore
from tests.gateway.servers import AGENTS, TOKEN, play, served

STREAM = {"Accept": "text/event-stream"}


@asynccontextmanager
async def reading(server, run, *, after=None, params=None, client=None):
    """An open stream of a run, as an iterator of its events."""
    headers = {**STREAM, **({} if after is None else {"Last-Event-ID": str(after)})}
    async with (client or server.client).stream(
        "GET", f"/v1/runs/{run}/events", headers=headers, params=params
    ) as answer:
        assert answer.status_code == 200, await answer.aread()
        yield events_of(answer)


async def events_of(answer):
    """The events of a stream; each is checked to carry its number and type twice."""
    lines = {}
    async for line in answer.aiter_lines():
        if line:
            name, _, value = line.partition(": ")
            lines[name] = value
        elif "data" in lines:
            event = json.loads(lines["data"])
            if "id" in lines:
                assert (event["seq"], event["type"]) == (int(lines["id"]), lines["event"])
            yield event
            lines = {}


async def seqs(events):
    """The numbers of all events that still come."""
    return [event["seq"] async for event in events]


def test_a_stream_gives_what_was_and_then_what_comes():
    """Until the run's last event, each as in the journal."""

    async def scenario(server):
        run = await server.start("listener")
        await server.idle()
        async with reading(server, run["id"]) as events:
            first = [await anext(events) for _ in range(3)]
            assert [event["type"] for event in first] == ["run.queued", "run.started", "message.awaited"]
            await server.post(f"/v1/runs/{run['id']}/messages", {"topic": "word", "value": "stop"})
            rest = [event async for event in events]
        journal = [event.as_json() for event in await server.runtime.journal(run["id"])]
        assert first + rest == journal

    play(scenario, on_socket=True)


def test_who_comes_back_goes_on_where_it_was():
    """By Last-Event-ID, which counts before `after`; and is told when nothing more will come."""

    async def scenario(server):
        run = await server.start("adder", {"a": 1}, wait=5)
        async with reading(server, run["id"], after=1, params={"after": 2}) as events:
            assert await seqs(events) == [2, 3]
        async with reading(server, run["id"], params={"after": 2}) as events:
            assert await seqs(events) == [3]
        answer = await server.get(f"/v1/runs/{run['id']}/events", headers={**STREAM, "Last-Event-ID": "3"})
        assert answer.status_code == 204
        answer = await server.get(f"/v1/runs/{run['id']}/events", headers={**STREAM, "Last-Event-ID": "x"})
        assert answer.status_code == 400

    play(scenario, on_socket=True)


def test_only_wanted_types_are_sent():
    """And the stream ends with the run all the same."""

    async def scenario(server):
        run = await server.start("adder", {"a": 1}, wait=5)
        async with reading(server, run["id"], params=[("type", "run.q*"), ("type", "step.*")]) as events:
            assert await seqs(events) == [1]

    play(scenario, on_socket=True)


def test_who_wants_some_types_hears_how_far_it_is():
    """So that a browser, coming back, is told that nothing more will come."""

    async def scenario(server):
        run = await server.start("adder", {"a": 1}, wait=5)
        answer = await server.get(f"/v1/runs/{run['id']}/events", headers=STREAM, params={"type": "ask.*"})
        assert answer.text.endswith("id: 3\n\n")
        assert "data:" not in answer.text

    play(scenario, on_socket=True)


class Stumbling:
    """A store whose next answer about a journal, when `ill`, is that it is busy."""

    def __init__(self, store):
        self._store = store
        self.ill = False

    def __getattr__(self, name):
        return getattr(self._store, name)

    async def events(self, *args):
        if self.ill:
            self.ill = False
            raise StoreBusy("not now")
        return await self._store.events(*args)


def test_a_store_that_stumbles_hides_no_event():
    """Whoever reads the tail for all asked in vain: readers then ask for themselves."""

    async def scenario():
        shared = MemoryStore()
        store = Stumbling(shared)
        async with served(store=store, agents=[], on_socket=True) as server, Runtime(shared, AGENTS) as worker:
            run = await worker.start(AGENTS[3])
            await worker.idle()
            async with reading(server, run.id) as events:
                assert [(await anext(events))["seq"] for _ in range(3)] == [1, 2, 3]
                store.ill = True
                await worker.send(run.id, "word", "stop")
                assert await seqs(events) == [4, 5]

    asyncio.run(asyncio.wait_for(scenario(), 10))


@tool
async def talk(words: int) -> int:
    for number in range(words):
        current_step().stream(f"word {number} ")
        await asyncio.sleep(0)
    return words


@agent
async def talker(ctx: Context, words: int) -> int:
    await ctx.receive("go")
    return await talk(words)


@agent
async def counter(ctx: Context, count: int) -> int:
    await ctx.receive("go")
    for number in range(count):
        await ctx.emit("progress", {"done": number, "padding": "x" * 2000})
    return count


def test_many_readers_get_the_same():
    """Two hundred, each from where it wants to begin."""

    async def scenario(server):
        run = await server.start("counter", 100)
        await server.idle()
        limits = httpx2.Limits(max_connections=300)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx2.AsyncClient(base_url=server.url, headers=headers, limits=limits, timeout=20) as client:
            there = asyncio.Barrier(201)

            async def read(after):
                async with reading(server, run["id"], after=after, client=client) as events:
                    first = (await anext(events))["seq"]
                    await there.wait()
                    return after, [first, *await seqs(events)]

            readers = [asyncio.create_task(read(after)) for after in [*range(3), *[0] * 197]]
            await there.wait()
            await server.post(f"/v1/runs/{run['id']}/messages", {"topic": "go"})
            last = 0
            for after, found in await asyncio.gather(*readers):
                last = last or found[-1]
                assert found == list(range(after + 1, last + 1))
        assert last > 100

    play(scenario, on_socket=True, agents=[counter])


def test_a_reader_that_does_not_read_holds_nobody_up():
    """The run ends and others read it to its end; when it reads on, nothing is missing."""

    async def scenario(server):
        run = await server.start("counter", 2000)
        await server.idle()
        async with reading(server, run["id"]) as slow:
            assert (await anext(slow))["seq"] == 1
            await server.post(f"/v1/runs/{run['id']}/messages", {"topic": "go"})
            async with reading(server, run["id"]) as quick:
                found = await seqs(quick)
            assert found == list(range(1, len(found) + 1))
            assert len(found) > 2000
            assert await seqs(slow) == found[1:]

    play(scenario, on_socket=True, agents=[counter])


def test_what_another_process_writes_is_streamed_too():
    """The server may be no worker at all."""

    async def scenario():
        store = MemoryStore()
        async with served(store=store, agents=[], on_socket=True) as server, Runtime(store, AGENTS) as worker:
            run = await worker.start(AGENTS[3])
            await worker.idle()
            async with reading(server, run.id) as events:
                assert (await anext(events))["seq"] == 1
                await worker.send(run.id, "word", "stop")
                assert await seqs(events) == [2, 3, 4, 5]

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_a_server_may_end_and_another_go_on():
    """A reader that comes back with its position misses and repeats nothing."""

    async def scenario():
        store = MemoryStore()
        async with served(store=store, on_socket=True) as server:
            run = await server.start("listener")
            await server.idle()
            async with reading(server, run["id"]) as events:
                first = [(await anext(events))["seq"] for _ in range(3)]
                server.gateway.streams.close()
                assert await seqs(events) == []
        async with served(store=store, on_socket=True) as server, reading(server, run["id"], after=3) as events:
            await server.post(f"/v1/runs/{run['id']}/messages", {"topic": "word", "value": "stop"})
            rest = await seqs(events)
        assert first + rest == list(range(1, rest[-1] + 1))

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_news_that_came_while_nobody_waited_are_heard():
    """A reader that a heartbeat has woken watches the same news once more; they may have come in between."""

    async def scenario():
        async def silent():
            await asyncio.Event().wait()

        reader, news = _Connection(silent), asyncio.get_running_loop().create_future()
        waiting = asyncio.create_task(reader.wait(news))
        await asyncio.sleep(0)
        reader._ring()
        assert await waiting == b": beat\n\n"
        news.set_result(None)
        await asyncio.sleep(0)
        assert await asyncio.wait_for(reader.wait(news), 1) == b""
        reader.forget()

    asyncio.run(scenario())


def test_who_is_locked_out_is_cut_off():
    """A stream ends when its key is revoked."""

    async def scenario(server):
        key, text = await server.gateway.access.keys.create("reader", ["viewer"])
        run = await server.start("listener")
        headers = {"Authorization": f"Bearer {text}"}
        async with httpx2.AsyncClient(base_url=server.url, headers=headers, timeout=20) as client:
            async with reading(server, run["id"], client=client) as events:
                await anext(events)
                await server.gateway.access.keys.revoke(key.id)
                server.gateway.access._believed.clear()  # two seconds later
                await server.gateway.access.check_open()
                await seqs(events)
            again = await client.get(f"/v1/runs/{run['id']}")
            assert again.status_code == 401

    play(scenario, on_socket=True)


def test_changes_tell_which_runs_moved():
    """One at once, then whenever something is written, with the number of open asks."""

    async def scenario(server):
        async with server.client.stream("GET", "/v1/changes", headers=STREAM) as answer:
            changes = events_of(answer)
            assert await anext(changes) == {"runs": [], "asks": 0}
            run = await server.start("asker", "Spend it?")
            seen, asks = set(), 0
            while run["id"] not in seen or not asks:
                change = await anext(changes)
                seen |= set(change["runs"])
                asks = change["asks"]

    play(scenario, on_socket=True)


def test_a_stream_of_tokens_is_few_rows():
    """What comes within 50 ms is one event."""

    async def scenario(server):
        run = await server.start("talker", 1000)
        await server.post(f"/v1/runs/{run['id']}/messages", {"topic": "go"})
        async with reading(server, run["id"], params={"type": "stream.*"}) as events:
            found = [event async for event in events]
        deltas = [event for event in found if event["type"] == "stream.delta"]
        assert "".join(event["data"]["text"] for event in deltas) == "".join(f"word {n} " for n in range(1000))
        assert len(deltas) < 100

    play(scenario, on_socket=True, agents=[talker])
