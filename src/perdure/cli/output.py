"""How does a result look? JSON for programs, lines and tables for people; results on stdout, remarks on stderr."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click

#: Colours of statuses, and of what needs somebody's attention.
COLOURS = {
    "queued": "cyan", "running": "blue", "waiting": "yellow", "paused": "magenta", "succeeded": "green",
    "failed": "red", "cancelled": "bright_black", "quarantined": "red",
}  # fmt: skip


def print_json(value: Any) -> None:
    """One JSON value on stdout: on one line, or indented for a person's terminal."""
    indent = 2 if sys.stdout.isatty() else None
    click.echo(json.dumps(value, ensure_ascii=False, indent=indent))


def print_line(value: Any) -> None:
    """One JSON value on exactly one line, whoever reads."""
    click.echo(json.dumps(value, ensure_ascii=False))


def note(text: str) -> None:
    """A remark on stderr, beside the result."""
    click.echo(text, err=True)


def paint(text: str, colour: str | None = None, *, bold: bool = False, err: bool = False) -> str:
    """`text` in colour where that is wanted: on a terminal, and without NO_COLOR."""
    stream = sys.stderr if err else sys.stdout
    plain = os.environ.get("NO_COLOR") or not stream.isatty()
    return visible(text) if plain else click.style(visible(text), fg=colour, bold=bold or None)


def visible(text: str) -> str:
    """`text` without control characters: what models and strangers wrote must not steer somebody's terminal."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in text)


def status(value: str, *, err: bool = False) -> str:
    """A status in its colour."""
    return paint(value, COLOURS.get(value), err=err)


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns. On a terminal empty ones are left out, and a last cell that does not fit stands on a line of its own."""
    lines = [[word.upper() for word in head], *([visible(cell) for cell in row] for row in rows)]
    at_terminal = sys.stdout.isatty()
    shown = [column for column in range(len(head)) if not at_terminal or any(line[column] for line in lines[1:])]
    widths = {column: max(len(line[column]) for line in lines) for column in shown}
    room = shutil.get_terminal_size().columns if at_terminal else None
    for number, line in enumerate(lines):
        cells = [paint(line[column].ljust(widths[column]), _colour(number, line[column])) for column in shown[:-1]]
        taken = sum(widths[column] + 2 for column in shown[:-1])
        last = line[shown[-1]] if shown else ""
        if room is None or taken + len(last) <= room:
            click.echo("  ".join([*cells, last]).rstrip())
        else:
            click.echo("  ".join(cells).rstrip())
            click.echo(f"    {last}")


def _colour(number: int, cell: str) -> str | None:
    return COLOURS.get(cell) if number else "bright_black"


def shorten(value: Any, width: int = 60) -> str:
    """A JSON value in at most `width` characters."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = visible(" ".join(text.split()))
    return text if len(text) <= width else f"{text[: width - 1]}…"


def span(seconds: float) -> str:
    """A length of time as people say it: 3 ms, 4.2 s, 5 min, 2 h, 3 d."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for limit, size, unit in ((60, 1, "s"), (3600, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.2g} {unit}" if seconds < 10 * size else f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def ago(time_us: int, now_us: int) -> str:
    """How long since."""
    return f"{span(max(0.0, (now_us - time_us) / 1e6))} ago"
