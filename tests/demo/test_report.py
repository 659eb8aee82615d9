"""The report says what happened, to people and to programs, and cannot be broken by the text of a file."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal

import pytest

from perdure.demo.batches import split_batches
from perdure.demo.matching import match_batch
from perdure.demo.outcome import Outcome, Rule, merge
from perdure.demo.payments import payments_due
from perdure.demo.records import AS_OF, DATA, read_invoices, read_ledger, read_rates
from perdure.demo.report import Report, Settlement, Status, render_json, render_markdown
from perdure.demo.tables import BadRow

LIMIT = Decimal(5000)


@pytest.fixture(scope="module")
def report() -> Report:
    """The report of the shipped files: what needs consent was approved, except one payment."""
    invoices, bad_invoices = read_invoices(DATA / "invoices.csv")
    lines, bad_lines = read_ledger(DATA / "ledger.csv")
    outcome = merge(match_batch(batch.invoices, batch.lines, read_rates()) for batch in split_batches(invoices, lines))
    settlements = [
        Settlement(payment, Status.APPROVED if payment.consent else Status.PAID)
        for payment in payments_due(outcome, AS_OF, LIMIT, bad_lines)
    ]
    first = next(place for place, settlement in enumerate(settlements) if settlement.status == Status.APPROVED)
    settlements[first] = replace(settlements[first], status=Status.REJECTED, note="not ours, says finance")
    return Report(
        invoices_file="invoices.csv",
        ledger_file="ledger.csv",
        today=AS_OF,
        limit=LIMIT,
        outcome=outcome,
        settlements=tuple(settlements),
        bad_rows=(*bad_invoices, *bad_lines),
        evidence=(("Effects repeated", "0"),),
        commands=("perdure runs",),
    )


def test_the_report_has_every_section_once(report: Report) -> None:
    """Figures first, then payments, exceptions, matches, bad rows and evidence."""
    headings = [line for line in render_markdown(report).splitlines() if line.startswith("## ")]
    assert headings == [
        "## Summary",
        "## Payments made with consent",
        "## Payments rejected",
        "## Payments made without asking (up to 5,000.00 EUR)",
        "## Exceptions",
        "## How the invoices were matched",
        "## Rows that could not be read",
        "## Evidence",
        "## To look further",
    ]


def test_every_payment_exception_and_bad_row_is_in_the_report(report: Report) -> None:
    """Nothing is left out, and every rule has its count."""
    text = render_markdown(report)
    for settlement in report.settlements:
        assert text.count(f"| {settlement.payment.number} | {settlement.payment.supplier} |") == 1
    assert text.count("| invoices:") + text.count("| ledger:") == len(report.outcome.findings)
    assert all(f"| {row.file} | {row.line} | " in text for row in report.bad_rows)
    assert all(f"| {rule.capitalize()} | " in text for rule in Rule)
    assert "not ours, says finance" in text


def test_the_figures_add_up(report: Report) -> None:
    """Invoices are settled, partly paid, entered twice or open; lines are matched or not."""
    summary = json.loads(render_json(report))["summary"]
    count = {name: figure["count"] for name, figure in summary.items()}
    unpaid = ("open_and_due", "open_due_later", "open_held_until_somebody_has_looked", "open_credit_notes")
    closed = ("settled_by_the_ledger", "entered_twice_not_paid")
    assert sum(count[name] for name in (*closed, *unpaid)) == count["invoices_and_credit_notes_read"]
    assert count["matched"] + count["not_matched"] == count["ledger_lines_read"]
    made = [settlement.payment.amount_eur for settlement in report.settlements if settlement.status != Status.REJECTED]
    assert f"**{len(made)} payments** over **{sum(made):,.2f} EUR** were made; not made: 1." in render_markdown(report)


def test_programs_get_every_cent(report: Report) -> None:
    """Amounts are strings in JSON, and every match carries its rule and its note."""
    data = json.loads(render_json(report))
    assert data["settlements"][0]["payment"]["amount"] == str(report.settlements[0].payment.amount)
    assert len(data["outcome"]["matches"]) == len(report.outcome.matches)
    assert all(match["rule"] and match["note"] for match in data["outcome"]["matches"])


def test_the_same_outcome_gives_the_same_bytes(report: Report) -> None:
    """No clock, no order of a set, no path in it."""
    assert render_markdown(report) == render_markdown(report)
    assert render_json(report) == render_json(report)


def test_text_from_a_file_cannot_break_a_table() -> None:
    """A bar, a line break or a tag in a row stays inside its cell."""
    row = BadRow("a.csv", 2, "broken", "x | y\n# <b>z</b>")
    text = render_markdown(Report("a.csv", "b.csv", AS_OF, LIMIT, Outcome(), bad_rows=(row,)))
    assert "| a.csv | 2 | broken | x \\| y # &lt;b>z&lt;/b> |" in text.splitlines()


def test_an_empty_outcome_is_a_short_report() -> None:
    """Sections without rows are left out."""
    text = render_markdown(Report("a.csv", "b.csv", AS_OF, LIMIT, Outcome()))
    assert "**0 payments** over **0.00 EUR** were made." in text
    assert "## Exceptions" not in text
