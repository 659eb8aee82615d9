"""What has an agent changed in its state? Found by comparison, because agents mutate what they once took out of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from perdure.errors import NotJsonError
from perdure.values.json import encode, encode_given


class State:
    """The state as agent code sees it (`values`), and as its journal has it."""

    def __init__(self) -> None:
        self.values: Mapping[str, Any] = {}
        #: agent code has looked at it, so it may differ from what is journaled
        self.touched = False
        self._journaled: dict[str, str] = {}
        self._final: dict[str, str] | None = None

    def begin(self, values: dict[str, Any]) -> None:
        """The state with which the run starts."""
        self.values = values
        self._journaled = {key: encode(value) for key, value in values.items()}

    def note(self, changed: Mapping[str, Any], removed: Iterable[str]) -> None:
        """The journal says that this was saved."""
        self._journaled.update({key: encode(value) for key, value in changed.items()})
        for key in removed:
            self._journaled.pop(key, None)
        self.touched = True

    def changes(self) -> dict[str, str | None]:
        """What is not journaled yet, key -> JSON text or None for removed; from now on it counts as journaled.

        Raises NotJsonError.
        """
        if not self.touched:
            return {}
        current = self._encoded() if self._final is None else self._final
        changes: dict[str, str | None] = {
            key: text for key, text in current.items() if self._journaled.get(key) != text
        }
        changes.update({key: None for key in self._journaled if key not in current})
        self._journaled = current
        return changes

    def freeze(self) -> None:
        """The run has ended: what clean-up code of its leftover tasks does to the state is not part of it any more.

        Raises NotJsonError; then nothing of what is not journaled is.
        """
        if self.touched:
            self._final = self._journaled
            self._final = self._encoded()

    def _encoded(self) -> dict[str, str]:
        values: Mapping[Any, Any] = self.values  # agents write into it what they like
        for key in values:
            if not isinstance(key, str):
                raise NotJsonError(f"ctx.state[{key!r}]: keys of the state are strings")
        return {key: encode_given(value) for key, value in values.items()}
