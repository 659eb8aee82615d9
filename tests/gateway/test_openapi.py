"""The OpenAPI document: it tells the truth. A machine tries everything it says, and everything it does not."""

from __future__ import annotations

import asyncio
import threading

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from perdure.gateway.openapi import describe
from perdure.gateway.routes import SECTIONS
from tests.gateway.servers import TOKEN, play, served

schema = schemathesis.openapi.from_dict(describe(SECTIONS)).exclude(path="/v1/changes")  # that one never ends


#: What these take has rules that no schema says: cron expressions, addresses, secrets; a link that was used is gone (410).
SAID_IN_WORDS = {"/v1/schedules", "/v1/webhooks", "/v1/inbound", "/a/{token}", "/v1/schedules/{schedule}/backfill"}


@schema.hook("map_query")
def quick(context, query):
    """Nobody waits here."""
    if query and isinstance(query.get("wait"), (int, float)) and 0 < query["wait"] <= 300:
        query["wait"] = 0
    return query


@pytest.fixture(scope="module")
def url():
    """Of a server that is up, in a thread of its own, for as long as this file's tests run."""
    ready, found = threading.Event(), []
    loop, stopped = asyncio.new_event_loop(), asyncio.Event()

    async def main():
        async with served(on_socket=True, requests_at_once=10**9, wrong_keys_at_once=10**9) as server:
            for name, input in (("listener", None), ("buyer", ["pen"]), ("asker", "How many?"), ("adder", {"a": 1})):
                await server.start(name, input, session="s")
            found.append(server.url)
            ready.set()
            await stopped.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()))
    thread.start()
    ready.wait(30)
    yield found[0]
    loop.call_soon_threadsafe(stopped.set)
    thread.join(30)
    loop.close()


@schema.parametrize()
@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@pytest.mark.timeout(300)
def test_nothing_it_says_is_untrue(case, url):
    """No 5xx, no undocumented answer, whatever is sent."""
    refused = [positive_data_acceptance] if case.path in SAID_IN_WORDS else []
    case.call_and_validate(
        base_url=url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=20, excluded_checks=refused
    )  # fmt: skip


def test_every_operation_is_described():
    """With words, a scope, and the problems that it may have."""

    async def scenario(server):
        found = (await server.client.get("/openapi.json", headers={"Authorization": ""})).json()
        assert found["openapi"] == "3.1.0"
        operations = [operation for path in found["paths"].values() for operation in path.values()]
        assert len(operations) > 40
        assert len({operation["operationId"] for operation in operations}) == len(operations)
        for operation in operations:
            assert operation["summary"].endswith("."), operation["operationId"]
            assert {"400", "429"} <= set(operation["responses"])
        page = await server.client.get("/docs", headers={"Authorization": ""})
        for path in found["paths"]:
            assert path in page.text

    play(scenario)
