"""Approval links: one decision about one exact action, by whoever was given the link."""

from __future__ import annotations

import asyncio
import html
import re
from dataclasses import replace

import pytest

from perdure.gateway.access.keys import Keys
from perdure.testing.clock import settle
from perdure.values.json import decode, encode
from tests.triggers.worlds import ORIGIN, play, served

FORM = "application/x-www-form-urlencoded"


async def ask(runtime, account="<b>ACME</b>", euros=50):
    """A run that waits for consent, and its ask."""
    run = await runtime.start_json("payer", {"account": account, "euros": euros})
    await settle()
    [waiting] = await runtime.inbox(run=run.id)
    return run, waiting


async def link(client, waiting, **about):
    """The path of a new link."""
    answer = await client.post(f"/v1/asks/{waiting.id}/links", json=about)
    assert answer.status_code == 201, answer.text
    return answer.json()["url"].removeprefix("http://127.0.0.1:8420")


def browser(client, method, path, **options):
    """What a browser without any key sends."""
    request = client.build_request(method, path, **options)
    del request.headers["authorization"]
    return client.send(request)


def decide(client, path, decision="approve", origin=ORIGIN, **more):
    """The page's form."""
    headers = {} if origin is None else {"Origin": origin, "Sec-Fetch-Site": "same-origin"}
    return browser(client, "POST", path, data={"decision": decision, **more}, headers=headers)


def test_one_tap_approves_the_action_as_the_one_it_was_made_for():
    """The page shows what would be done, as text; the journal says who did it."""

    async def scenario(site):
        async with served(site) as (client, runtime, _):
            run, waiting = await ask(runtime)
            path = await link(client, waiting, to="kim@acme")
            page = await browser(client, "GET", path)
            assert page.status_code == 200
            assert "&lt;b&gt;ACME&lt;/b&gt;" in page.text
            assert "<b>ACME" not in page.text
            assert "50" in page.text
            assert "<script" not in page.text
            done = await decide(client, path, note="fine by me")
            assert done.status_code == 200
            assert "approved" in done.text
            assert await run.result() == "50 to <b>ACME</b>"
            [granted] = [event.data for event in await runtime.journal(run.id) if event.type == "approval.granted"]
            assert (granted["by"], granted["note"]) == ("kim@acme (by link of admin)", "fine by me")

    play(scenario)


def test_the_action_is_changed_before_it_is_approved():
    """On the page; what is done is what was approved, and what does not fit leaves the link as good as before."""

    async def scenario(site):
        async with served(site) as (client, runtime, _):
            run, waiting = await ask(runtime)
            path = await link(client, waiting, edit=True)
            fields = {"arg.account": "<b>ACME</b>", "arg.euros": "a lot"}
            for wrong in (fields, {**fields, "arg.euros": '"9"'}, {**fields, "arg.euros": "9", "arg.more": "1"}):
                refused = await decide(client, path, **wrong)
                assert refused.status_code == 422, refused.text
            done = await decide(client, path, **{**fields, "arg.euros": "9"})
            assert "approved with your changes" in done.text
            await settle()
            granted = [event.data for event in await runtime.journal(run.id) if event.type == "approval.granted"]
            assert granted[0]["args"] == {"account": "<b>ACME</b>", "euros": 9}

    play(scenario)


def test_a_link_that_allows_no_changes_is_for_the_action_as_it_is():
    """Its page shows no fields, and whoever sends them all the same is refused; the link stays good."""

    async def scenario(site):
        async with served(site) as (client, runtime, _):
            run, waiting = await ask(runtime)
            path = await link(client, waiting)
            assert "arg." not in (await browser(client, "GET", path)).text
            refused = await decide(client, path, **{"arg.euros": "5000"})
            assert refused.status_code == 422
            assert "allows changes" in refused.text
            assert (await decide(client, path, **{"arg.euros": "50"})).status_code == 200
            assert await run.result() == "50 to <b>ACME</b>"

    play(scenario)


@pytest.mark.parametrize("account", ["\nDear Kim,\r\nhello", "a\rb\n", "\n\n", "", "</textarea>&amp;\n", "\0"])
def test_what_nobody_touched_is_no_change(account):
    """A browser drops the first line end of a field and has its own for the others."""

    async def scenario(site):
        async with served(site) as (client, runtime, _):
            run, waiting = await ask(runtime, account)
            path = await link(client, waiting, edit=True)
            page = (await browser(client, "GET", path)).text
            held = page.split('name="arg.account" rows="1">')[1].split("</textarea>")[0]
            held = re.sub("\r\n?", "\n", held).removeprefix("\n").replace("\0", "\ufffd")
            done = await decide(client, path, **{"arg.account": html.unescape(held).replace("\n", "\r\n")})
            assert "with your changes" not in done.text
            assert await run.result() == f"50 to {account}"

    play(scenario)


