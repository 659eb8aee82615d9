"""Inbound webhooks: what others' webhooks start here, with a signature instead of a key."""

from __future__ import annotations

from functools import partial
from typing import Any

from perdure.gateway import trigger_schemas
from perdure.gateway.access.principal import Scope
from perdure.gateway.body import read_json
from perdure.gateway.endpoint import Answer, Call, Section
from perdure.gateway.problems import Problem
from perdure.triggers.signatures import WrongSignature

inbound = Section("Inbound webhooks", "Others' webhooks that start runs or bring messages.")


@inbound.get("/v1/inbound", scope=Scope.ADMIN, answers=trigger_schemas.InboundList)
async def list_inbound(call: Call) -> Answer:
    """All inbound webhooks, without their secrets."""
    return Answer({"items": [hook.as_json() for hook in await call.gateway.triggers.inbound.list()], "next": None})


@inbound.post(
    "/v1/inbound", scope=Scope.ADMIN, body=trigger_schemas.InboundBody, answers={201: trigger_schemas.NewInbound}
)  # fmt: skip
async def add_inbound(call: Call) -> Answer:
    """A new inbound webhook. Its secret is shown this once."""
    body: trigger_schemas.InboundBody = call.body
    added = await call.gateway.triggers.inbound.add(
        body.name, body.agent, action=body.action, topic=body.topic, session_from=body.session_from,
        scheme=body.scheme, secret=body.secret,
    )  # fmt: skip
    url = f"{call.gateway.settings.public_url}/v1/hooks/{added.name}"
    return Answer({**added.as_json(), "secret": added.secret, "url": url}, 201)


@inbound.delete("/v1/inbound/{inbound}", scope=Scope.ADMIN, answers={204: None}, problems=(404,))
async def remove_inbound(call: Call) -> Answer:
    """Believe it no more."""
    await call.gateway.triggers.inbound.remove(call.path["inbound"])
    return Answer(None, 204)


@inbound.post(
    "/v1/hooks/{hook}", scope=None, body=bytes, answers={202: trigger_schemas.Taken}, problems=(401, 404, 409)
)  # fmt: skip
async def take_hook(call: Call) -> Answer:
    """Where others send to: the body, signed with the webhook's secret. Sent again, it changes nothing."""
    read = partial(_value, call)
    try:
        run = await call.gateway.triggers.inbound.receive(call.path["hook"], call.headers, call.body, read)
    except WrongSignature:
        address = (call.connection.get("client") or ("?",))[0]
        call.gateway.access.count_wrong(address)
        raise Problem(
            401, "there is no such webhook, or its signature is wrong, too old or missing: check name, secret and clock",
            error="Unauthorized",
        ) from None  # fmt: skip
    return Answer({"run": run}, 202)


def _value(call: Call, body: bytes) -> Any:
    kind = (call.header("content-type") or "").partition(";")[0].strip().lower()
    return read_json(body, "application/json" if kind.endswith("+json") else kind)
