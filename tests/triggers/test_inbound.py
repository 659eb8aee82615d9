"""What webhooks of others do here: what was defined, once, and only if they are who they say."""

from __future__ import annotations

import hashlib
import hmac
import json

import pytest

from perdure.store.contract import RunFilter
from perdure.testing.clock import settle
from perdure.triggers.signatures import sign
from tests.triggers.worlds import play, served

BODY = json.dumps({"customer": {"id": 42}, "what": "tea"}).encode()


def signed(hook, site, body=BODY, id="msg_1", at=0):
    """Headers of a sender that knows the secret; `at` seconds from now."""
    time = site.clock.now_us() // 1_000_000 + at
    return {
        "webhook-id": id, "webhook-timestamp": str(time), "webhook-signature": sign(hook["secret"], id, time, body),
        "content-type": "application/json", "authorization": "",
    }  # fmt: skip


async def define(client, **about):
    """A new inbound webhook."""
    answer = await client.post("/v1/inbound", json={"name": "shop", "agent": "hearer", **about})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def send(client, headers, body=BODY, name="shop"):
    """What a sender sends; without the caller's key."""
    headers = {name: value for name, value in headers.items() if name != "authorization"}
    request = client.build_request("POST", f"/v1/hooks/{name}", content=body, headers=headers)
    del request.headers["authorization"]
    return await client.send(request)


def test_a_signed_body_starts_a_run_with_it():
    """And nothing else is needed."""

    async def scenario(site):
        async with served(site) as (client, runtime, _):
            hook = await define(client)
            assert hook["url"].endswith("/v1/hooks/shop")
            answer = await send(client, signed(hook, site))
            assert answer.status_code == 202, answer.text
            run = await runtime.run(answer.json()["run"])
            assert await run.result() == json.loads(BODY)

    play(scenario)


def test_sent_again_it_is_the_same_run():
    """With the time of its second sending, and its id."""

    async def scenario(site):
        async with served(site) as (client, _, _):
            hook = await define(client)
            first = await send(client, signed(hook, site))
            await site.clock.advance(120)
            again = await send(client, signed(hook, site))
            assert first.json() == again.json()
            other = await send(client, signed(hook, site, id="msg_2"))
            assert other.json() != first.json()
            changed = b'{"what": "coffee"}'
            assert (await send(client, signed(hook, site, changed), changed)).status_code == 409

    play(scenario)


def test_nobody_else_is_believed():
    """Tampered, old, early, with another's secret, unsigned, or for a webhook that there is not: all the same answer."""

    async def scenario(site):
        async with served(site, wrong_keys_at_once=100) as (client, _, _):
            hook, other = await define(client), await define(client, name="other")
            good = signed(hook, site)
            tries = [
                await send(client, good, BODY + b" "), await send(client, signed(hook, site, at=-301)),
                await send(client, signed(hook, site, at=301)), await send(client, signed(other, site)),
                await send(client, {**good, "webhook-id": "msg_9"}), await send(client, {"content-type": "application/json"}),
                await send(client, good, name="none"), await send(client, good, name="%2e%2e"),
            ]  # fmt: skip
            assert [answer.status_code for answer in tries] == [401] * len(tries)
            assert len({answer.text for answer in tries}) == 1
            assert await site.store.runs(RunFilter()) == []
            assert (await send(client, good)).status_code == 202

    play(scenario)


def test_guessing_is_slowed_down_and_the_right_one_still_passes():
    """Wrong signatures are counted by address."""

    async def scenario(site):
        async with served(site, wrong_keys_at_once=3, wrong_keys_per_second=0.1) as (client, _, _):
            hook = await define(client)
            statuses = [(await send(client, {}, b"{}")).status_code for _ in range(5)]
            assert statuses == [401, 401, 401, 429, 429]
            assert (await send(client, signed(hook, site))).status_code == 202

    play(scenario)


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 400), (b"no json", 400), (b'{"a": 1, "a": 2}', 400), (b"[" * 1000, 400), (b'"a text"', 422), (b"\xff", 400)],
)
def test_a_believed_body_is_still_read_with_care(body, status):
    """A signature says who, not what."""

    async def scenario(site):
        async with served(site) as (client, _, _):
            hook = await define(client)
            assert (await send(client, signed(hook, site, body), body)).status_code == status

    play(scenario)


