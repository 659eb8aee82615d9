"""The outside world of a test: what tools do to it, and what anybody can find out about it later.

A tool calls `act` and has thereby done something that cannot be taken back. The world keeps its own record, so a
checker needs to believe nobody; it honours idempotency keys, as good services do; and it can tell a person (or a probe)
whether something happened, which is how steps of unknown outcome are settled.

It does not fail and takes no time of its own: faults and delays belong to who reaches it.
"""

from __future__ import annotations

from dataclasses import dataclass

from perdure.agents.attempt import current_step


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
        #: (run, step) of steps whose tool has failed once already
        self.failed: set[tuple[str, int]] = set()
        self._by_key: dict[str, Deed] = {}

    def act(self, name: str, result: str, *, keyed: bool = False) -> str:
        """Do something, here and now, as the step that is running. With `keyed`, once per key of the step."""
        step = current_step()
        earlier = self._by_key.get(step.key) if keyed else None
        if earlier is not None:
            result = earlier.result
        deed = Deed(step.run, step.step, step.attempt, name, step.key, result, repeated=earlier is not None)
        self.deeds.append(deed)
        if keyed:
            self._by_key.setdefault(step.key, deed)
        return result

    def find(self, run: str, step: int) -> Deed | None:
        """What a step did, if it did anything."""
        return next((deed for deed in self.deeds if (deed.run, deed.step) == (run, step)), None)
