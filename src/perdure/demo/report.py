"""What does a finance person read in the end? Renders the outcome as Markdown and as JSON; computes nothing new.

No clock and no paths: the same outcome gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from itertools import groupby

from pydantic import TypeAdapter

from perdure.demo.outcome import Finding, Kind, Match, Outcome, Rule
from perdure.demo.payments import Payment
from perdure.demo.tables import BadRow


class Status(StrEnum):
    """What became of a payment."""

    PAID = "paid"
    APPROVED = "approved and paid"
    REJECTED = "rejected"
    FAILED = "not paid"


@dataclass(frozen=True, slots=True)
class Settlement:
    """A payment and what became of it; `note` says who decided, or why it failed."""

    payment: Payment
    status: Status
    note: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that the two files say. `evidence` is what the runtime can prove, as (what, figure)."""

    invoices_file: str
    ledger_file: str
    today: date
    limit: Decimal
    outcome: Outcome
    settlements: tuple[Settlement, ...] = ()
    bad_rows: tuple[BadRow, ...] = ()
    evidence: tuple[tuple[str, str], ...] = ()
    commands: tuple[str, ...] = ()


def render_json(report: Report) -> str:
    """The whole report for programs: amounts are strings, so that no cent is lost."""
    data = TypeAdapter(Report).dump_python(report, mode="json")
    summary = {
        name.replace(",", "").replace(" ", "_").lower(): {"count": count, "eur": None if eur is None else f"{eur:.2f}"}
        for name, count, eur in _summary(report)
    }
    return json.dumps({"summary": summary, **data}, ensure_ascii=False, indent=2) + "\n"


def render_markdown(report: Report) -> str:
    """The report for people: the figures first, then what was paid, what needs a look, and why to believe it."""
    sections = (
        _opening(report),
        _table("Summary", ("", "Count", "EUR"), [(n, f"{c:,}", _euros(eur)) for n, c, eur in _summary(report)]),
        *_payments(report.settlements, report.limit),
        *_exceptions(report.outcome.findings),
        _table(
            "How the invoices were matched",
            ("Rule", "Matches", "For example"),
            [_rule_row(rule, report.outcome.matches) for rule in Rule],
        ),
        _table(
            "Rows that could not be read",
            ("File", "Line", "Reason", "The row"),
            [(row.file, str(row.line), row.reason, row.text) for row in report.bad_rows],
        ),
        _table("Evidence", ("", ""), report.evidence),
        _commands(report.commands),
    )
    return "\n".join(filter(None, sections))


def _summary(report: Report) -> list[tuple[str, int, Decimal | None]]:
    """Lines of the summary: what, how many, and EUR where that can be said."""
    outcome = report.outcome
    partly = {row for match in outcome.matches if match.rule == Rule.PARTIAL for row in match.invoices}
    settled = {row for match in outcome.matches for row in match.invoices} - partly
    matched = {row for match in outcome.matches for row in match.lines}
    held = [item for item in outcome.open if item.held]
    free = [item for item in outcome.open if not item.held]
    due = [item for item in free if item.amount > 0 and item.due <= report.today]
    later = [item for item in free if item.amount > 0 and item.due > report.today]
    credit_notes = [item for item in free if item.amount < 0]
    duplicates = sum(finding.kind == Kind.DUPLICATE for finding in outcome.findings)
    return [
        ("Invoices and credit notes read", outcome.invoices, outcome.invoiced_eur),
        ("settled by the ledger", len(settled), None),
        ("partly paid, the rest is open", len(partly), None),
        ("entered twice, not paid", duplicates, None),
        *(
            (name, len(items), sum((round(item.amount * item.rate, 2) for item in items), Decimal()))
            for name, items in (
                ("open and due", due),
                ("open, due later", later),
                ("open, held until somebody has looked", held),
                ("open credit notes", credit_notes),
            )
        ),
        ("Ledger lines read", outcome.lines, outcome.paid_eur),
        ("matched", len(matched), None),
        ("not matched", outcome.lines - len(matched), None),
        ("Rows that could not be read", len(report.bad_rows), None),
    ]


def _opening(report: Report) -> str:
    figures = {name: count for name, count, _ in _summary(report)}
    paid = [settlement.payment for settlement in report.settlements if _is_paid(settlement)]
    refused = len(report.settlements) - len(paid)
    return (
        "# Billing reconciliation\n\n"
        f"{_escape(report.invoices_file)} against {_escape(report.ledger_file)}, as of {_day(report.today)}.\n\n"
        f"- **{figures['settled by the ledger']:,} of {report.outcome.invoices:,}** invoices are settled.\n"
        f"- **{_number(len(paid), 'payment')}** over **{_euros(_total(paid))} EUR** were made"
        f"{f'; not made: {refused}' if refused else ''}.\n"
        f"- **{_number(len(report.outcome.findings), 'exception')}** and "
        f"**{_number(len(report.bad_rows), 'unreadable row')}** are waiting for somebody to look.\n"
    )


