"""How is a run going? Lines on stderr: few where a program reads, all of them and a bar where a person looks."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Protocol, Self

from perdure.cli.lines import STATE, line
from perdure.cli.output import note, paint, visible
from perdure.values.events import Event

if TYPE_CHECKING:
    from rich.progress import Progress

#: Seen too often, or said better elsewhere: the end is the command's own result.
_QUIET = frozenset({
    "run.queued", "run.succeeded", "run.failed", "run.cancelled", "step.heartbeat", "stream.delta", "stream.reset",
    "stream.completed", "state.changed", "progress",
})  # fmt: skip


class Display(Protocol):
    """Something that shows events while a run goes on."""

    def show(self, event: Event) -> None:
        """Show one more event."""

    def hide(self) -> None:
        """Leave the screen to somebody else until the next event."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...


def display(*, quiet: bool = False) -> Display:
    """The display that fits stderr."""
    return LiveDisplay() if sys.stderr.isatty() and not quiet else PlainDisplay()


class PlainDisplay:
    """One plain line whenever the run changes its state or needs somebody."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.hide()

    def show(self, event: Event) -> None:
        if event.type in STATE and event.type not in _QUIET:
            note(f"{event.run} {line(event)}")

    def hide(self) -> None:
        """Nothing is drawn, so nothing has to go."""


class LiveDisplay:
    """Every step as a line, and below them a bar that moves."""

    def __init__(self) -> None:
        self._bar: Progress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.hide()

    def show(self, event: Event) -> None:
        if event.type == "progress":
            self._move(event.data)
        elif event.type not in _QUIET:
            self.hide()
            colour = "red" if event.type.endswith(("failed", "unknown", "quarantined")) else None
            note(paint(f"  {line(event)}", colour or ("yellow" if event.type in STATE else "bright_black"), err=True))

    def hide(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _move(self, data: Any) -> None:
        done, total, text = read_progress(data)
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

            # Agents' words are no markup.
            columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn())
            self._bar = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True)
            self._bar.add_task("")
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], description=visible(text), completed=done or 0, total=total)


def read_progress(data: Any) -> tuple[float | None, float | None, str]:
    """(done, total, text) of a progress event, whatever the agent calls them."""
    if not isinstance(data, dict):
        return None, None, str(data)
    numbers = {key: value for key, value in data.items() if isinstance(value, int | float)}
    done = next((numbers[key] for key in ("done", "completed", "current", "n") if key in numbers), None)
    total = next((numbers[key] for key in ("total", "of", "count") if key in numbers), None)
    said = next((data[key] for key in ("message", "text", "stage", "what") if isinstance(data.get(key), str)), None)
    return done, total, said or ", ".join(f"{key} {value}" for key, value in data.items())
