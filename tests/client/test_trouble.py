"""What a Client makes of refusals, of servers that are not there, and of connections that break."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

from perdure import Client, PerdureError, errors
from perdure.client.connection import error_named
from perdure.errors import AlreadySettled, IdempotencyMismatch, InvalidSetting, NotFound, SessionBusy, Unreachable
from tests.client.servers import play, reply, scripted
from tests.gateway.servers import TOKEN

ASK = {
    "id": "run_1:2", "kind": "ask", "run": "run_1", "agent": "asker", "session": None, "step": 2, "title": "Well?",
    "to": None, "created": "2026-01-31T12:00:00.000000Z", "deadline": None, "schema": None, "action": None,
    "args": None, "status": "open", "answer": None, "by": None, "note": None, "closed": None,
}  # fmt: skip


def problem(status, error, **headers):
    """Problem details as bytes."""
    body = json.dumps({"status": status, "error": error, "title": error, "detail": f"{error}: do this"})
    return reply(status, body, "application/problem+json", **headers)


def told(*script, call):
    """What `call(client)` gave or raised, and the methods that were asked of a server with this script."""

    async def main():
        async with asyncio.timeout(30), scripted(*script) as (server, url), Client(url, token="key") as client:
            try:
                return await call(client), server
            except PerdureError as error:
                return error, server

    return asyncio.run(main())


@pytest.fixture
def impatient(monkeypatch):
    """Between two tries there is hardly any time."""
    monkeypatch.setattr("perdure.client.connection._WAIT_SECONDS", 0.001)


class TestRefusals:
    def test_errors_are_those_of_a_runtime(self):
        """By class, with the server's words."""

        async def scenario(server, client):
            with pytest.raises(NotFound, match="perdure runs"):
                await client.find("nobody")
            with pytest.raises(NotFound, match="perdure inbox"):
                await client.find_ask("nobody")
            with pytest.raises(NotFound, match="adder"):
                await client.start("nobody")
            await client.start("adder", {"a": 1}, idempotency_key="k")
            with pytest.raises(IdempotencyMismatch):
                await client.start("adder", {"a": 2}, idempotency_key="k")
            run = await client.start("listener", session="s")
            with pytest.raises(SessionBusy, match="s"):
                await client.start("listener", session="s", busy="reject")
            with pytest.raises(errors.InvalidInput, match="busy"):
                await client.start("listener", busy="nonsense")
            await run.cancel()
            with pytest.raises(errors.RunCancelled):
                await run.result()
            with pytest.raises(AlreadySettled, match="cancelled"):
                await run.send("word")
            with pytest.raises(errors.NotJsonError):
                await run.send("word", object())

        play(scenario)

    def test_a_key_that_is_missing_wrong_or_too_weak_is_told_with_the_remedy(self, monkeypatch):
        """PerdureError: where a key comes from; which scope is needed. The key itself is never told."""
        monkeypatch.delenv("PERDURE_TOKEN", raising=False)

        async def scenario(server, client):
            async with Client(server.url) as nobody:
                with pytest.raises(PerdureError, match="PERDURE_TOKEN"):
                    await nobody.runs()
            async with Client(server.url, token="wrong-secret") as stranger:
                with pytest.raises(PerdureError, match="perdure key create") as told:
                    await stranger.runs()
                assert "secret" not in str(told.value)
            async with Client(server.url, token=await server.key("viewer")) as viewer:
                with pytest.raises(PerdureError, match="operator"):
                    await viewer.start("listener")

        play(scenario)

    def test_url_and_key_may_come_from_the_environment(self, monkeypatch):
        """PERDURE_SERVER and PERDURE_TOKEN."""

        async def scenario(server, client):
            monkeypatch.setenv("PERDURE_SERVER", server.url)
            monkeypatch.setenv("PERDURE_TOKEN", TOKEN)
            async with Client() as other:
                assert await other.runs() == []

        play(scenario)

    def test_errors_go_by_their_names(self):
        """What has no such name, or says more than its text, is a PerdureError."""
        assert type(error_named("StoreFull", "x")) is errors.StoreFull
        assert type(error_named("AlreadySettled", "x")) is AlreadySettled
        assert [type(error_named(name, "x")) for name in ("Forbidden", "annotations", "RunFailed")] == [
            PerdureError
        ] * 3

    def test_an_address_that_makes_no_sense_is_refused(self):
        """And a password in it is not repeated."""
        for url in ("ftp://host", "localhost:8420", "http://", "http://host/#/login?code=1", "http://host:99999"):
            with pytest.raises(InvalidSetting, match="address"):
                Client(url, token="key")
        with pytest.raises(InvalidSetting) as told:
            Client("http://me:secret@host")
        assert "secret" not in str(told.value)
        with pytest.raises(InvalidSetting, match="perdure key create"):
            Client("http://host", token="two\nlines")


