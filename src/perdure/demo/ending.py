"""How does the show end? Counts the evidence, adds it to the report, and shows where to look further."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from perdure.demo.agent import Job, reconcile
from perdure.demo.bank import read_transfers
from perdure.demo.evidence import Evidence, Kill, in_words, weigh
from perdure.demo.filing import FILES, file_report, read_report
from perdure.demo.screen import Screen, counted
from perdure.store.urls import without_passwords
from perdure.values.events import Event
from perdure.values.json import encode, plain


@dataclass(frozen=True, slots=True)
class Ending:
    """What there is to show of a run that succeeded."""

    evidence: Evidence
    facts: Sequence[tuple[str, str]]
    commands: Sequence[str]
    #: the run's result, as the journal has it
    result: dict[str, Any]
    files: dict[str, Path]


def conclude(store: str, run: str, journal: Sequence[Event], kills: Sequence[Kill], seconds: float) -> Ending:
    """Weigh the evidence and write the report once more, with it."""
    job: Job = reconcile.signature.validate_json(encode(journal[0].data["input"]))["job"]
    report = read_report(job.out)
    evidence = weigh(run, kills, journal, read_transfers(job.transfers), report)
    facts = (*in_words(evidence), ("Time", f"{seconds:.1f} s"))
    commands = tuple(_look_further(run, store, journal))
    file_report(replace(report, evidence=facts, commands=commands), job.out)
    files = {name: job.out / name for name in FILES if (job.out / name).exists()}
    return Ending(evidence, facts, commands, journal[-1].data["result"], files)


def show(ending: Ending, screen: Screen) -> None:
    """The last screen."""
    count = ending.result["payments"]
    paid = f"{counted(count, 'payment')} over {Decimal(ending.result['paid_eur']):,.2f} EUR"
    screen.title(f"Done: {paid}{', each made once' if count and ending.evidence.sound else ''}")
    screen.facts(ending.facts)
    screen.title("Read")
    for file in ending.files.values():
        screen.copyable(_shown(file))
    screen.title("Look further")
    for command in ending.commands:
        screen.copyable(command)


def as_json(ending: Ending) -> str:
    """The same for programs: one line."""
    data = {
        "run": ending.evidence.run,
        "status": "succeeded",
        "result": ending.result,
        "evidence": plain(ending.evidence),
        "files": plain(ending.files),
        "commands": ending.commands,
    }
    return json.dumps(data, ensure_ascii=False)


def command_line(*words: str, store: str) -> str:
    """A command that works when pasted: `perdure` from the path, else the one beside this Python.

    A password is not shown: such a store is named by PERDURE_STORE, which is set or has to be.
    """
    beside = Path(sys.executable).with_name("perdure")
    program = ["perdure"]
    if shutil.which("perdure") is None:
        program = [_shown(beside)] if beside.exists() else [sys.executable, "-m", "perdure"]
    named = ["--store", store] if store == without_passwords(store) else []
    return shlex.join([*program, *words, *named])


def _look_further(run: str, store: str, journal: Sequence[Event]) -> list[str]:
    """The fork is made where a person was asked, else at the first payment, else at the end."""
    asked = [event.step for event in journal if event.type == "approval.requested"]
    paid = [event.step for event in journal if event.type == "step.started" and event.data["name"] == "pay"]
    step = [*asked, *paid, max(event.step or 0 for event in journal)][0]
    return [
        command_line("show", run, store=store),
        command_line("events", run, store=store),
        command_line("fork", run, "--at", str(step), store=store),
        command_line("runs", store=store),
    ]


def _shown(path: Path) -> str:
    """The path as one would type it here."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