def _payments(settlements: Sequence[Settlement], limit: Decimal) -> list[str]:
    titles = {
        Status.APPROVED: "Payments made with consent",
        Status.REJECTED: "Payments rejected",
        Status.FAILED: "Payments not made",
        Status.PAID: f"Payments made without asking (up to {limit:,.2f} EUR)",
    }
    header = ("Invoice", "Supplier", "Due", "Amount", "To account", "Note")
    sections = []
    for status, title in titles.items():
        chosen = [settlement for settlement in settlements if settlement.status == status]
        total = _euros(_total(settlement.payment for settlement in chosen))
        rows = [_payment_row(settlement) for settlement in chosen]
        sections.append(_table(title, header, rows, f"{_number(len(rows), 'payment')}, {total} EUR together."))
    return sections


def _payment_row(settlement: Settlement) -> tuple[str, ...]:
    payment = settlement.payment
    notes = [settlement.note, payment.consent, f"less {', '.join(payment.credits)}" if payment.credits else ""]
    return (
        payment.number,
        payment.supplier,
        payment.due.isoformat(),
        _money(payment.amount, payment.currency),
        payment.account,
        "; ".join(filter(None, notes)),
    )


#: what each kind of exception means and what was done about it
_MEANING = {
    Kind.DUPLICATE: "Entered a second time with the same number. The copy is not paid.",
    Kind.LOOKALIKE: "The same supplier, date and amount under another number. Held: is it one invoice or two?",
    Kind.REUSED: "One number, two amounts. Held: which one is right?",
    Kind.PAID_TWICE: "The ledger pays an invoice that is settled already. Ask for the money back.",
    Kind.OVERPAID: "More was paid than billed. Ask for the difference or let it be deducted.",
    Kind.PARTIAL: "A part was paid. The rest is open and is paid when due.",
    Kind.UNCLEAR: "A payment that may belong to an open invoice. Held, so that nothing is paid twice.",
    Kind.NO_INVOICE: "Money left, and no invoice explains it.",
    Kind.NEW_ACCOUNT: "The supplier asks for payment to another account than before. Paid only with consent.",
    Kind.NO_ACCOUNT: "There is no account to pay to. Held.",
}


def _exceptions(findings: Sequence[Finding]) -> list[str]:
    sections = ["## Exceptions\n"] if findings else []
    for kind, group in groupby(findings, key=lambda finding: finding.kind):
        rows = [
            (finding.supplier, _money(finding.amount, finding.currency), finding.note, _rows_of(finding))
            for finding in group
        ]
        title = f"{kind.capitalize()} ({len(rows)})"
        sections.append(_table(title, ("Supplier", "Amount", "Why", "Where"), rows, _MEANING[kind], level=3))
    return sections


def _rows_of(finding: Finding) -> str:
    places = (("invoices", finding.invoices), ("ledger", finding.lines))
    return ", ".join(f"{file}:{row}" for file, rows in places for row in rows)


def _rule_row(rule: Rule, matches: Iterable[Match]) -> tuple[str, ...]:
    chosen = [match for match in matches if match.rule == rule]
    example = f"{', '.join(chosen[0].numbers)}: {chosen[0].note}" if chosen else "none"
    return rule.capitalize(), f"{len(chosen):,}", example


def _commands(commands: Sequence[str]) -> str:
    return "\n".join(("## To look further\n", "```sh", *commands, "```\n")) if commands else ""


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], lead: str = "", level: int = 2) -> str:
    """A titled table; nothing when it would have no rows."""
    if not rows:
        return ""
    right = {place for place, name in enumerate(header) if name in ("Count", "EUR", "Amount", "Matches", "Line")}
    rule = ["---:" if place in right else "---" for place in range(len(header))]
    lines = [header, rule, *([_escape(cell) for cell in row] for row in rows)]
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{'#' * level} {title}\n\n{f'{lead}{chr(10) * 2}' if lead else ''}{body}\n"


def _escape(text: str) -> str:
    """The text as one cell that Markdown leaves alone: names and references come from other people's files."""
    flat = " ".join(text.split()).replace("\\", "\\\\").replace("<", "&lt;")
    return "".join(f"\\{char}" if char in "|`*_[]" else char for char in flat)


def _is_paid(settlement: Settlement) -> bool:
    return settlement.status in (Status.PAID, Status.APPROVED)


def _total(payments: Iterable[Payment]) -> Decimal:
    return sum((payment.amount_eur for payment in payments), Decimal())


def _money(amount: Decimal, currency: str) -> str:
    return f"{amount:,.2f} {currency}"


def _euros(amount: Decimal | None) -> str:
    return "" if amount is None else f"{amount:,.2f}"


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _day(day: date) -> str:
    return f"{day.day} {day:%B %Y}"
