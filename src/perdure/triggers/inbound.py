"""What do webhooks of others do here? Start a run, or bring a message to a session: what was defined, with the body as data.

A delivery is believed for its signature alone, and acts once: what identifies it becomes the idempotency key of its run. A
message has no such key, so a note is kept that it was brought; should the server die between the two, a sender that tries
again brings it twice.

Secrets are kept as they are, in the store: no signature can be checked with a hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from perdure.errors import InvalidInput, NotFound, SessionBusy
from perdure.runtime import Runtime
from perdure.store.contract import Document
from perdure.triggers.records import add_record, all_records, check_name, drop_record, record
from perdure.triggers.signatures import Scheme, WrongSignature, check_secret, new_secret, verify
from perdure.values.clock import iso
from perdure.values.effects import Busy
from perdure.values.json import decode, encode_given

KIND = "inbound"
_BROUGHT = "inbound-brought"
#: For how long a message is known to have been brought: senders try again for a day or two.
_KNOWN_US = 30 * 86_400_000_000
#: For how long nobody else brings a message that somebody is bringing.
_BRINGING_US = 30_000_000

Action = Literal["start", "message"]


@dataclass(frozen=True, slots=True)
class Inbound:
    """What a webhook of somebody else does here."""

    name: str
    agent: str
    action: Action
    #: of the message
    topic: str | None
    #: JSON pointer: where in the body the session's key stands; None for runs of their own
    session_from: str | None
    scheme: Scheme
    secret: str = field(repr=False)
    created: int

    def as_json(self) -> dict[str, Any]:
        """The public form."""
        return {
            "name": self.name, "agent": self.agent, "action": self.action, "topic": self.topic,
            "session_from": self.session_from, "scheme": self.scheme, "created": iso(self.created),
        }  # fmt: skip


class Inbounds:
    """The inbound webhooks of a Runtime's store."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._store = runtime.store
        self._clock = runtime.kernel.clock

    async def add(
        self, name: str, agent: str, *, action: Action = "start", topic: str | None = None,
        session_from: str | None = None, scheme: Scheme = Scheme.STANDARD, secret: str | None = None,
    ) -> Inbound:  # fmt: skip
        """A new one; its secret is shown by whoever made it, or never. Raises InvalidInput."""
        if (action == "message") != (topic is not None):
            raise InvalidInput("a message has a topic, and a run that is started has none")
        if action == "message" and session_from is None:
            raise InvalidInput(
                "a message goes to a session: say with session_from where the body names it, as /customer/id"
            )
        if session_from is not None and not session_from.startswith("/"):
            raise InvalidInput(f"session_from is a JSON pointer such as /customer/id, not {session_from[:100]!r}")
        secret = secret or new_secret()
        check_secret(scheme, secret)
        data = {
            "agent": agent, "action": action, "topic": topic, "session_from": session_from, "scheme": scheme,
            "secret": secret, "created": self._clock.now_us(),
        }  # fmt: skip
        return _inbound(await add_record(self._store, KIND, check_name(KIND, name), data))

    async def list(self) -> list[Inbound]:
        """All of them, by name."""
        return await all_records(self._store, KIND, _inbound)

    async def remove(self, name: str) -> None:
        """Believe it no more. Raises NotFound."""
        await drop_record(self._store, KIND, name)

    async def receive(
        self, name: str, headers: Mapping[bytes, bytes], body: bytes, read: Callable[[bytes], Any]
    ) -> str | None:
        """Do what a delivery asks for; the id of its run. `read` makes a value of a body that is believed.

        Raises WrongSignature (also where there is no such webhook: that is nobody's business), and what starting raises.
        """
        try:
            hook = _inbound(await record(self._store, KIND, name))
        except NotFound:
            raise WrongSignature("its name") from None
        id = verify(hook.scheme, hook.secret, headers, body, self._clock.now_us())
        value = read(body)
        session = None if hook.session_from is None else _session(value, hook.session_from)
        key = f"hook:{name}:{hashlib.sha256(id.encode()).hexdigest()[:32]}"
        if hook.action == "start":
            return await self._start(hook, value, session, key)
        assert hook.topic is not None
        assert session is not None
        await self._bring(hook.agent, session, hook.topic, value, key)
        return None

    async def _start(self, hook: Inbound, value: Any, session: str | None, key: str) -> str:
        agent = self._runtime.agents.latest(hook.agent)
        # Nothing could tell a steering message from its repetition: it waits for its turn instead.
        busy = Busy.QUEUE if agent is not None and agent.busy is Busy.STEER else None
        return (await self._runtime.start_json(hook.agent, value, session=session, idempotency_key=key, busy=busy)).id

    async def _bring(self, agent: str, session: str, topic: str, value: Any, key: str) -> None:
        encode_given(value)
        # Its first version says that somebody is bringing the message, its second that it was brought.
        note = await self._store.put_document(Document(_BROUGHT, key, "{}", 0, self._clock.now_us() + _BRINGING_US))
        if note is None:
            there = await self._store.document(_BROUGHT, key)
            if there is None or there.version == 1:
                raise SessionBusy("this very delivery is being taken just now; send it again in half a minute")
            return
        await self._runtime.send(session, topic, value, agent=agent)
        await self._store.put_document(replace(note, expires=self._clock.now_us() + _KNOWN_US))


def _session(value: Any, pointer: str) -> str:
    """What stands there (RFC 6901), if it can be a session's key."""
    found = value
    for part in pointer.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict):
            found = found.get(name)
        elif isinstance(found, list) and name.isdecimal() and len(name) < 10 and int(name) < len(found):
            found = found[int(name)]
        else:
            found = None
    if isinstance(found, int) and not isinstance(found, bool):
        found = str(found)
    if not isinstance(found, str) or not 1 <= len(found) <= 1000:
        raise InvalidInput(f"the body has no session's key (a text or a whole number) at {pointer}")
    return found


def _inbound(document: Document) -> Inbound:
    data = decode(document.data)
    return Inbound(
        document.id, data["agent"], data["action"], data["topic"], data["session_from"], Scheme(data["scheme"]),
        data["secret"], data["created"],
    )  # fmt: skip