def test_days_later_on_a_phone():
    """The process was not even running in between: a link that is good for a week decides on the fourth day."""

    async def scenario(site):
        async with served(site) as (client, runtime, _):
            run, waiting = await ask(runtime)
            path = await link(client, waiting, expires_seconds=7 * 86_400, edit=True)
        await site.clock.advance(3 * 86_400)
        async with served(site) as (client, runtime, _):
            assert (await browser(client, "GET", path)).status_code == 200
            await decide(client, path, **{"arg.euros": "10"})
            assert await (await runtime.run(run.id)).result(timeout=10)
            granted = [event.data for event in await runtime.journal(run.id) if event.type == "approval.granted"]
            assert granted[0]["args"]["euros"] == 10

    play(scenario)


def test_one_tap_rejects_it():
    """With the note that the agent sees; who made the link stands for whom it was made for, if nobody was named."""

    async def scenario(site):
        async with served(site) as (client, runtime, _):
            run, waiting = await ask(runtime)
            assert (await decide(client, await link(client, waiting), "reject", note="no")).status_code == 200
            await settle()
            [refused] = [event.data for event in await runtime.journal(run.id) if event.type == "approval.rejected"]
            assert (refused["by"], refused["note"]) == ("admin (by link)", "no")

    play(scenario)


def test_looking_changes_nothing():
    """Programs look at links to show what is behind them: ten GETs and HEADs later it is as good as new."""

    async def scenario(site):
        async with served(site) as (client, runtime, _):
            run, waiting = await ask(runtime)
            path = await link(client, waiting)
            for method in ("GET", "HEAD") * 5:
                assert (await browser(client, method, path)).status_code == 200
            await settle()
            assert (await runtime.find_ask(waiting.id)).status == "open"
            assert (await decide(client, path)).status_code == 200
            assert await run.result()

    play(scenario)


def test_a_link_is_good_once():
    """Also for two who tap at the same moment: one of them decides."""

    async def scenario(site):
        async with served(site) as (client, runtime, _):
            _, waiting = await ask(runtime)
            path = await link(client, waiting)
            taps = await asyncio.gather(decide(client, path), decide(client, path, "reject"))
            assert sorted(answer.status_code for answer in taps) == [200, 410]
            assert await site.store.documents("link") == []
            assert (await decide(client, path)).status_code == 410
            assert (await browser(client, "GET", path)).status_code == 410

    play(scenario)


def test_a_link_of_what_is_decided_is_dead():
    """It says by whom; of two links for one action, one is good."""

    async def scenario(site):
        async with served(site) as (client, runtime, _):
            _, waiting = await ask(runtime)
            first, second = await link(client, waiting), await link(client, waiting)
            await decide(client, first, "reject")
            page = await browser(client, "GET", second)
            assert page.status_code == 410
            assert "rejected by admin" in page.text
            assert (await decide(client, second)).status_code == 410
            assert (await client.post(f"/v1/asks/{waiting.id}/links", json={})).status_code == 409

    play(scenario)


def test_an_expired_link_is_dead():
    """To the second."""

    async def scenario(site):
        async with served(site) as (client, runtime, _):
            _, waiting = await ask(runtime)
            path = await link(client, waiting, expires_seconds=60)
            await site.clock.advance(59)
            assert (await browser(client, "GET", path)).status_code == 200
            await site.clock.advance(2)
            assert (await browser(client, "GET", path)).status_code == 410
            assert (await decide(client, path)).status_code == 410
            assert (await runtime.find_ask(waiting.id)).status == "open"

    play(scenario)


def test_a_changed_action_is_not_what_the_link_is_for():
    """Whoever changed it, and whatever the ask says of itself."""

    async def scenario(site):
        async with served(site) as (client, runtime, _):
            _, waiting = await ask(runtime)
            path = await link(client, waiting)
            detail = decode(waiting.detail)
            detail["args"]["euros"] = 5_000
            look = site.store.ask

            async def changed(id):
                found = await look(id)
                return None if found is None else replace(found, detail=encode(detail))

            site.store.ask = changed
            assert (await browser(client, "GET", path)).status_code == 410
            assert (await decide(client, path)).status_code == 410
            site.store.ask = look
            assert (await runtime.find_ask(waiting.id)).status == "open"

    play(scenario)


