"""What did a caller send? Bodies within bounds, and JSON without the tricks that readers disagree about."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from typing import Any, NoReturn

from starlette.types import Receive

from perdure.gateway.problems import Problem

#: Levels of nesting; the journal reads about 200 and puts a few around a value.
_NESTED_MOST = 150


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
        if _depth(text) > _NESTED_MOST:
            raise Problem(400, f"the body is nested deeper than {_NESTED_MOST} levels")
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
        [(twice, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the name {twice!r} stands twice in one object")
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


def _depth(text: str) -> int:
    if text.count("[") + text.count("{") <= _NESTED_MOST:
        return 0
    deepest = depth = 0
    inside = False
    letters = iter(text)
    for letter in letters:
        if inside:
            if letter == "\\":
                next(letters, None)
            elif letter == '"':
                inside = False
        elif letter == '"':
            inside = True
        elif letter in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif letter in "]}":
            depth -= 1
    return deepest
