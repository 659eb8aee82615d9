"""The outside world of a test: what tools do to it, and what anybody can find out about it later.

A tool calls `act` and has thereby done something that cannot be taken back. The world keeps its own record, so a
checker needs to believe nobody; it honours idempotency keys, as good services do; and it can tell a person (or a probe)
whether something happened, which is how steps of unknown outcome are settled.

It does not fail and takes no time of its own: faults and delays belong to who reaches it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass

from perdure.agents.attempt import current_step
from perdure.values.json import decode, encode


@dataclass(frozen=True, slots=True)
class Deed:
    """Something that was done to the world."""

    run: str
    step: int
    attempt: int
    name: str
    key: str
    result: str
    #: it came with a key that the world had seen, so it changed nothing
    repeated: bool


class World:
    """The record of all deeds, in order."""

    def __init__(self) -> None:
        self.deeds: list[Deed] = []
        #: what was seen to be wrong while it happened
        self.violations: list[str] = []
        #: says of a run whether the caller has lost the right to act for it: services that take a fencing token know
        self.is_stale: Callable[[str], bool] = lambda _run: False
        self._by_key: dict[str, Deed] = {}

    def act(self, name: str, result: str, *, keyed: bool = False) -> str:
        """Do something, here and now, as the step that is running. With `keyed`, once per key of the step."""
        step = current_step()
        if self.is_stale(step.run):
            raise ConnectionError("somebody else acts for this run now")
        earlier = self._by_key.get(step.key) if keyed else None
        if earlier is not None:
            result = earlier.result
        deed = Deed(step.run, step.step, step.attempt, name, step.key, result, repeated=earlier is not None)
        self._record(deed, keyed=keyed)
        return result

    def find(self, run: str, step: int) -> Deed | None:
        """What a step did, if it did anything."""
        return next((deed for deed in self.deeds if (deed.run, deed.step) == (run, step)), None)

    def _record(self, deed: Deed, *, keyed: bool) -> None:
        self.deeds.append(deed)
        if keyed:
            self._by_key.setdefault(deed.key, deed)

    def find_result(self, result: str) -> Deed | None:
        """The deed with this result, if it was done."""
        return next((deed for deed in self.deeds if deed.result == result), None)


class FileWorld(World):
    """A world whose record is a file that outlives every process: one JSON object a line, synced before `act` returns.

    Several processes may share the file. A key that another process brought after this one looked is honoured when the
    record is read: `repeated` is worked out from the order of the lines.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path
        self._read_to = 0
        self._file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_RDWR, 0o600)
        self.read()

    def read(self) -> None:
        """Learn what others did meanwhile."""
        text = os.pread(self._file, os.fstat(self._file).st_size - self._read_to, self._read_to)
        whole, _, _ = text.rpartition(b"\n")
        self._read_to += len(whole) + 1 if whole else 0
        for line in whole.splitlines():
            fields = decode(line)
            keyed = fields.pop("keyed")
            fields["repeated"] = keyed and fields["key"] in self._by_key
            super()._record(Deed(**fields), keyed=keyed)

    def _record(self, deed: Deed, *, keyed: bool) -> None:
        os.write(self._file, encode({**asdict(deed), "keyed": keyed}).encode() + b"\n")
        os.fsync(self._file)
        self.read()
