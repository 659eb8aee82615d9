"""What is to be paid today, and what of it needs a person's consent? Decides; pays nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal

from perdure.demo.outcome import OpenItem, Outcome
from perdure.demo.references import Numbers, canonical, supplier_key
from perdure.demo.tables import BadRow


@dataclass(frozen=True, slots=True)
class Payment:
    """Money to send for one invoice, less the credit notes it absorbs.

    `key` is the same whenever this invoice is looked at again: use it to pay once. `consent` says why a person must
    agree first; empty when nobody must.
    """

    key: str
    supplier: str
    account: str
    amount: Decimal
    currency: str
    amount_eur: Decimal
    number: str
    row: int
    due: date
    credits: tuple[str, ...] = ()
    consent: str = ""

    @property
    def text(self) -> str:
        """What to write on the transfer."""
        return " less ".join((self.number, *self.credits))


def payments_due(outcome: Outcome, today: date, limit: Decimal, unreadable: Sequence[BadRow] = ()) -> list[Payment]:
    """What is due on or before `today`, the most urgent first, one payment for an invoice.

    Nothing that is held is paid. Credit notes are taken off the supplier's first due invoice that is larger. A payment
    of more than `limit` EUR, to a changed account, or of an invoice that one of the `unreadable` rows of the ledger
    names, needs consent.
    """
    owed = [item for item in outcome.open if not item.held]
    payments: dict[str, Payment] = {}
    for item in sorted(owed, key=lambda item: (item.due, item.row)):
        if item.amount > 0 and item.due <= today:
            payments.setdefault(_key(item), _payment(item))
    for credit in owed:
        if credit.amount < 0:
            _absorb(credit, payments)
    named = _named(payments.values(), unreadable)
    return [replace(payment, consent=_consent(payment, limit, named)) for payment in payments.values()]


def _key(item: OpenItem) -> str:
    identity = f"{supplier_key(item.supplier)}|{canonical(item.number)}"
    return f"pay-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"


def _payment(item: OpenItem) -> Payment:
    return Payment(
        key=_key(item),
        supplier=item.supplier,
        account=item.account,
        amount=item.amount,
        currency=item.currency,
        amount_eur=round(item.amount * item.rate, 2),
        number=item.number,
        row=item.row,
        due=item.due,
        consent=item.caution,
    )


def _absorb(credit: OpenItem, payments: dict[str, Payment]) -> None:
    """Take the credit note off the first payment to its supplier that is larger; without one it stays open."""
    for key, payment in payments.items():
        same_party = supplier_key(payment.supplier) == supplier_key(credit.supplier)
        amount = payment.amount + credit.amount
        if same_party and payment.currency == credit.currency and amount > 0:
            payments[key] = replace(
                payment,
                amount=amount,
                amount_eur=round(amount * credit.rate, 2),
                credits=(*payment.credits, credit.number),
            )
            return


def _named(payments: Iterable[Payment], unreadable: Iterable[BadRow]) -> dict[str, BadRow]:
    """The rows that could not be read, by the number of the invoice that each may have paid already."""
    numbers = Numbers(payment.number for payment in payments)
    return {reading.number: row for row in unreadable for reading in numbers.read(row.text) if not reading.fault}


def _consent(payment: Payment, limit: Decimal, named: Mapping[str, BadRow]) -> str:
    row = named.get(canonical(payment.number))
    reasons = (
        f"more than {limit:,.2f} EUR" if payment.amount_eur > limit else "",
        f"row {row.line} of {row.file} names it and could not be read" if row else "",
        payment.consent,
    )
    return "; ".join(filter(None, reasons))