def test_a_message_goes_to_the_session_that_the_body_names():
    """Once, however often it is sent."""

    async def scenario(site):
        async with served(site) as (client, runtime, _):
            about = {"agent": "listener", "action": "message", "topic": "word", "session_from": "/customer/id"}
            hook = await define(client, **about)
            run = await runtime.start_json("listener", None, session="42")
            for _ in range(3):
                answer = await send(client, signed(hook, site))
                assert (answer.status_code, answer.json()) == (202, {"run": None})
            await runtime.send("42", "word", "stop", agent="listener")
            assert await run.result() == [json.loads(BODY)]
            nameless = b'{"customer": {"id": true}}'
            assert (await send(client, signed(hook, site, nameless, "msg_2"), nameless)).status_code == 422

    play(scenario)


def test_a_message_that_was_cut_off_is_brought_after_all(monkeypatch):
    """The server died before it was sent: who sends again half a minute later has it sent; until then it is not done."""

    async def scenario(site):
        async with served(site) as (client, runtime, _):
            about = {"agent": "listener", "action": "message", "topic": "word", "session_from": "/customer/id"}
            hook = await define(client, **about)
            run = await runtime.start_json("listener", None, session="42")

            async def dies(*_, **__):
                raise RuntimeError("the end")

            monkeypatch.setattr(runtime, "send", dies)
            assert (await send(client, signed(hook, site))).status_code == 500
            monkeypatch.undo()
            assert (await send(client, signed(hook, site))).status_code == 409
            await site.clock.advance(31)
            assert (await send(client, signed(hook, site))).status_code == 202
            await runtime.send("42", "word", "stop", agent="listener")
            assert await run.result() == [json.loads(BODY)]

    play(scenario)


def test_a_session_of_the_body_is_the_run_s():
    """Found with a JSON pointer."""

    async def scenario(site):
        async with served(site) as (client, runtime, _):
            hook = await define(client, session_from="/customer/id")
            run = (await send(client, signed(hook, site))).json()["run"]
            assert (await runtime.find(run)).session == "42"

    play(scenario)


def test_github_and_stripe_are_understood():
    """Sent again, each is recognised by its body."""

    async def scenario(site):
        async with served(site) as (client, _, _):
            secret = "a secret that they told us"
            for scheme in ("github", "stripe"):
                await define(client, name=scheme, scheme=scheme, secret=secret)
            mac = hmac.new(secret.encode(), BODY, hashlib.sha256).hexdigest()
            github = {"x-hub-signature-256": f"sha256={mac}", "content-type": "application/json"}
            first = await send(client, github, name="github")
            copied = await send(client, {**github, "x-github-delivery": "another"}, name="github")
            assert first.status_code == 202
            assert first.json() == copied.json()
            time = site.clock.now_us() // 1_000_000
            mac = hmac.new(secret.encode(), f"{time}.".encode() + BODY, hashlib.sha256).hexdigest()
            stripe = {"stripe-signature": f"t={time},v1={mac}", "content-type": "application/json; charset=utf-8"}
            assert (await send(client, stripe, name="stripe")).status_code == 202
            await site.clock.advance(301)
            assert (await send(client, stripe, name="stripe")).status_code == 401

    play(scenario)


@pytest.mark.parametrize(
    "about",
    [{"scheme": "none"}, {"action": "message"}, {"action": "message", "topic": "t"}, {"topic": "t"}, {"name": "a/b"},
     {"session_from": "customer"}, {"secret": "short"}, {"action": "delete"}],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(about):
    """Above all: a webhook that nobody signs."""

    async def scenario(site):
        async with served(site) as (client, _, _):
            answer = await client.post("/v1/inbound", json={"name": "shop", "agent": "hearer", **about})
            assert answer.status_code == 422, answer.text

    play(scenario)


def test_secrets_are_shown_once():
    """In no list, and not after that."""

    async def scenario(site):
        async with served(site) as (client, _, _):
            hook = await define(client)
            told = (await client.post("/v1/webhooks", json={"url": "https://example.com/", "types": ["*"]})).json()
            assert told["secret"].startswith("whsec_")
            seen = "".join([
                (await client.get(path)).text for path in ("/v1/inbound", "/v1/webhooks", f"/v1/webhooks/{told['id']}")
            ])  # fmt: skip
            assert hook["name"] in seen
            assert told["id"] in seen
            assert hook["secret"] not in seen
            assert told["secret"] not in seen
            assert (await client.delete("/v1/inbound/shop")).status_code == 204
            assert (await send(client, signed(hook, site))).status_code == 401

    play(scenario)


def test_a_refused_body_can_be_sent_again():
    """What was refused was not taken."""

    async def scenario(site):
        async with served(site) as (client, _, _):
            hook = await define(client, agent="nobody")
            assert (await send(client, signed(hook, site))).status_code == 404
            await settle()
            assert (await send(client, signed(hook, site))).status_code == 404

    play(scenario)
