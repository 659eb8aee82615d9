"""Was anything lost or done twice? Counted from journal, bank and report, which know nothing of each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from perdure.demo.bank import Transfer
from perdure.demo.report import Report, Status
from perdure.values.events import Event


@dataclass(frozen=True, slots=True)
class Kill:
    """A worker that was killed, and what the store held when it was gone."""

    pid: int
    signal: int
    scene: str
    events: int
    steps_completed: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """The figures; every one that should be zero says so."""

    run: str
    kills: tuple[Kill, ...]
    #: in the journal
    events: int
    steps: int
    #: times a worker took the run over from one that died
    recoveries: int
    #: steps that were there at each recovery, and were read instead of run
    steps_replayed: tuple[int, ...]
    #: steps that were in flight at a kill and ran again
    steps_repeated: int
    #: completions that the journal holds twice: should be 0
    steps_recorded_twice: int
    #: lines in the bank's file
    transfers: int
    paid_eur: Decimal
    #: payments that were attempted again, found themselves in the file, and were not sent again
    transfers_found: int
    #: keys that are in the file more than once: should be 0
    effects_repeated: int
    #: payments that only one of report and file knows: should be 0
    effects_astray: int
    bad_rows: int

    @property
    def sound(self) -> bool:
        """True when nothing was lost and nothing done twice."""
        return not (self.steps_recorded_twice or self.effects_repeated or self.effects_astray)


def weigh(
    run: str, kills: Sequence[Kill], events: Sequence[Event], transfers: Sequence[Transfer], report: Report
) -> Evidence:
    """The evidence on one run."""
    completed = [event for event in events if event.type == "step.completed"]
    recoveries = [event.seq for event in events if event.type == "run.recovered"]
    starts = Counter(event.step for event in events if event.type == "step.started")
    sent = Counter(transfer.key for transfer in transfers)
    made = {item.payment.key for item in report.settlements if item.status in (Status.PAID, Status.APPROVED)}
    return Evidence(
        run=run,
        kills=tuple(kills),
        events=len(events),
        steps=len({event.step for event in events if event.step is not None}),
        recoveries=len(recoveries),
        steps_replayed=tuple(sum(event.seq < seq for event in completed) for seq in recoveries),
        steps_repeated=sum(count > 1 for count in starts.values()),
        steps_recorded_twice=len(completed) - len({event.step for event in completed}),
        transfers=len(transfers),
        paid_eur=sum((transfer.amount_eur for transfer in transfers), Decimal("0.00")),
        transfers_found=sum(event.data["name"] == "pay" and event.data["result"]["found"] for event in completed),
        effects_repeated=sum(count - 1 for count in sent.values()),
        effects_astray=len(made ^ sent.keys()),
        bad_rows=len(report.bad_rows),
    )


def in_words(evidence: Evidence) -> list[tuple[str, str]]:
    """The evidence as (what, figure), for the report and the screen."""
    replayed = ", then ".join(f"{count:,}" for count in evidence.steps_replayed)
    again = evidence.steps_repeated
    return [
        ("Run", evidence.run),
        ("Crashes survived", f"{evidence.recoveries}{_killed(evidence)}"),
        ("Events in the journal", f"{evidence.events:,}, of {evidence.steps:,} steps"),
        ("Steps replayed", f"{replayed}: read from the journal, not run again" if replayed else "0"),
        ("Steps run again", f"{again}, in flight when their worker died" if again else "0"),
        ("Steps recorded twice", f"{evidence.steps_recorded_twice}"),
        ("Lines in payments.csv", f"{evidence.transfers:,} over {evidence.paid_eur:,.2f} EUR"),
        ("Effects repeated", f"{evidence.effects_repeated}{_found(evidence.transfers_found)}"),
        ("Payments missing or extra", f"{evidence.effects_astray}: report and payments.csv {_agreement(evidence)}"),
        ("Rows that could not be read", f"{evidence.bad_rows:,}"),
    ]


def _killed(evidence: Evidence) -> str:
    if evidence.kills:
        return "; kill -9 of " + ", ".join(f"worker {kill.pid} while {kill.scene}" for kill in evidence.kills)
    return "" if evidence.recoveries else ": there was too little work for a kill in the middle"


def _found(count: int) -> str:
    return f": {count} payment tried again, found in the file, not sent twice" if count else ""


def _agreement(evidence: Evidence) -> str:
    return "differ" if evidence.effects_astray else "agree"
