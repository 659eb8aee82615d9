"""The invoices and payments of the sample in the making, and what is true of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from random import Random

from perdure.demo.records import AS_OF, read_rates
from perdure.demo.sample.suppliers import SUPPLIERS, Supplier, as_banks_write, supplier_at


@dataclass
class Bill:
    """An invoice or credit note on its way into the file; `row` is its line once all are there."""

    supplier: Supplier
    number: str
    issued: date
    due: date
    amount: Decimal
    account: str
    order: str
    row: int = 0

    def cells(self, rng: Random) -> tuple[str, ...]:
        dates = _as_written(rng, self.issued, self.due)
        return (
            *(self.number, self.supplier.name, *dates, _money(rng, self.amount)),
            *(self.supplier.currency, self.order, self.account),
        )


@dataclass
class Payment:
    """A ledger line on its way into the file."""

    day: date
    amount: Decimal
    currency: str
    counterparty: str
    text: str
    row: int = 0

    def cells(self, rng: Random) -> tuple[str, ...]:
        return *_as_written(rng, self.day), _money(rng, self.amount), self.currency, self.counterparty, self.text


@dataclass
class Bad:
    """A row that no reader can make sense of."""

    raw: tuple[str, ...]
    row: int = 0

    def cells(self, _: Random) -> tuple[str, ...]:
        return self.raw


Draft = Bill | Payment | Bad


_WORDINGS = ("{n}", "{n}", "Invoice {n}", "Payment {n}", "Rechnung {n} vom {d:%d.%m.%Y}", "{n} / {o}", "Ref. {n}")


class Books:
    """The files in the making, and what is true of them."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.rates = read_rates()
        self.suppliers = [supplier_at(rng, place) for place in range(SUPPLIERS)]
        self.bills: list[Bill] = []
        self.lines: list[Payment] = []
        self.matches: list[tuple[str, list[Bill], list[Payment]]] = []
        self.marked: dict[str, list[Draft]] = {}
        self.next_order = 41_000

    def bill(self, low: int = 35, high: int = 4_200, *, foreign: bool = False) -> Bill:
        """One more invoice, of an amount between `low` and `high` EUR that its supplier has not used yet."""
        supplier = self.rng.choice([s for s in self.suppliers if not foreign or s.currency != "EUR"])
        issued = date(2025, 11, 3) + timedelta(days=self.rng.randrange(112))
        self.next_order += self.rng.randrange(1, 9)
        bill = Bill(
            supplier=supplier,
            number=self.number(supplier),
            issued=issued,
            due=issued + timedelta(days=self.rng.choice((14, 30, 30, 45))),
            amount=self.amount(supplier, low, high),
            account=supplier.account,
            order=f"PO-{self.next_order}",
        )
        self.bills.append(bill)
        return bill

    def again(self, bill: Bill, number: str = "", amount: Decimal | None = None) -> Bill:
        """Another invoice like that one, under the supplier's next number unless told."""
        copy = replace(bill, number=number or self.number(bill.supplier), amount=amount or bill.amount)
        self.bills.append(copy)
        return copy

    def credit(self, bill: Bill) -> Bill:
        """A credit note over a part of the invoice."""
        share = round(bill.amount * self.rng.randrange(10, 40) / 100, 2)
        return self.again(bill, f"CN-{self.number(bill.supplier)}", -share)

    def number(self, supplier: Supplier) -> str:
        """The supplier's next number; it has other customers too, so some are left out."""
        supplier.next_number += self.rng.randrange(1, 6)
        return supplier.style.format(supplier.next_number)

    def amount(self, supplier: Supplier, low: int, high: int) -> Decimal:
        """Between `low` and `high` EUR, in the supplier's currency; never the same twice for one supplier."""
        while True:
            euros = math.exp(self.rng.uniform(math.log(low), math.log(high)))
            amount = round(Decimal(f"{euros:.2f}") / self.rates[supplier.currency], 2)
            if amount not in supplier.amounts:
                supplier.amounts.add(amount)
                return amount

    def pay(self, bill: Bill, text: str, amount: Decimal | None = None, currency: str = "", late: int = 0) -> Payment:
        """A ledger line to the bill's supplier around its due date."""
        day = min(bill.due + timedelta(days=self.rng.randrange(-6, 7) + late), AS_OF)
        line = Payment(
            day=max(day, bill.issued),
            amount=bill.amount if amount is None else amount,
            currency=currency or bill.supplier.currency,
            counterparty=as_banks_write(self.rng, bill.supplier.name),
            text=text,
        )
        self.lines.append(line)
        return line

    def matched(self, category: str, bills: Sequence[Bill], lines: Sequence[Payment]) -> None:
        """It is true that these lines pay these bills."""
        self.matches.append((category, list(bills), list(lines)))

    def mark(self, name: str, *rows: Draft) -> None:
        """It is true of these rows what the name says."""
        self.marked.setdefault(name, []).extend(rows)

    def wording(self, bill: Bill) -> str:
        """How a payer names the invoice without a slip."""
        return self.rng.choice(_WORDINGS).format(n=bill.number, d=bill.issued, o=bill.order)


def _as_written(rng: Random, *days: date) -> list[str]:
    style = "%d.%m.%Y" if rng.random() < 0.3 else "%Y-%m-%d"
    return [day.strftime(style) for day in days]


def _money(rng: Random, amount: Decimal) -> str:
    return f"{amount:,.2f}" if rng.random() < 0.25 else f"{amount:.2f}"
