"""`perdure demo`: says what will happen, lets it happen, and shows the evidence."""

from __future__ import annotations

import asyncio
import sys
import time
from decimal import Decimal
from pathlib import Path

from perdure.demo import ending
from perdure.demo.agent import Books, read_books, reconcile
from perdure.demo.filing import set_aside
from perdure.demo.screen import Screen, counted
from perdure.demo.stage import pause
from perdure.demo.story import Left, Story
from perdure.demo.wish import Wish
from perdure.errors import PerdureError
from perdure.runtime import Runtime
from perdure.store.contract import RunFilter
from perdure.values.events import Event

OK, FAILED, WAITING, CANCELLED, INTERRUPTED = 0, 1, 3, 4, 130


def main(
    *, store: str | None = None, yes: bool = False, invoices: Path | None = None, ledger: Path | None = None,
    limit: Decimal | str | None = None, out: Path | None = None, as_json: bool = False,
) -> int:  # fmt: skip
    """Play the demo: begin a run, or go on with one that was left. Returns the exit code.

    store: by default a file in `out`. yes: approve in the person's place. invoices, ledger: both, or the shipped files.
    limit: EUR above which a payment needs consent (5,000). out: the folder for what comes of it (./perdure-demo).
    as_json: one JSON object on stdout, the show on stderr.

    Exit codes: 0 done; 1 failed; 3 left while it asked; 4 cancelled by somebody; 130 after Ctrl-C. After 3 and 130
    the same command goes on with the run.
    """
    screen = Screen(to_stderr=as_json)
    try:
        wish = Wish(store, yes, invoices, ledger, limit, out)
        try:
            return asyncio.run(_play(wish, screen, as_json=as_json))
        except (KeyboardInterrupt, Left) as leaving:
            screen.title("Stopped. The worker has shut down; what was done is on disk.")
            screen.say("To go on from there:")
            screen.copyable(ending.command_line("demo", "--out", str(wish.folder), store=wish.url))
            return WAITING if isinstance(leaving, Left) else INTERRUPTED
    except (PerdureError, OSError) as error:
        screen.error(str(error))
        return FAILED


async def _play(wish: Wish, screen: Screen, *, as_json: bool) -> int:
    began = time.monotonic()
    wish.make_folder()
    async with Runtime(wish.url) as runtime:
        run, batches = await _begin_or_continue(runtime, wish, screen)
        story = Story(runtime, screen, wish.url, run, yes=wish.yes)
        await story.play(batches)
        journal = await runtime.journal(run)
    if journal[-1].type != "run.succeeded":
        return _failed(screen, wish, journal[-1])
    end = ending.conclude(wish.url, run, journal, story.kills, time.monotonic() - began)
    ending.show(end, screen)
    if as_json:
        sys.stdout.write(f"{ending.as_json(end)}\n")
    if not end.evidence.sound:
        screen.error("these figures do not agree, which must never happen. Please report it, with the store.")
        return FAILED
    return OK


async def _begin_or_continue(runtime: Runtime, wish: Wish, screen: Screen) -> tuple[str, int | None]:
    """The run to play, and of how many batches it is if that is known yet."""
    earlier = await runtime.runs(RunFilter(agent=reconcile.name))
    left = next((run for run in earlier if not run.status.terminal and run.forked_from is None), None)
    if left is not None:
        screen.title("Perdure demo")
        screen.say(f"Going on with {left.id}, which was left before its end, with its files and its limit.")
        return left.id, None
    job = wish.job()
    books = read_books(job.invoices, job.ledger)  # a file that cannot be used is refused before a run exists
    _introduce(screen, wish, books)
    await pause(3.0)
    set_aside(job.out)
    return (await runtime.start(reconcile, job)).id, len(books.batches)


def _introduce(screen: Screen, wish: Wish, books: Books) -> None:
    invoices = counted(sum(len(batch.invoices) for batch in books.batches), "invoice")
    lines = counted(sum(len(batch.lines) for batch in books.batches), "ledger line")
    screen.title("Perdure demo: an agent pays bills and survives kill -9")
    screen.say(
        f"It matches {invoices} with {lines} and pays what is due:\n\n"
        "1  an agent at work in a process of its own, its journal on disk\n"
        "2  [bold]kill -9[/] half-way, and another process that goes on from there\n"
        f"3  a question to you: payments above {wish.euros:,.2f} EUR need your consent\n"
        "4  each payment made once, through another [bold]kill -9[/] at the worst moment\n"
        "5  a report, and the evidence that nothing was lost or done twice\n"
    )
    screen.bad_rows(books.bad_rows)


def _failed(screen: Screen, wish: Wish, last: Event) -> int:
    error = last.data.get("error", {})
    why = error.get("message") or last.data.get("reason") or "no reason given"
    screen.error(f"the run {last.type.removeprefix('run.')}: {why}. Look at it with:")
    screen.copyable(ending.command_line("show", last.run, store=wish.url))
    return CANCELLED if last.type == "run.cancelled" else FAILED
