"""What does a journal say about the commands of its run? Reads only what it must: long journals are read often."""

from __future__ import annotations

from collections.abc import Iterable

from perdure.journal.commands import Command
from perdure.values.events import OPENING, Event, emittable

_WITHDRAWN = frozenset({"step.cancelled", "ask.withdrawn", "approval.withdrawn"})


class Recording:
    """The commands of a journal, by step."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        #: the event that opened each step
        self.openings: dict[int, Event] = {}
        #: steps the agent is known to have stopped waiting for
        self.withdrawn: set[int] = set()
        self.patches: set[str] = set()
        for event in events:
            if event.step is None:
                if event.type == "run.patched":
                    self.patches.add(event.data["name"])
            elif event.type in OPENING or (event.attempt is None and emittable(event.type)):
                self.openings[event.step] = event
            elif event.type in _WITHDRAWN:
                self.withdrawn.add(event.step)
        self.last_step = max(self.openings, default=0)

    def first_after(self, step: int) -> int | None:
        """The first recorded step after `step`."""
        return min((number for number in self.openings if number > step), default=None)

    def recorded_as(self, step: int) -> str:
        """What step `step` was, in words: kind, name and place."""
        event = self.openings[step]
        kind, name = _kind_and_name(event)
        at = None if emittable(event.type) else event.data.get("at")
        return f"{kind} {name!r} ({at or 'place unknown'})"


#: The recording of a run that has just begun.
NOTHING = Recording()


def opens(event: Event, command: Command) -> bool:
    """True when `event` is the opening of `command`: same kind, same name."""
    # Most events begin like this; comparing text spares decoding the arguments.
    if event.raw.startswith(f'{{"step":{command.step},"kind":"{command.kind}","name":"{command.name}"'):
        return True
    return _kind_and_name(event) == (command.kind, command.name)


def _kind_and_name(event: Event) -> tuple[str, str]:
    if emittable(event.type):
        return "emit", event.type
    data = event.data
    return data["kind"], data["name"]
