"""How does a result look? JSON for programs, lines and tables for people; results on stdout, remarks on stderr."""

from __future__ import annotations

import json
import os
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
    return text if plain else click.style(text, fg=colour, bold=bold)


def status(value: str, *, err: bool = False) -> str:
    """A status in its colour."""
    return paint(value, COLOURS.get(value), err=err)


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table: drawn to fit on a terminal, else plain columns that nothing shortens."""
    lines = [list(row) for row in rows]
    if sys.stdout.isatty():
        _print_fitted(head, lines)
        return
    widths = [max(len(line[column]) for line in [list(head), *lines]) for column in range(len(head))]
    for line in [[word.upper() for word in head], *lines]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _print_fitted(head: Sequence[str], lines: list[list[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, word in enumerate(head):
        table.add_column(word, overflow="fold" if index == 0 else "ellipsis", no_wrap=index == 0)
    for line in lines:
        table.add_row(*(Text(cell, style=COLOURS.get(cell, "")) for cell in line))
    Console().print(table)


def shorten(value: Any, width: int = 60) -> str:
    """A JSON value in at most `width` characters."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split())
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
