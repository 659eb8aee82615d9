"""Who wants to be told of which events? Webhooks: a URL, types of events, and a secret that signs what is sent there.

The secret is kept as it is, in the store: a signature cannot be made with a hash. It is shown once, when the webhook is
made, and in no list.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from perdure.errors import InvalidInput
from perdure.store.contract import Document, Store
from perdure.triggers.egress import check_url
from perdure.triggers.records import add_record, all_records, change_record, drop_record, record
from perdure.triggers.signatures import Scheme, check_secret, new_secret
from perdure.values.clock import Clock, iso
from perdure.values.events import CATALOGUE
from perdure.values.json import decode

KIND = "webhook"
_TYPES_MOST = 50
_PATTERN = re.compile(r"[\w*.-]{1,200}")


@dataclass(frozen=True, slots=True)
class Webhook:
    """Somebody who is told."""

    id: str
    url: str
    #: event types; `*` stands for anything
    types: tuple[str, ...]
    #: of runs of this agent only
    agent: str | None
    secret: str = field(repr=False)
    created: int
    #: why it is told nothing any more, or None
    disabled: str | None

    def wants(self, agent: str, type: str) -> bool:
        """Whether it is to be told of such an event."""
        if self.disabled is not None or self.agent not in (None, agent):
            return False
        return any(fnmatchcase(type, pattern) for pattern in self.types)

    def as_json(self) -> dict[str, Any]:
        """The public form."""
        return {
            "id": self.id, "url": self.url, "types": list(self.types), "agent": self.agent,
            "created": iso(self.created), "disabled": self.disabled,
        }  # fmt: skip


class Webhooks:
    """The webhooks of a store."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def add(
        self, url: str, types: Sequence[str], *, agent: str | None = None, secret: str | None = None
    ) -> Webhook:
        """A new webhook; its secret is shown by whoever made it, or never. Raises InvalidInput."""
        check_url(url)
        _check_types(types)
        if secret is not None:
            check_secret(Scheme.STANDARD, secret)
        data = {
            "url": url, "types": list(dict.fromkeys(types)), "agent": agent, "secret": secret or new_secret(),
            "created": self._clock.now_us(), "disabled": None,
        }  # fmt: skip
        return _webhook(await add_record(self._store, KIND, f"wh_{secrets.token_hex(5)}", data))

    async def list(self) -> list[Webhook]:
        """All webhooks, by id."""
        return await all_records(self._store, KIND, _webhook)

    async def find(self, id: str) -> Webhook:
        """The webhook with this id. Raises NotFound."""
        return _webhook(await record(self._store, KIND, id))

    async def disable(self, id: str, why: str) -> Webhook:
        """Tell it nothing more. Raises NotFound."""
        return _webhook(await change_record(self._store, KIND, id, lambda data: {**data, "disabled": why}))

    async def remove(self, id: str) -> None:
        """Forget it; what is under way to it is dropped. Raises NotFound."""
        await drop_record(self._store, KIND, id)


def _webhook(document: Document) -> Webhook:
    data = decode(document.data)
    return Webhook(
        document.id,
        data["url"],
        tuple(map(str, data["types"])),
        data["agent"],
        data["secret"],
        data["created"],
        data["disabled"],
    )


def _check_types(types: Sequence[str]) -> None:
    if not 1 <= len(types) <= _TYPES_MOST:
        raise InvalidInput(f"name 1 to {_TYPES_MOST} types of events, such as run.failed or ask.*")
    for pattern in types:
        known = pattern.startswith("custom.") or any(fnmatchcase(type, pattern) for type in CATALOGUE)
        if not known or not _PATTERN.fullmatch(pattern):
            raise InvalidInput(
                f"no event is of type {pattern[:100]!r}; docs/events.md lists them, and custom.* are yours"
            )
