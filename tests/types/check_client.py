"""Promises of the Client's types, checked by mypy in `make types`; nothing here runs.

Each `type: ignore` is a call that must be refused: mypy reports it as unused when it is not.
"""

from __future__ import annotations

from typing import Any, assert_type

from perdure import Client, Context, Run, RunHandle, Runtime, agent
from perdure.client.client import RemoteRun
from perdure.client.service import Handle, Service


@agent
async def buyer(ctx: Context, items: list[str], limit: int) -> dict[str, str]:
    return {item: str(limit) for item in items}


def both_are_services(rt: Runtime, client: Client) -> list[Service]:
    return [rt, client]


def both_give_handles(here: RunHandle[int], there: RemoteRun[int]) -> list[Handle[int]]:
    return [here, there]


async def asking_either(service: Service) -> None:
    assert_type(await service.find("run"), Run)
    run = await service.start(buyer, ["pen"], 3, session="acme")
    assert_type(await run.result(), dict[str, str])
    await service.start(buyer, ["pen"], "three")  # type: ignore[misc]
    async for event in service.events(run.id):
        assert_type(event.seq, int)


async def starting(client: Client) -> None:
    run = await client.start(buyer, ["pen"], 3, session="acme", idempotency_key="po-1")
    assert_type(run, RemoteRun[dict[str, str]])
    assert_type(await client.start("buyer", ["pen"], session="acme"), RemoteRun[Any])
    assert_type(await client.start("buyer"), RemoteRun[Any])
    await client.start(buyer, ["pen"], "three")  # type: ignore[call-arg, misc]
    await client.start("buyer", nonsense=1)  # type: ignore[call-overload]
