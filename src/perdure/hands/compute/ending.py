"""How did a body end in another process? Its last message, as a result or an exception here."""

from __future__ import annotations

import functools
from typing import Any

from perdure.errors import ComputeRefused, NoRetry, OutOfMemory
from perdure.hands.compute.contract import Message, Work


def ending_of(work: Work, message: Message) -> str:
    """The result that a body's last message holds; or raises Raised, OutOfMemory, ComputeRefused."""
    match message:
        case ["done", text]:
            return str(text)
        case ["failed", error]:
            # The class bears the original's name: `no_retry` goes by that.
            raise _class_of(error["class"], never=error["never"])(error["described"])
        case ["full", told]:
            raise OutOfMemory(f"{work.title} ran out of memory" + (f": {told}" if told else ""), in_doubt=False)
        case ["refused", why]:
            raise ComputeRefused(why)
    raise ValueError(f"{work.place}: a process sent {message!r}, which says nothing")


class Raised(Exception):  # noqa: N818 - it is named for what happened; its subclasses have the names of the originals
    """An exception of another process. `described` is what the journal says of it: type, message, place."""

    def __init__(self, described: dict[str, Any]) -> None:
        super().__init__(described["message"])
        self.described = described
        self.type: str = described["type"]
        for note in described.get("notes", ()):
            self.add_note(note)


@functools.lru_cache(maxsize=256)
def _class_of(name: str, *, never: bool) -> type[Raised]:
    return type(name, (Raised, NoRetry) if never else (Raised,), {"__doc__": Raised.__doc__})
