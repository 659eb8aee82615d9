"""`perdure demo`: says what will happen, lets it happen, and shows the evidence."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from perdure.demo.agent import Books, Job, read_books, reconcile
from perdure.demo.bank import read_transfers
from perdure.demo.evidence import Evidence, in_words, weigh
from perdure.demo.filing import FILES, file_report, read_report, set_aside
from perdure.demo.records import AS_OF, DATA
from perdure.demo.screen import Screen
from perdure.demo.stage import pause
from perdure.demo.story import Left, Story
from perdure.errors import InvalidSetting, PerdureError
from perdure.runtime import Runtime
from perdure.store.contract import RunFilter
from perdure.values.events import Event
from perdure.values.json import plain
from perdure.values.runs import Run

OK, FAILED, WAITING, CANCELLED = 0, 1, 3, 4


@dataclass(frozen=True, slots=True)
class Wish:
    """What the person asked for."""

    store: str
    yes: bool
    invoices: Path | None
    ledger: Path | None
    limit: Decimal
    out: Path
    as_json: bool


def main(
    store: str | None, yes: bool, invoices: Path | None, ledger: Path | None, limit: Decimal, out: Path, as_json: bool
) -> int:
    """Play the demo: begin a run, or go on with one that was left. Returns the exit code.

    store: default, a file in `out`. yes: approve in the person's place. invoices, ledger: default, the shipped files.
    limit: EUR above which a payment needs consent. as_json: one JSON object on stdout, the show on stderr.
    Exit codes: 0 done; 1 failed; 3 left before the end (the same command goes on); 4 cancelled by somebody.
    """
    wish = Wish(store or f"sqlite:///{out / 'demo.db'}", yes, invoices, ledger, limit, out, as_json)
    screen = Screen(to_stderr=as_json)
    try:
        return asyncio.run(_play(wish, screen))
    except (KeyboardInterrupt, Left):
        screen.title("Stopped. The worker has shut down; what was done is on disk.")
        screen.say("To go on from there:")
        screen.copyable(_command("demo", "--store", wish.store, "--out", str(out)))
        return WAITING
    except (PerdureError, OSError) as error:
        screen.error(str(error))
        return FAILED


async def _play(wish: Wish, screen: Screen) -> int:
    began = time.monotonic()
    if wish.store.startswith("memory:"):
        raise InvalidSetting("the demo kills its worker, so its store must outlive it: --store sqlite:///demo.db")
    wish.out.mkdir(parents=True, exist_ok=True)
    async with Runtime(wish.store) as runtime:
        run, batches = await _begin_or_continue(runtime, wish, screen)
        story = Story(runtime, screen, wish.store, run.id, yes=wish.yes)
        await story.play(batches)
        journal = await runtime.journal(run.id)
        last = journal[-1]
        if last.type != "run.succeeded":
            screen.error(f"{run.id} {last.type.removeprefix('run.')}: {last.raw}")
            screen.copyable(_command("show", run.id, "--store", wish.store))
            return CANCELLED if last.type == "run.cancelled" else FAILED
        job = _job_of(journal)
        report = read_report(job.out)
        evidence = weigh(run.id, story.kills, journal, read_transfers(job.transfers), report)
        commands = _look_further(run.id, wish.store, journal)
        facts = (*in_words(evidence), ("Time", f"{time.monotonic() - began:.1f} s"))
        file_report(replace(report, evidence=facts, commands=tuple(commands)), job.out)
    _conclude(screen, job, last, facts, commands)
    if wish.as_json:
        _print_json(evidence, job, last, commands)
    if not evidence.sound:
        screen.error("these figures do not agree, which must never happen. Please report it, with the store.")
        return FAILED
    return OK


async def _begin_or_continue(runtime: Runtime, wish: Wish, screen: Screen) -> tuple[Run, int | None]:
    """The run to play, and of how many batches it is if that is known yet."""
    earlier = await runtime.runs(RunFilter(agent=reconcile.name))
    left = next((run for run in earlier if not run.status.terminal and run.forked_from is None), None)
    if left is not None:
        screen.title("Perdure demo")
        screen.say(f"Going on with {left.id}, which was left before its end, with its files and its limit.")
        return left, None
    job = _job(wish)
    books = read_books(job.invoices, job.ledger)  # a file that cannot be used is refused before a run exists
    _introduce(screen, wish, books)
    await pause(3.0)
    set_aside(wish.out)
    handle = await runtime.start(reconcile, job)
    return await handle.status(), len(books.batches)


def _job(wish: Wish) -> Job:
    shipped = wish.invoices is None and wish.ledger is None
    return Job(
        invoices=(wish.invoices or DATA / "invoices.csv").resolve(),
        ledger=(wish.ledger or DATA / "ledger.csv").resolve(),
        out=wish.out.resolve(),
        limit=wish.limit,
        today=AS_OF if shipped else datetime.now(UTC).astimezone().date(),
    )


def _job_of(journal: Sequence[Event]) -> Job:
    arguments = reconcile.signature.validate_json(json.dumps(journal[0].data["input"]))
    job: Job = arguments["job"]
    return job


def _introduce(screen: Screen, wish: Wish, books: Books) -> None:
    invoices = sum(len(batch.invoices) for batch in books.batches)
    lines = sum(len(batch.lines) for batch in books.batches)
    screen.title("Perdure demo: an agent pays bills, and is killed twice while it does")
    screen.say(
        f"It matches {invoices:,} invoices with {lines:,} ledger lines and pays what is due:\n\n"
        "1  a worker process runs the agent; its journal is on disk\n"
        "2  [bold]kill -9[/] half-way: a new worker goes on where the old one was\n"
        f"3  you are asked for your consent to payments above {wish.limit:,.2f} EUR\n"
        "4  each payment is made once, through another [bold]kill -9[/] at the worst moment\n"
        "5  a report, and the evidence that nothing was lost or done twice\n"
    )
    screen.bad_rows(books.bad_rows)


def _conclude(screen: Screen, job: Job, last: Event, facts: Sequence[tuple[str, str]], commands: Sequence[str]) -> None:
    result = last.data["result"]
    screen.title(f"Done: {result['payments']:,} payments over {Decimal(result['paid_eur']):,.2f} EUR, each made once")
    screen.facts(facts)
    screen.title("Read")
    for name in FILES:
        screen.copyable(_shown(job.out / name))
    screen.title("Look further")
    for command in commands:
        screen.copyable(command)


def _look_further(run: str, store: str, journal: Sequence[Event]) -> list[str]:
    """Commands to paste. The fork is made where a person was asked, else at the first payment, else at the end."""
    asked = [event.step for event in journal if event.type == "approval.requested"]
    paid = [event.step for event in journal if event.type == "step.started" and event.data["name"] == "pay"]
    step = [*asked, *paid, max(event.step or 0 for event in journal)][0]
    return [
        _command("show", run, "--store", store),
        _command("events", run, "--store", store),
        _command("fork", run, "--at", str(step), "--store", store),
        _command("runs", "--store", store),
    ]


def _print_json(evidence: Evidence, job: Job, last: Event, commands: Sequence[str]) -> None:
    data = {
        "run": evidence.run,
        "status": "succeeded",
        "result": last.data["result"],
        "evidence": plain(evidence),
        "files": {name: str(job.out / name) for name in FILES},
        "commands": list(commands),
    }
    sys.stdout.write(f"{json.dumps(data, ensure_ascii=False)}\n")


def _command(*words: str) -> str:
    """A command line that works when pasted: `perdure` from the path, else the one beside this Python."""
    beside = Path(sys.executable).with_name("perdure")
    program = ["perdure"]
    if shutil.which("perdure") is None:
        program = [_shown(beside)] if beside.exists() else [sys.executable, "-m", "perdure"]
    return shlex.join([*program, *words])


def _shown(path: Path) -> str:
    """The path as one would type it here."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
