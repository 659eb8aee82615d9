"""How is somebody told? One POST: the event as a CloudEvent, signed as Standard Webhooks say.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
"""

from __future__ import annotations

from typing import Any

from perdure.errors import NoRetry, NotFound, PerdureError
from perdure.store.contract import Store
from perdure.triggers.egress import NoAnswer, Reach, Reply, Resolve, post
from perdure.triggers.signatures import sign
from perdure.triggers.webhooks import Webhook, Webhooks
from perdure.values.clock import Clock, iso
from perdure.values.json import digest, encode

TYPES = "dev.perdure."
_GONE = 410


class DeliveryFailed(PerdureError):  # noqa: N818 - named for what happened
    """It was not taken; it is tried again."""


class Courier:
    """Carries events to webhooks. reach: which addresses they may have, beside public ones. seconds: for one try."""

    def __init__(
        self, store: Store, clock: Clock, reach: Reach | None = None, *, seconds: float = 15.0,
        resolve: Resolve | None = None,
    ) -> None:  # fmt: skip
        self._store = store
        self._clock = clock
        self._webhooks = Webhooks(store, clock)
        self._reach = reach or Reach()
        self._seconds = seconds
        self._resolve = resolve

    async def deliver(self, webhook: str, run: str, seq: int) -> dict[str, Any]:
        """Tell a webhook of one event; {status}, or {skipped: why}. Raises DeliveryFailed, NoAnswer, AddressRefused."""
        try:
            to = await self._webhooks.find(webhook)
        except NotFound:
            return {"skipped": "the webhook was removed"}
        if to.disabled is not None:
            return {"skipped": f"the webhook is disabled: {to.disabled}"}
        id = f"msg_{digest([webhook, run, seq])}"
        reply = await self._send(to, id, await self._cloud_event(run, seq))
        if reply.status == _GONE:
            await self._webhooks.disable(webhook, f"its receiver answered {_GONE} Gone at {self._now()}")
            return {"status": reply.status, "disabled": True}
        if not 200 <= reply.status < 300:
            raise DeliveryFailed(f"the receiver answered {reply.status}: {reply.text[:200]!r}")
        return {"status": reply.status}

    async def test(self, webhook: str) -> dict[str, Any]:
        """Send an event that is none; {ok, status, text} or {ok, error}. Raises NotFound."""
        to, now = await self._webhooks.find(webhook), self._now()
        event = self._envelope(
            f"test/{self._clock.now_us()}", "webhook.test", webhook, "/webhooks", now, {"webhook": webhook}
        )
        try:
            reply = await self._send(to, f"msg_{digest([webhook, now])}", event)
        except (NoAnswer, NoRetry) as error:
            return {"ok": False, "status": None, "error": str(error)}
        return {"ok": 200 <= reply.status < 300, "status": reply.status, "text": reply.text[:500]}

    async def _send(self, to: Webhook, id: str, event: dict[str, Any]) -> Reply:
        body, timestamp = encode(event).encode(), self._clock.now_us() // 1_000_000
        headers = {
            "Content-Type": "application/cloudevents+json; charset=utf-8", "User-Agent": "Perdure",
            "webhook-id": id, "webhook-timestamp": str(timestamp),
            "webhook-signature": sign(to.secret, id, timestamp, body),
        }  # fmt: skip
        return await post(to.url, headers, body, reach=self._reach, seconds=self._seconds, resolve=self._resolve)

    async def _cloud_event(self, run: str, seq: int) -> dict[str, Any]:
        row, found = await self._store.run(run), await self._store.events(run, seq - 1, 1)
        if row is None or not found or found[0].seq != seq:
            # Where a store is several databases, this run may have come here before the one it tells of has arrived.
            raise DeliveryFailed(f"event {seq} of {run} is not there (yet)")
        [event] = found
        return self._envelope(
            f"{run}/{seq}", event.type, run, f"/agents/{row.agent}", event.time, event.as_json()
        )  # fmt: skip

    def _envelope(self, id: str, type: str, subject: str, source: str, time: str, data: Any) -> dict[str, Any]:
        return {
            "specversion": "1.0", "id": id, "source": source, "type": f"{TYPES}{type}", "subject": subject, "time": time,
            "datacontenttype": "application/json", "data": data,
        }  # fmt: skip

    def _now(self) -> str:
        return iso(self._clock.now_us())
