"""What does the person see? Draws and asks; decides nothing. Colours and bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import asyncio
import re
import sys
import termios
from collections.abc import Sequence
from textwrap import indent

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from perdure.demo.payments import Payment
from perdure.demo.tables import BadRow

INDENT = 2
WIDTH_MOST = 120
#: without a terminal, a line is written each time so much more is done
PLAIN_SHARE = 0.2
#: bad rows that are shown; the report has all
BAD_ROWS_MOST = 3


class Screen:
    """One show. `to_stderr` leaves standard output to a machine."""

    def __init__(self, *, to_stderr: bool = False) -> None:
        self._console = Console(stderr=to_stderr, highlight=False)
        if not self._console.is_terminal:
            self._console.width = WIDTH_MOST
        self._bar: _Bar | None = None
        self._asking = False

    @property
    def interactive(self) -> bool:
        """True when there is a person to ask."""
        return self._console.is_terminal and sys.stdin.isatty()

    def title(self, text: str) -> None:
        """What is going on, in bold, with room around it."""
        self.settle_bar()
        self._console.print()
        self.say(f"[bold]{text}[/]")

    def say(self, text: str) -> None:
        """One line of the story (rich markup); it appears above a bar that is under way."""
        if self._asking:
            self._console.print()  # below the question
        if self._console.is_terminal:
            self._console.print(Padding(text, (0, 0, 0, INDENT), expand=False))
        else:
            self._console.print(indent(text, " " * INDENT), soft_wrap=True)

    def copyable(self, text: str) -> None:
        """A line that is never broken, so that it can be copied."""
        self._console.print(" " * (INDENT + 2) + escape(text), soft_wrap=True, style="cyan")

    def error(self, text: str) -> None:
        """What went wrong."""
        self.settle_bar()
        self._console.print(f"[bold red]error:[/] {_harmless(text)}", soft_wrap=True)

    def progress(self, scene: str, done: int, of: int) -> None:
        """Move the bar of a scene; a new scene begins a new bar."""
        if self._bar is None or self._bar.scene != scene:
            self.settle_bar()
            self._bar = _Bar(self._console, scene)
        self._bar.move(done, of)

    def stall(self, *, stalled: bool) -> None:
        """Show that nobody works at the bar, or that somebody does again."""
        if self._bar is not None:
            self._bar.stall(stalled=stalled)

    def settle_bar(self) -> None:
        """Leave the bar as it is and go on below it."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def facts(self, rows: Sequence[tuple[str, str]]) -> None:
        """Figures with their names."""
        if not self._console.is_terminal:
            for name, figure in rows:
                self._console.print(f"{' ' * INDENT}{name + ':':<30}{figure}", soft_wrap=True, markup=False)
            return
        table = Table.grid(padding=(0, 3, 0, 0))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for name, figure in rows:
            table.add_row(escape(name), escape(figure), style="green" if figure.startswith("0") else "")
        self._console.print(Padding(table, (0, 0, 0, INDENT + 2), expand=False))

    def bad_rows(self, rows: Sequence[BadRow]) -> None:
        """Some of the rows that could not be read, and where the others are."""
        for row in rows[:BAD_ROWS_MOST]:
            self.say(f"[yellow]{_harmless(f'{row.file}:{row.line}')}[/] [dim]{_harmless(row.reason)}[/]")
        if len(rows) > BAD_ROWS_MOST:
            self.say(f"[dim]and {len(rows) - BAD_ROWS_MOST} more rows that could not be read: see the report[/]")
        if rows:
            self._console.print()

    def payments(self, payments: Sequence[Payment]) -> None:
        """What consent is asked for, numbered from 1."""
        width = min(self._console.width, WIDTH_MOST) - INDENT
        table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim", width=width)
        table.add_column("", justify="right", style="bold", no_wrap=True)
        table.add_column("Invoice", overflow="fold", max_width=width // 5)
        table.add_column("Supplier", overflow="ellipsis", no_wrap=True, max_width=width // 5)
        table.add_column("Amount", justify="right", no_wrap=True, min_width=13)
        table.add_column("Why you are asked", overflow="fold", ratio=1)
        for number, payment in enumerate(payments, start=1):
            amount = f"{payment.amount:,.2f} {payment.currency}"
            table.add_row(str(number), *map(_harmless, (payment.text, payment.supplier, amount, payment.consent)))
        self._console.print(Padding(table, (1, 0, 1, INDENT), expand=False))

    async def choose(self, count: int) -> set[int] | None:
        """The numbers (from 1) that the person at the terminal approves; None when the terminal was closed."""
        termios.tcflush(sys.stdin, termios.TCIFLUSH)  # what was typed before the question is no answer to it
        while (line := await self._ask()) and (chosen := parse_choice(line, count)) is None:
            self.say(f"[yellow]Please type y, n, or numbers from 1 to {count}.[/]")
        return chosen if line else None

    async def _ask(self) -> str:
        question = "Approve? [bold]y[/] all · [bold]n[/] none · or the numbers to approve, like [bold]1,3-5[/]: "
        self._console.print(" " * INDENT + question, end="")
        self._asking = True
        try:
            return await _read_line()
        finally:
            self._asking = False


def counted(number: int, noun: str) -> str:
    """The number with its noun, as one says it."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def parse_choice(text: str, count: int) -> set[int] | None:
    """The numbers meant by y, n, or a list like `1,3-5 7`; None for anything else."""
    words = re.split(r"[\s,;]+", text.strip().lower())
    if words in (["y"], ["yes"], ["all"]):
        return set(range(1, count + 1))
    if words in (["n"], ["no"], ["none"]):
        return set()
    chosen: set[int] = set()
    for word in words:
        span = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", word, re.ASCII)
        if span is None:
            return None
        first, last = int(span[1]), int(span[2] or span[1])
        if not 1 <= first <= last <= count:
            return None
        chosen.update(range(first, last + 1))
    return chosen


def _harmless(text: str) -> str:
    """Words of other people's files, without what would steer the terminal or the layout."""
    return escape("".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text))


async def _read_line() -> str:
    """A line from the terminal, empty at its end. Unlike input() it leaves the loop free: Ctrl-C and others get in."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(sys.stdin, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(sys.stdin)
    return sys.stdin.readline()


class _Bar:
    """The progress of one scene."""

    def __init__(self, console: Console, scene: str) -> None:
        self.scene = scene
        self._console = console
        self._shown = 0.0
        self._progress = Progress(
            TextColumn(" " * INDENT + "{task.description}"),
            BarColumn(bar_width=None, complete_style="green", finished_style="green"),
            TextColumn("{task.completed:.0f}/{task.total:.0f} "),
            console=console,
            expand=True,
        )
        self._task = self._progress.add_task(self._name(), total=1)
        if console.is_terminal:
            console.print()
            self._progress.start()

    def move(self, done: int, of: int) -> None:
        self._progress.update(self._task, completed=done, total=of)
        share = done / max(of, 1)
        if not self._console.is_terminal and (share >= self._shown + PLAIN_SHARE or done == of):
            self._shown = share
            self._console.print(f"{' ' * INDENT}{self._name()} {done}/{of}")

    def stall(self, *, stalled: bool) -> None:
        self._progress.update(self._task, description=f"[red]{self._name()}: no worker[/]" if stalled else self._name())

    def close(self) -> None:
        if self._console.is_terminal:
            self._progress.stop()

    def _name(self) -> str:
        return self.scene.capitalize()
