"""What does `doctor` say of one thing that it looked at? A verdict, and the remedy where one is needed."""

from __future__ import annotations

from typing import Any, NamedTuple


class Finding(NamedTuple):
    """One thing that was looked at."""

    name: str
    #: ok | warn | fail
    verdict: str
    found: str
    remedy: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The public form."""
        return {"check": self.name, "verdict": self.verdict, "found": self.found, "remedy": self.remedy}


#: What to do about a store that is newer than this Perdure.
UPGRADE = "pip install --upgrade perdure"


def size(count: float) -> str:
    """Bytes as people say them."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} TB"
