"""API keys: made, listed, rotated, revoked. A key is shown once; the store keeps a hash, which no key can be made of.

A key is `perdure_<id>_<secret>`: 256 random bits, so that a plain SHA-256 is as good as a slow hash would be for a
password, and costs nothing per request.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from perdure.errors import InvalidInput, NotFound
from perdure.gateway.access.principal import Principal, Scope
from perdure.store.contract import Document, Store
from perdure.values.clock import Clock, iso
from perdure.values.json import decode, encode

KIND = "key"
_PREFIX = "perdure"
_NAME_MOST = 100


@dataclass(frozen=True, slots=True)
class Key:
    """An API key as it is listed: without its secret."""

    id: str
    name: str
    scopes: frozenset[Scope]
    created: int
    expires: int | None
    hashes: tuple[str, ...]
    version: int = 0

    def as_json(self) -> dict[str, Any]:
        """The public form."""
        return {
            "id": self.id, "name": self.name, "scopes": sorted(self.scopes), "created": iso(self.created),
            "expires": None if self.expires is None else iso(self.expires),
        }  # fmt: skip

    @property
    def principal(self) -> Principal:
        """Who calls with it."""
        return Principal(self.name, self.scopes, "key", self.id, self.root)

    @property
    def root(self) -> str:
        """What a login that comes from it stands and falls with: another text is another root."""
        return f"key {self.id} {self.hashes[0][:16]}"


class Keys:
    """The API keys of a store."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def create(self, name: str, scopes: Iterable[str], expires_seconds: float | None = None) -> tuple[Key, str]:
        """A new key, and its text: the only time that anybody sees it. Raises InvalidInput."""
        if not name.strip() or len(name) > _NAME_MOST:
            raise InvalidInput(f"a key's name has 1 to {_NAME_MOST} characters")
        now, secret = self._clock.now_us(), secrets.token_urlsafe(32)
        expires = None if expires_seconds is None else now + round(expires_seconds * 1e6)
        key = Key(secrets.token_hex(6), name.strip(), parse_scopes(scopes), now, expires, (_hash(secret),))
        if await self._store.put_document(_document(key)) is None:
            raise InvalidInput(f"key {key.id} is there already; try again")
        return key, _text(key, secret)

    async def rotate(self, id: str) -> tuple[Key, str]:
        """Another secret for a key; the one before is refused from now on. Raises NotFound, InvalidInput."""
        secret = secrets.token_urlsafe(32)
        key = replace(await self.find(id), hashes=(_hash(secret),))
        if await self._store.put_document(_document(key)) is None:
            raise InvalidInput(f"key {id} was changed by somebody else at the same moment; look, and try again")
        return key, _text(key, secret)

    async def revoke(self, id: str) -> None:
        """Refuse a key from now on. Raises NotFound."""
        if not await self._store.drop_document(KIND, id):
            raise _unknown(id)

    async def find(self, id: str) -> Key:
        """The key with this id. Raises NotFound."""
        document = await self._store.document(KIND, id)
        if document is None:
            raise _unknown(id)
        return _key(document)

    async def list(self) -> list[Key]:
        """All keys that have not expired, by id."""
        found: list[Document] = []
        while page := await self._store.documents(KIND, after=found[-1].id if found else ""):
            found += page
        return [_key(document) for document in found]

    async def verify(self, text: str) -> Key | None:
        """The key with this text, or None."""
        prefix, _, rest = text.partition("_")
        id, _, secret = rest.partition("_")
        if prefix != _PREFIX or not secret or len(text) > 200 or not id.isalnum():
            return None
        document = await self._store.document(KIND, id)
        if document is None:
            return None
        key, hashed = _key(document), _hash(secret)
        return key if any(hmac.compare_digest(hashed, known) for known in key.hashes) else None


def parse_scopes(names: Iterable[str]) -> frozenset[Scope]:
    """Scopes by their names. Raises InvalidInput."""
    try:
        scopes = frozenset(Scope(name) for name in names)
    except ValueError as error:
        raise InvalidInput(f"{error}; scopes are {', '.join(Scope)}") from None
    if not scopes:
        raise InvalidInput(f"name at least one scope of {', '.join(Scope)}")
    return scopes


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _text(key: Key, secret: str) -> str:
    return f"{_PREFIX}_{key.id}_{secret}"


def _document(key: Key) -> Document:
    data = {"name": key.name, "scopes": sorted(key.scopes), "created": key.created, "hashes": key.hashes}
    return Document(KIND, key.id, encode(data), key.version, key.expires)


def _key(document: Document) -> Key:
    data = decode(document.data)
    scopes = frozenset(map(Scope, data["scopes"]))
    hashes = tuple(data["hashes"])
    return Key(document.id, data["name"], scopes, data["created"], document.expires, hashes, document.version)


def _unknown(id: str) -> NotFound:
    return NotFound(f"there is no key {id!r}; list them with: perdure key list")
