"""How can somebody without an account decide? With a link that is good for one decision about one exact action.

The link holds a random token, and the store only its hash. It is used up by the decision, not by being looked at: mail
programs and messengers look at links to show what is behind them. It dies with its time, with the decision by others, and
with the action: what it consents to is the action whose hash it was made for, or, if its maker allows that, the same
action with arguments that are changed first.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import Any

from perdure.agents.approval import action_hash
from perdure.errors import AlreadySettled, InvalidInput, NotFound
from perdure.governance.answers import check_answer
from perdure.runtime import Runtime
from perdure.store.contract import Ask, Document
from perdure.values.clock import iso
from perdure.values.json import decode, encode

KIND = "link"
DEFAULT_SECONDS = 86_400.0
LONGEST_SECONDS = 30 * 86_400.0
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Link:
    """A link that is good, and what it is about."""

    ask: Ask
    action: str
    args: Any
    #: for whom, and by whom it was made: what the journal keeps as `by`
    by: str
    #: the arguments may be changed before it is approved
    edit: bool
    expires: int
    id: str
    version: int


class DeadLink(NotFound):
    """It was used, has expired, is about nothing that waits, or never was one."""


class Links:
    """The approval links of a Runtime's store."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._store = runtime.store
        self._clock = runtime.kernel.clock

    async def make(
        self, ask_id: str, *, by: str, to: str | None = None, expires_seconds: float = DEFAULT_SECONDS,
        edit: bool = False,
    ) -> tuple[str, str]:  # fmt: skip
        """The token of a new link, and until when it is good. `by` makes it, for `to`, who may `edit` the arguments or not.

        Raises NotFound, AlreadySettled, InvalidInput (it is no approval, or the time is too long).
        """
        if not 1 <= expires_seconds <= LONGEST_SECONDS:
            raise InvalidInput(f"a link is good for 1 to {LONGEST_SECONDS:,.0f} seconds")
        ask = await self._runtime.find_ask(ask_id)
        if ask.kind != "approval":
            raise InvalidInput(f"{ask.id} is a question: a link can only approve or reject an action")
        if ask.status != "open":
            raise AlreadySettled(f"{ask.id} is {ask.status} already")
        token, expires = secrets.token_urlsafe(32), self._clock.now_us() + round(expires_seconds * 1e6)
        whose = f"{to} (by link of {by})" if to else f"{by} (by link)"
        data = {"ask": ask.id, "hash": _hash_of(ask), "by": whose, "edit": edit}
        await self._store.put_document(Document(KIND, _digest(token), encode(data), 0, expires))
        return token, iso(expires)

    async def look(self, token: str) -> Link:
        """What a link is about; changes nothing. Raises DeadLink."""
        document = await self._store.document(KIND, _digest(token)) if _TOKEN.fullmatch(token) else None
        if document is None:
            raise DeadLink("this link was used, has expired or is incomplete; ask for another one")
        data = decode(document.data)
        ask = await self._store.ask(data["ask"])
        if ask is None or ask.status != "open":
            how = "is gone" if ask is None else f"was {ask.status}{f' by {ask.by}' if ask.by else ''}"
            raise DeadLink(f"there is nothing to decide any more: the action {how}")
        if _hash_of(ask) != data["hash"]:
            raise DeadLink("the action is not the one that this link was made for; ask for another link")
        detail = decode(ask.detail)
        return Link(
            ask, detail["action"], detail["args"], data["by"], data.get("edit", False), document.expires or 0,
            document.id, document.version,
        )  # fmt: skip

    async def decide(
        self, token: str, *, approve: bool, edit: dict[str, Any] | None = None, note: str | None = None
    ) -> Link:
        """Approve (with `edit`: with other arguments, by name) or reject, once.

        Raises DeadLink, AlreadySettled, and InvalidInput for an edit that does not fit, or that the link does not allow: it
        is then as good as before.
        """
        link = await self.look(token)
        if edit:
            if not link.edit:
                raise InvalidInput(
                    "this link is for the action as it is; to change it, ask for a link that allows changes"
                )
            check_answer(link.ask.id, decode(link.ask.detail).get("schema"), {**link.args, **edit})
        # Whoever takes it away decides; should the store fail right after, nothing was decided and the link is lost.
        if not await self._store.drop_document(KIND, link.id, link.version):
            raise DeadLink("this link was used just now")
        if approve:
            await self._runtime.approve(link.ask.id, edit=edit, by=link.by, note=note)
        else:
            await self._runtime.reject(link.ask.id, by=link.by, note=note)
        return link


def _hash_of(ask: Ask) -> str:
    """Of the action as it is asked for: not what the ask says of itself, should somebody have changed that."""
    detail = decode(ask.detail)
    return action_hash(detail["action"], detail["args"])


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
