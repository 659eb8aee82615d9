"""Which batches may have been committed without our knowing? Each try is remembered until its fate is known; no I/O.

A request whose answer was lost may still arrive, until another has taken its number. So the tries of a batch are kept also
when its caller has given it up and others came in between; and what became of it is kept for when it is given again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from perdure.store.contract import Transaction
from perdure.store.postgres.batch import Batch

#: What became of one transaction: nothing to say, the ids of its signals, or why it was refused.
Outcome: TypeAlias = Exception | list[int] | None

#: Batches that were found to be durable, and nobody has come back for.
_FOUND_MAX = 64


class Tries:
    """The tries of one writer."""

    def __init__(self) -> None:
        self._count = 0
        #: by number of the try: its batch, and the answer, or what reads it from the note
        self._unsure: dict[int, tuple[Sequence[Transaction], Batch | list[Outcome]]] = {}
        #: by identity of the batch
        self._found: dict[int, tuple[Sequence[Transaction], list[Outcome]]] = {}

    @property
    def unsure(self) -> bool:
        """One of them may have happened, or may yet."""
        return bool(self._unsure)

    def begin(self, batch: Sequence[Transaction], answer: Batch | list[Outcome]) -> int:
        """From here on the answer may be lost. The try's number."""
        self._count += 1
        self._unsure[self._count] = (batch, answer)
        return self._count

    def settle(self, number: int, note: str) -> None:
        """The try with this number is the writer's last that happened; if it is one we are unsure of, no other will."""
        if number not in self._unsure:
            return
        batch, answer = self._unsure[number]
        self._unsure.clear()
        if len(self._found) >= _FOUND_MAX:
            self._found.pop(next(iter(self._found)))
        self._found[id(batch)] = (batch, list(answer.outcomes(note)) if isinstance(answer, Batch) else answer)

    def end(self) -> None:
        """The answer is here: what else went out under the same number comes too late."""
        self._unsure.clear()

    def take(self, batch: Sequence[Transaction]) -> list[Outcome] | None:
        """What became of a batch that was found to be durable; None when it has to be written."""
        return self._found.pop(id(batch), (batch, None))[1]
