"""What did a caller send? Bodies within bounds, and JSON without the tricks that readers disagree about."""

from __future__ import annotations

import json
import zlib
from typing import Any, NoReturn

from starlette.types import Receive

from perdure.gateway.problems import Problem
from perdure.values.json import decode

#: Of a body that anybody may send, whatever else is allowed: a code, a form, somebody else's event.
PUBLIC_BODY_BYTES = 256 << 10


async def read_body(receive: Receive, headers: dict[bytes, bytes], most_bytes: int) -> bytes:
    """The whole body, unpacked. Raises Problem: 413 when it is, or unpacks to, more than `most_bytes`; 415, 400."""
    declared = headers.get(b"content-length", b"0")
    if not declared.isdigit():
        raise Problem(400, "Content-Length is no number")
    if int(declared) > most_bytes:
        _too_large(most_bytes)
    unpacker = _unpacker(headers.get(b"content-encoding", b"identity").decode("latin-1").strip().lower())
    whole = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Problem(400, "the connection ended before the body did")
        whole += _unpacked(unpacker, message.get("body", b""), most_bytes + 1 - len(whole))
        if len(whole) > most_bytes:
            _too_large(most_bytes)
        if not message.get("more_body", False):
            break
    if unpacker is not None and not unpacker.eof:
        raise Problem(400, "the compressed body ends too early")
    return bytes(whole)


def read_json(body: bytes, content_type: str) -> Any:
    """The body as a JSON value. Raises Problem: 415 for another media type, 400 for what is no clean JSON."""
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise Problem(415, "send the body as JSON, with the header Content-Type: application/json")
    try:
        text = body.decode()
        decode(body)  # quick, and refuses what is nested so deep that no journal could give it back
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_no_number)
        _refuse_surrogates(text, value)
    except (ValueError, RecursionError) as error:
        raise Problem(400, f"the body is not JSON: {error}") from None
    return value


def _unpacker(encoding: str) -> Any:
    match encoding:
        case "identity" | "":
            return None
        case "gzip":
            return zlib.decompressobj(wbits=31)
    raise Problem(415, f"Content-Encoding {encoding!r} is not understood here; send the body plain, or as gzip")


def _unpacked(unpacker: Any, piece: bytes, room: int) -> bytes:
    if unpacker is None:
        return piece
    try:
        unpacked: bytes = unpacker.decompress(piece, max(room, 1))
    except zlib.error as error:
        raise Problem(400, f"the body is not gzip: {error}") from None
    if unpacker.unused_data:
        raise Problem(400, "something follows the compressed body")
    return unpacked


def _too_large(most_bytes: int) -> NoReturn:
    raise Problem(
        413, f"the body is larger than {most_bytes:,} bytes; keep large things elsewhere and send where they are"
    )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"the name {twice[:100]!r} stands twice in one object")
    return found


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _refuse_surrogates(text: str, value: Any) -> None:
    # Only an escape can bring half a character into decoded text.
    if "\\u" in text or "\\U" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("it holds half a surrogate pair, which is no character") from None
