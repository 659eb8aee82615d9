"""What did the matching find? The values that travel from batches to payments and report, all plain data for JSON.

Invoices and lines are named by their row in the file, since a number may occur twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum


class Rule(StrEnum):
    """Why an invoice and a ledger line belong together; the rules are tried in this order."""

    EXACT = "exact"
    SEVERAL = "one payment for several"
    REFERENCE = "corrected reference"
    SPLIT = "split payment"
    ORDER = "purchase order"
    AMOUNT = "amount and supplier"
    ROUNDING = "rounding"
    CURRENCY = "other currency"
    FEE = "bank fee"
    PARTIAL = "partly paid"
    OVERPAID = "overpaid"


class Kind(StrEnum):
    """Why something needs a person's eye."""

    DUPLICATE = "duplicate invoice"
    LOOKALIKE = "possible duplicate"
    REUSED = "number used twice"
    PAID_TWICE = "paid again"
    OVERPAID = "overpaid"
    PARTIAL = "partly paid"
    UNCLEAR = "unclear payment"
    NO_INVOICE = "payment without invoice"
    NEW_ACCOUNT = "changed account"
    NO_ACCOUNT = "no account"


@dataclass(frozen=True, slots=True)
class Match:
    """These lines paid these invoices, says `rule`; `note` tells it to a person.

    `paid` and `difference` (paid less invoiced) are in the currency of the invoices.
    """

    rule: Rule
    supplier: str
    numbers: tuple[str, ...]
    invoices: tuple[int, ...]
    lines: tuple[int, ...]
    paid: Decimal
    difference: Decimal
    currency: str
    note: str


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that the rules will not decide, in one sentence, with the rows it is about."""

    kind: Kind
    supplier: str
    note: str
    amount: Decimal
    currency: str
    invoices: tuple[int, ...] = ()
    lines: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class OpenItem:
    """What is still to pay of an invoice (negative: a credit note).

    `held` says why it must not be paid yet, `caution` why a person should consent; `rate` is EUR for one unit of the
    currency.
    """

    row: int
    number: str
    supplier: str
    account: str
    due: date
    amount: Decimal
    currency: str
    rate: Decimal
    held: str = ""
    caution: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one batch, or of all: outcomes merge into an outcome."""

    matches: tuple[Match, ...] = ()
    findings: tuple[Finding, ...] = ()
    open: tuple[OpenItem, ...] = ()
    invoices: int = 0
    lines: int = 0
    invoiced_eur: Decimal = Decimal("0.00")
    paid_eur: Decimal = Decimal("0.00")


def merge(outcomes: Iterable[Outcome]) -> Outcome:
    """All outcomes as one, in the order of the files, whatever order the batches came in."""
    parts = list(outcomes)
    return Outcome(
        matches=tuple(sorted((match for part in parts for match in part.matches), key=lambda match: match.invoices)),
        findings=tuple(sorted((item for part in parts for item in part.findings), key=_finding_order)),
        open=tuple(sorted((item for part in parts for item in part.open), key=lambda item: item.row)),
        invoices=sum(part.invoices for part in parts),
        lines=sum(part.lines for part in parts),
        invoiced_eur=sum((part.invoiced_eur for part in parts), Decimal("0.00")),
        paid_eur=sum((part.paid_eur for part in parts), Decimal("0.00")),
    )


def _finding_order(finding: Finding) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    return list(Kind).index(finding.kind), finding.invoices, finding.lines
