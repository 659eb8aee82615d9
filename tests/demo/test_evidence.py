"""The evidence would say so: each kind of harm is planted once, and must be found."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest

from perdure.demo.bank import Transfer
from perdure.demo.evidence import in_words, weigh
from perdure.demo.outcome import Outcome
from perdure.demo.payments import Payment
from perdure.demo.report import Report, Settlement, Status
from perdure.values.events import Event, event_data

PAYMENT = Payment("pay-1", "Acme", "DE1", Decimal(10), "EUR", Decimal(10), "A-1", 2, date(2026, 3, 1))
REPORT = Report(
    "invoices.csv", "ledger.csv", date(2026, 3, 31), Decimal(5000), Outcome(),
    (Settlement(PAYMENT, Status.PAID), Settlement(replace(PAYMENT, key="pay-2"), Status.REJECTED)),
)  # fmt: skip
SENT = Transfer("pay-1", Decimal(10))


def journal(*types: str) -> list[Event]:
    """Events of one paying step, numbered."""
    data = event_data(step=1, kind="tool", name="pay", result={"key": "pay-1", "line": 2, "found": True})
    return [Event("run", seq, name, seq, 1, 1, data) for seq, name in enumerate(types, start=1)]


FAULTS = ("effects_repeated", "effects_astray", "steps_recorded_twice")
KILLED = journal("step.started", "run.recovered", "step.started", "step.completed")


def test_a_run_that_survived_a_kill_is_sound():
    """One step in flight at the kill ran again, found its payment, and nothing is repeated or missing."""
    evidence = weigh("run", [], KILLED, [SENT], REPORT)
    assert evidence.sound
    assert (evidence.recoveries, evidence.steps_replayed, evidence.steps_repeated) == (1, (0,), 1)
    assert evidence.transfers_found == 1


@pytest.mark.parametrize(
    ("events", "transfers", "fault"),
    [
        (KILLED, [SENT, SENT], "effects_repeated"),
        (KILLED, [], "effects_astray"),
        (KILLED, [SENT, Transfer("pay-2", Decimal(10))], "effects_astray"),
        (journal("step.started", "step.completed", "step.completed"), [SENT], "steps_recorded_twice"),
    ],
    ids=["sent twice", "never sent", "sent though rejected", "recorded twice"],
)
def test_planted_harm_is_found(events, transfers, fault):
    """Exactly the figure of that harm is one, and the run is not sound."""
    evidence = weigh("run", [], events, transfers, REPORT)
    assert {name for name in FAULTS if getattr(evidence, name)} == {fault}
    assert not evidence.sound


def test_words_do_not_hide_harm():
    """What a person reads says that report and file differ."""
    words = dict(in_words(weigh("run", [], KILLED, [], REPORT)))
    assert words["Payments missing or extra"].startswith("1: report and payments.csv differ")
