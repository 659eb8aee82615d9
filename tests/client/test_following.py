"""A run is followed whatever becomes of the server: each event once, in order."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from perdure import Client, Runtime
from perdure.errors import NotFound, Unreachable
from perdure.gateway.app import Gateway
from perdure.gateway.routes import SECTIONS
from perdure.gateway.serving import bind, serving
from perdure.gateway.settings import GatewaySettings
from perdure.store import MemoryStore
from tests.client.servers import play, reply, scripted, stream
from tests.gateway.servers import AGENTS, TOKEN


def piece(seq, type="progress"):
    """One event as a stream sends it."""
    data = {
        "run": "run_1", "seq": seq, "type": type, "time": "2026-01-31T12:00:00.000000Z", "step": None, "attempt": None,
        "data": {"n": seq},
    }  # fmt: skip
    return f"id: {seq}\nevent: {type}\ndata: {json.dumps(data)}\n\n"


RETRY = "retry: 5\n\n"
END = piece(4, "run.succeeded")


def followed(*script, after=0, away_seconds=60.0):
    """The numbers of the events that came, and what the server was asked."""

    async def main():
        async with asyncio.timeout(30), scripted(*script) as (server, url):
            async with Client(url, token="key", away_seconds=away_seconds) as client:
                got = [event.seq async for event in client._follow("run_1", after)]
            return got, [headers["last-event-id"] for _, headers in server.requests]

    return asyncio.run(main())


def test_a_stream_that_breaks_within_an_event_is_taken_up_before_it():
    """Half an event is none: the reader comes back with the number of the last whole one."""
    first = RETRY + piece(1) + piece(2)[:-30]
    got, asked = followed(stream(first), stream(RETRY + piece(2) + piece(3) + END))
    assert got == [1, 2, 3, 4]
    assert asked == ["0", "1"]


def test_what_comes_twice_is_given_once():
    """Whoever answers may begin too early."""
    got, asked = followed(stream(RETRY + piece(1) + piece(2)), stream(RETRY + piece(1) + piece(2) + piece(3) + END))
    assert got == [1, 2, 3, 4]
    assert asked == ["0", "2"]


def test_a_server_in_trouble_is_asked_again():
    """Whether it says so, a proxy does, or nobody answers at all."""
    got, asked = followed(
        stream(RETRY + piece(1)), b"", reply(503, "{}"), reply(502, "<h1>", "text/html"), stream(RETRY),
        stream(piece(2) + piece(3) + END),
    )  # fmt: skip
    assert got == [1, 2, 3, 4]
    assert asked == ["0", *["1"] * 5]


def test_nothing_more_ends_it():
    """204: the run's last event was seen."""
    assert followed(reply(204), after=4) == ([], ["4"])


def test_a_refusal_ends_it():
    """It is told, not tried again."""
    body = '{"error": "NotFound", "detail": "no run has this id"}'
    with pytest.raises(NotFound, match="no run"):
        followed(stream(RETRY + piece(1)), reply(404, body, "application/problem+json"))


def test_a_server_that_stays_away_is_given_up():
    """Unreachable, after `away_seconds`."""
    with pytest.raises(Unreachable, match="503"):
        followed(stream(RETRY + piece(1)), *[reply(503)] * 50, away_seconds=0.02)


def test_a_server_that_was_there_for_long_is_waited_for_as_long(monkeypatch):
    """What counts is since when it is away, not since when it was asked."""
    clock = [0.0]
    monkeypatch.setattr("perdure.client.following._now", lambda: clock[0])
    cut = reply(200, RETRY + piece(1), "text/event-stream").replace(b"Content-Length: ", b"Content-Length: 9")

    got: list[int] = []

    async def main():
        async with (
            asyncio.timeout(30), scripted(cut, stream(piece(2) + piece(3) + END)) as (_, url),
            Client(url, token="key", away_seconds=60) as client,
        ):  # fmt: skip
            async for event in client._follow("run_1", 0):
                clock[0] += 3600
                got.append(event.seq)

    asyncio.run(main())
    assert got == [1, 2, 3, 4]


def test_who_comes_back_too_soon_is_sent_away_again():
    """A stream that begins while the server ends is over at once: it keeps no server from ending."""

    async def scenario(server, client):
        run = await client.start("listener")
        server.gateway.streams.close()
        headers = {"Accept": "text/event-stream"}
        for path in (("runs", run.id, "events"), ("changes",)):
            async with asyncio.timeout(5), client._connection.stream(*path, headers=headers) as source:
                assert 1000 in [said.retry async for said in source]

    play(scenario)


class Restarting:
    """A server on one port that can be stopped and started again, before a Runtime that goes on meanwhile."""

    def __init__(self, runtime):
        self.runtime = runtime
        self.port = 0

    @asynccontextmanager
    async def up(self):
        """While entered, it serves."""
        gateway = Gateway(self.runtime, GatewaySettings(token=TOKEN), sections=SECTIONS)
        with bind("127.0.0.1", self.port) as listening:
            self.port = listening.getsockname()[1]
            async with serving(gateway, listening):
                yield f"http://127.0.0.1:{self.port}"
                gateway.streams.close()


def test_a_follower_outlives_a_restart_of_the_server():
    """What happened while the server was away is caught up with; nothing is missed, nothing comes twice."""

    async def main():
        async with asyncio.timeout(30), Runtime(MemoryStore(), AGENTS) as runtime:
            server = Restarting(runtime)
            run = await runtime.start_json("listener", {})
            got = []
            heard = asyncio.Event()

            async def follow(url):
                async with Client(url, token=TOKEN) as client:
                    result = asyncio.create_task((await client.run(run.id)).result())
                    async for event in client.events(run.id):
                        got.append(event)
                        if event.type == "message.received":
                            heard.set()
                    return await result

            async with server.up() as url:
                following = asyncio.create_task(follow(url))
                await run.send("word", "one")
                await heard.wait()
            await run.send("word", "two")
            await runtime.idle()
            async with server.up():
                await run.send("word", "three")
                await run.send("word", "stop")
                assert await following == ["one", "two", "three"]
            journal = await runtime.journal(run.id)
            assert got == journal
            assert [event.seq for event in got] == list(range(1, len(journal) + 1))

    asyncio.run(main())
