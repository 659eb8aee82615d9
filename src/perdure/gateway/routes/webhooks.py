"""Webhooks: who is told of what happens."""

from __future__ import annotations

import logging

from perdure.errors import StoreError
from perdure.gateway import schemas, trigger_schemas
from perdure.gateway.access.principal import Scope
from perdure.gateway.endpoint import Answer, Call, Section

log = logging.getLogger("perdure.gateway")

webhooks = Section(
    "Webhooks", "Events of runs, POSTed as CloudEvents with the signature of Standard Webhooks; none is forgotten."
)


@webhooks.get("/v1/webhooks", scope=Scope.ADMIN, answers=trigger_schemas.WebhookList)
async def list_webhooks(call: Call) -> Answer:
    """All webhooks, without their secrets."""
    return Answer({"items": [hook.as_json() for hook in await call.gateway.triggers.webhooks.list()], "next": None})


@webhooks.post(
    "/v1/webhooks", scope=Scope.ADMIN, body=trigger_schemas.WebhookBody, answers={201: trigger_schemas.NewWebhook}
)  # fmt: skip
async def add_webhook(call: Call) -> Answer:
    """A new webhook. Its secret, with which the receiver checks signatures, is shown this once."""
    body: trigger_schemas.WebhookBody = call.body
    added = await call.gateway.triggers.webhooks.add(body.url, body.types, agent=body.agent, secret=body.secret)
    try:
        await call.gateway.triggers.look()
    except StoreError as error:  # it is there, and known within seconds; its secret must not be lost
        log.warning("webhook %s is not told of anything yet: %s", added.id, error)
    return Answer({**added.as_json(), "secret": added.secret}, 201)


@webhooks.get("/v1/webhooks/{webhook}", scope=Scope.ADMIN, answers=trigger_schemas.Webhook, problems=(404,))
async def one_webhook(call: Call) -> Answer:
    """One webhook, without its secret."""
    return Answer((await call.gateway.triggers.webhooks.find(call.path["webhook"])).as_json())


@webhooks.delete("/v1/webhooks/{webhook}", scope=Scope.ADMIN, answers={204: None}, problems=(404,))
async def remove_webhook(call: Call) -> Answer:
    """Tell it nothing more; what is on its way is dropped."""
    await call.gateway.triggers.webhooks.remove(call.path["webhook"])
    await call.gateway.triggers.look()
    return Answer(None, 204)


@webhooks.post(
    "/v1/webhooks/{webhook}/test", scope=Scope.ADMIN, body=schemas.Nothing, body_optional=True,
    answers=trigger_schemas.Trial, problems=(404,),
)  # fmt: skip
async def try_webhook(call: Call) -> Answer:
    """Send it an event of type `dev.perdure.webhook.test` now, once, and tell what it answered."""
    return Answer(await call.gateway.triggers.courier.test(call.path["webhook"]))


@webhooks.get(
    "/v1/webhooks/{webhook}/deliveries", scope=Scope.ADMIN, query=trigger_schemas.DeliveryQuery,
    answers=trigger_schemas.DeliveryList, problems=(404,),
)  # fmt: skip
async def list_deliveries(call: Call) -> Answer:
    """Deliveries, newest first; `status=dead`: those whose tries are used up, and that nobody has tried again."""
    query: trigger_schemas.DeliveryQuery = call.query
    dead = query.status == "dead"
    found = await call.gateway.triggers.deliveries.list(call.path["webhook"], dead=dead, limit=query.limit)
    return Answer({"items": found, "next": None})


@webhooks.post(
    "/v1/webhooks/{webhook}/deliveries/{delivery}/retry", scope=Scope.ADMIN, body=schemas.Nothing, body_optional=True,
    answers={201: trigger_schemas.Retried}, problems=(404, 409),
)  # fmt: skip
async def retry_delivery(call: Call) -> Answer:
    """Deliver a dead one again, with all its tries. Asked twice, once."""
    id = await call.gateway.triggers.deliveries.retry(call.path["webhook"], call.path["delivery"])
    return Answer({"id": id}, 201)
