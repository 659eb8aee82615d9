"""Keys: who may call, and what they may do."""

from __future__ import annotations

from perdure.gateway import schemas
from perdure.gateway.access.principal import Scope
from perdure.gateway.endpoint import Answer, Call, Section

keys = Section("Keys", "API keys. The store keeps only their hashes: a key's text is shown once, when it is made.")


@keys.get("/v1/keys", scope=Scope.ADMIN, answers=schemas.KeyList)
async def list_keys(call: Call) -> Answer:
    """All keys that have not expired."""
    return Answer({"items": [key.as_json() for key in await call.gateway.access.keys.list()], "next": None})


@keys.post("/v1/keys", scope=Scope.ADMIN, body=schemas.KeyBody, answers={201: schemas.NewKey})
async def create_key(call: Call) -> Answer:
    """A new key. Scopes: viewer, operator, approver, admin."""
    body = call.body
    key, text = await call.gateway.access.keys.create(body.name, body.scopes, body.expires_seconds)
    return Answer({**key.as_json(), "key": text}, 201)


@keys.delete("/v1/keys/{key}", scope=Scope.ADMIN, answers={204: None}, problems=(404,))
async def revoke_key(call: Call) -> Answer:
    """Refuse a key from now on; streams that it holds open end within five seconds."""
    await call.gateway.access.keys.revoke(call.path["key"])
    return Answer(None, 204)


@keys.post(
    "/v1/keys/{key}/rotate", scope=Scope.ADMIN, body=schemas.Nothing, body_optional=True, answers=schemas.NewKey,
    problems=(404,),
)  # fmt: skip
async def rotate_key(call: Call) -> Answer:
    """Another text for a key; the one before is refused from now on."""
    key, text = await call.gateway.access.keys.rotate(call.path["key"])
    return Answer({**key.as_json(), "key": text})