@pytest.mark.parametrize(
    "origin", [None, "null", "http://evil.com", "http://127.0.0.1.evil.com", "https://localhost:1"]
)
def test_only_the_page_itself_decides(origin):
    """Another site's page, or whoever does not say where he comes from, does not; and the link stays good."""

    async def scenario(site):
        async with served(site) as (client, runtime, _):
            run, waiting = await ask(runtime)
            path = await link(client, waiting)
            assert (await decide(client, path, origin=origin)).status_code == 403
            foreign = {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"}
            sent = browser(client, "POST", path, data={"decision": "approve"}, headers=foreign)
            assert (await sent).status_code == 403
            assert (await runtime.find_ask(waiting.id)).status == "open"
            assert (await decide(client, path)).status_code == 200
            assert await run.result()

    play(scenario)


def test_its_page_may_say_where_its_form_comes_from():
    """With `no-referrer`, as all other pages have it, browsers send `Origin: null` with a form."""

    async def scenario(site):
        async with served(site) as (client, runtime, _):
            _, waiting = await ask(runtime)
            page = await browser(client, "GET", await link(client, waiting))
            assert page.headers["referrer-policy"] == "same-origin"
            assert page.headers["cache-control"] == "no-store"
            assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
            assert page.headers["x-frame-options"] == "DENY"
            style = await browser(client, "GET", "/a/style.css")
            assert style.headers["content-type"].startswith("text/css")
            assert "<style" not in page.text
            assert "style=" not in page.text

    play(scenario)


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [("decision=maybe", FORM, 422), ("", FORM, 422), ("decision=approve&args=x", FORM, 422),
     ("note=" + "x" * 10_001 + "&decision=approve", FORM, 422), ("decision=approve&note=%ff", FORM, 422),
     ('{"decision":"approve"}', "application/json", 415), ("decision=approve", "text/plain", 415)],
)  # fmt: skip
def test_only_its_form_is_understood(body, kind, status):
    """And what is not, uses nothing up."""

    async def scenario(site):
        async with served(site) as (client, runtime, _):
            _, waiting = await ask(runtime)
            path = await link(client, waiting)
            answer = await browser(client, "POST", path, content=body, headers={"Origin": ORIGIN, "content-type": kind})
            assert answer.status_code == status
            assert (await decide(client, path)).status_code == 200

    play(scenario)


def test_what_is_shown_cannot_turn_or_hide_what_stands_beside_it():
    """Characters that change the direction of text, or are not seen, are written out."""

    async def scenario(site):
        async with served(site) as (client, runtime, _):
            _, waiting = await ask(runtime, account="a\u202eb\u200bc\x00\"'<&")
            page = await browser(client, "GET", await link(client, waiting))
            assert "a\\u202eb\\u200bc\\u0000&quot;&#x27;&lt;&amp;" in page.text

    play(scenario)


def test_the_store_holds_no_link():
    """Only its hash: who reads the database decides nothing."""

    async def scenario(site):
        async with served(site) as (client, runtime, _):
            _, waiting = await ask(runtime)
            token = (await link(client, waiting)).rpartition("/")[2]
            [document] = await site.store.documents("link")
            assert token not in document.id + document.data
            assert (await browser(client, "GET", f"/a/{document.id}")).status_code == 410

    play(scenario)


def test_links_are_made_by_those_who_may_decide():
    """For approvals only, and not for ever."""

    async def scenario(site):
        async with served(site) as (client, runtime, _):
            _, waiting = await ask(runtime)
            _, viewer = await Keys(site.store, site.clock).create("v", ["viewer", "operator"])
            headers = {"Authorization": f"Bearer {viewer}"}
            assert (await client.post(f"/v1/asks/{waiting.id}/links", json={}, headers=headers)).status_code == 403
            assert (await client.post("/v1/asks/none:1/links", json={})).status_code == 404
            forever = {"expires_seconds": 10**9}
            assert (await client.post(f"/v1/asks/{waiting.id}/links", json=forever)).status_code == 422

    play(scenario)


def test_guessing_links_is_slowed_down():
    """As guessing keys is."""

    async def scenario(site):
        async with served(site, wrong_keys_at_once=3, wrong_keys_per_second=0.1) as (client, _, _):
            answers = [(await browser(client, "GET", f"/a/{'x' * 43}")).status_code for _ in range(5)]
            assert answers == [410, 410, 410, 429, 429]

    play(scenario)