@pytest.mark.usefixtures("impatient")
class TestTrouble:
    def test_no_server_is_told_with_the_remedy(self):
        """Unreachable says where nobody answered and how to start one."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{free.getsockname()[1]}"

            async def main():
                async with Client(url, token="secret") as client:
                    await client.runs()

            with pytest.raises(Unreachable, match="`perdure dev") as told:
                asyncio.run(main())
        assert url in str(told.value)
        assert "secret" not in str(told.value)

    def test_what_only_looks_is_asked_again(self):
        """A connection that breaks, and a server that is in trouble for a moment."""
        moment = problem(503, "StoreBusy", Retry_After="0")
        found, server = told(b"", moment, reply(200, json.dumps(ASK)), call=lambda client: client.find_ask("run_1:2"))
        assert found.title == "Well?"
        assert server.methods == ["GET"] * 3

    def test_what_may_have_been_taken_is_not_sent_twice(self):
        """The caller hears that it is not known."""
        found, server = told(b"", call=lambda client: client.send("run_1", "word"))
        assert isinstance(found, Unreachable)
        assert "not known" in str(found)
        assert server.methods == ["POST"]

    def test_what_changes_nothing_the_second_time_is_sent_again(self):
        """An answer; and a start, with its idempotency key."""
        body = json.dumps(ASK)
        found, server = told(b"", reply(200, body), call=lambda client: client.answer("run_1:2", 7))
        assert (found, server.methods) == (None, ["POST"] * 2)
        found, server = told(
            b"", reply(201, '{"id": "run_1"}'), call=lambda client: client.start("adder", idempotency_key="po-1")
        )
        assert found.id == "run_1"
        assert [headers["idempotency-key"] for _, headers in server.requests] == ["po-1"] * 2

    def test_a_start_without_a_key_is_not_sent_again(self):
        """It would be another run."""
        found, server = told(b"", call=lambda client: client.start("adder"))
        assert (type(found), server.methods) == (Unreachable, ["POST"])

    def test_a_server_that_asks_for_patience_gets_some(self):
        """429 says that nothing was done: whatever it was is asked again, unless that would take long."""
        wait = problem(429, "TooManyRequests", Retry_After="0")
        found, server = told(wait, reply(202, "{}"), call=lambda client: client.send("run_1", "word"))
        assert (found, len(server.requests)) == (None, 2)
        long = problem(429, "TooManyRequests", Retry_After="3600")
        found, server = told(long, call=lambda client: client.send("run_1", "word"))
        assert ("do this" in str(found), len(server.requests)) == (True, 1)

    def test_it_is_not_asked_for_ever(self):
        """Three times, and then the server's own words."""
        moment = problem(503, "StoreBusy", Retry_After="0")
        found, server = told(moment, moment, moment, call=lambda client: client.runs())
        assert (type(found), len(server.requests)) == (errors.StoreBusy, 3)

    @pytest.mark.parametrize("answer", [reply(404, "<h1>no</h1>", "text/html"), reply(200, "<h1>hi</h1>", "text/html")])
    def test_something_else_that_answers_there_is_told_from_a_server(self, answer):
        """PerdureError: check the address."""
        found, _ = told(answer, call=lambda client: client.system())
        assert (type(found), "address" in str(found)) == (PerdureError, True)
