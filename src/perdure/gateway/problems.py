"""What does an error mean for a caller over HTTP? A status and RFC 9457 problem details that say the remedy."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.responses import Response

from perdure.errors import (
    AlreadyExists,
    AlreadySettled,
    IdempotencyMismatch,
    InvalidInput,
    InvalidSetting,
    JournalDamaged,
    NotFound,
    NotJsonError,
    PerdureError,
    Refused,
    SessionBusy,
    StoreError,
)
from perdure.values.json import encode

MEDIA_TYPE = "application/problem+json"

#: The first that fits counts.
_STATUSES: tuple[tuple[type[Exception], int], ...] = (
    (NotFound, 404),
    (SessionBusy, 409),
    (IdempotencyMismatch, 409),
    (AlreadySettled, 409),
    (AlreadyExists, 409),
    (InvalidInput, 422),
    (InvalidSetting, 422),
    (NotJsonError, 422),
    (Refused, 422),
    (JournalDamaged, 500),
    (StoreError, 503),
    (PerdureError, 500),
)


class Problem(Exception):  # noqa: N818 - the standard's own word
    """A request cannot be answered as asked. `detail` says what happened, to what, and the remedy."""

    def __init__(
        self, status: int, detail: str, *, error: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        #: the name of a class in perdure.errors, or of the standard's phrase
        self.error = error or HTTPStatus(status).phrase.title().replace(" ", "").replace("-", "")
        self.headers = dict(headers or {})

    def as_json(self) -> dict[str, Any]:
        """The problem details."""
        return {
            "type": f"urn:perdure:problem:{_dashed(self.error)}", "title": _spaced(self.error), "status": self.status,
            "detail": self.detail, "error": self.error,
        }  # fmt: skip

    def response(self) -> Response:
        """The answer that tells it."""
        return Response(encode(self.as_json()), self.status, self.headers, MEDIA_TYPE)


def problem_of(error: Exception) -> Problem:
    """What an error of the Runtime is over HTTP; one that nobody raised on purpose says nothing of its inside."""
    if isinstance(error, Problem):
        return error
    status = next((status for sort, status in _STATUSES if isinstance(error, sort)), None)
    if status is None:
        detail = (
            "something unexpected went wrong here; the server's log has it. Nothing acknowledged is lost: try again"
        )
        return Problem(500, detail, error="Unexpected")
    if status == 503:
        # Its own words name servers and files.
        detail = "the store does not answer just now; nothing acknowledged is lost: try again"
        return Problem(status, detail, error=type(error).__name__, headers={"Retry-After": "1"})
    return Problem(status, str(error), error=type(error).__name__)


def _dashed(name: str) -> str:
    return _spaced(name).replace(" ", "-").lower()


def _spaced(name: str) -> str:
    words = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name)
    return words.strip().capitalize()
