"""Schedules and webhooks over HTTP: what callers send and get."""

from __future__ import annotations

from typing import Any

from perdure.errors import StoreBusy
from perdure.gateway.access.keys import Keys
from tests.triggers.worlds import Receiver, play, served

HOURLY = {"name": "hourly", "agent": "noting", "cron": "0 * * * *", "input": "tea", "timezone": "Europe/Berlin"}


def test_a_schedule_over_http():
    """From its making to its end."""

    async def scenario(site):
        async with served(site) as (client, _, _):
            made = await client.post("/v1/schedules", json=HOURLY)
            assert made.status_code == 201, made.text
            assert made.json() == {
                **HOURLY, "session": None, "paused": False, "catch_up_seconds": 0.0, "last": None,
                "next": "2026-01-01T01:00:00.000000Z", "problem": None,
            }  # fmt: skip
            assert (await client.get("/v1/schedules")).json() == {"items": [made.json()], "next": None}
            assert (await client.post("/v1/schedules/hourly/pause")).json()["next"] is None
            assert (await client.post("/v1/schedules/hourly/resume", json={})).json()["paused"] is False
            started = await client.post("/v1/schedules/hourly/trigger")
            assert (started.status_code, started.json()["agent"]) == (201, "noting")
            await site.clock.advance(7300)
            past = {"since": "2025-12-31T23:00:00Z", "until": "2026-01-01T03:00:00+01:00"}
            filled = await client.post("/v1/schedules/hourly/backfill", json=past)
            runs = filled.json()["runs"]
            assert len(runs) == 4
            assert (await client.get("/v1/schedules/hourly")).json()["last"] == {
                "slot": "2026-01-01T02:00:00.000000Z", "run": runs[-1],
            }  # fmt: skip
            assert (await client.delete("/v1/schedules/hourly")).status_code == 204
            assert (await client.get("/v1/schedules/hourly")).status_code == 404

    play(scenario)


def test_what_cannot_be_is_refused():
    """Bad cron, zone, input, moments: 422; unknown: 404; a thousand and one slots: 422."""

    async def scenario(site):
        async with served(site) as (client, _, _):
            for wrong in ({"cron": "x"}, {"timezone": "Mars"}, {"input": {"x": 1}}, {"name": "a b"}, {"more": 1}):
                answer = await client.post("/v1/schedules", json={**HOURLY, **wrong})
                assert answer.status_code == 422, (wrong, answer.text)
            await client.post("/v1/schedules", json=HOURLY)
            for since in ("yesterday", "2026-01-01T00:00:00", "2025-01-01T00:00:00Z"):
                about = {"since": since, "until": "2026-01-01T00:00:00Z"}
                assert (await client.post("/v1/schedules/hourly/backfill", json=about)).status_code == 422
            for path in ("pause", "resume", "trigger"):
                assert (await client.post(f"/v1/schedules/none/{path}")).status_code == 404

    play(scenario)


def test_a_webhook_over_http():
    """From its making to its end, with its dead letters."""

    async def scenario(site):
        async with Receiver(204, 410).listening() as receiver, served(site) as (client, runtime, _):
            made = await client.post("/v1/webhooks", json={"url": receiver.url, "types": ["run.*"], "agent": "noting"})
            assert made.status_code == 201, made.text
            hook = made.json()
            assert (await client.post(f"/v1/webhooks/{hook['id']}/test")).json()["ok"] is True
            await runtime.start_json("noting", "tea")
            await runtime.idle()
            items = (await client.get(f"/v1/webhooks/{hook['id']}/deliveries")).json()["items"]
            assert len(items) == 3
            dead = await client.get(f"/v1/webhooks/{hook['id']}/deliveries", params={"status": "dead"})
            assert dead.json()["items"] == []
            retried = await client.post(f"/v1/webhooks/{hook['id']}/deliveries/{items[0]['id']}/retry")
            assert retried.status_code == 422
            assert "410" in (await client.get(f"/v1/webhooks/{hook['id']}")).json()["disabled"]
            assert (await client.delete(f"/v1/webhooks/{hook['id']}")).status_code == 204
            assert (await client.get("/v1/webhooks")).json()["items"] == []
            wrong: dict[str, Any]
            for wrong in ({"url": "file:///x"}, {"types": []}, {"types": ["x"]}, {"secret": "x"}):
                about = {"url": receiver.url, "types": ["*"], **wrong}
                assert (await client.post("/v1/webhooks", json=about)).status_code == 422

    play(scenario)


def test_a_secret_is_not_lost_with_a_look():
    """The webhook is there: whoever made it gets its secret, though the store fails right after."""

    async def scenario(site):
        async with served(site) as (client, _, _):
            documents, site.store.documents = site.store.documents, broken
            made = await client.post("/v1/webhooks", json={"url": "https://example.com/", "types": ["run.failed"]})
            site.store.documents = documents
            assert made.status_code == 201, made.text
            assert made.json()["secret"].startswith("whsec_")

    async def broken(*_, **__):
        raise StoreBusy("not now")

    play(scenario)


def test_only_admins_see_and_change_who_is_told():
    """Operators may pause and start schedules; viewers look at them."""

    async def scenario(site):
        async with served(site) as (client, _, _):
            await client.post("/v1/schedules", json=HOURLY)
            keys = Keys(site.store, site.clock)
            headers = {}
            for scope in ("viewer", "operator"):
                _, text = await keys.create(scope, [scope])
                headers[scope] = {"Authorization": f"Bearer {text}"}
            for scope, method, path, status in [
                ("operator", "GET", "/v1/webhooks", 403), ("operator", "GET", "/v1/inbound", 403),
                ("operator", "POST", "/v1/schedules", 403), ("operator", "DELETE", "/v1/schedules/hourly", 403),
                ("viewer", "GET", "/v1/schedules", 200), ("viewer", "POST", "/v1/schedules/hourly/pause", 403),
                ("operator", "POST", "/v1/schedules/hourly/pause", 200),
            ]:  # fmt: skip
                answer = await client.request(method, path, headers=headers[scope])
                assert answer.status_code == status, (scope, method, path)

    play(scenario)
