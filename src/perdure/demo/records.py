"""What do the rows say? Reads invoices, ledger lines and rates into frozen values; judges no match.

A row that makes no sense becomes a BadRow with its line and the reason. Amounts are exact decimals.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

from perdure.demo.tables import BadRow, Columns, Row, read_table

#: the files that ship with the demo: invoices.csv, ledger.csv, rates.csv
DATA = Path(__file__).parent / "data"
#: the day on which these files are looked at
AS_OF = date(2026, 3, 31)

#: what one unit of a currency is worth in EUR
Rates = dict[str, Decimal]


@dataclass(frozen=True, slots=True)
class Invoice:
    """A supplier's invoice; a credit note has a negative amount. `row` is its line in the file: numbers may repeat."""

    row: int
    number: str
    supplier: str
    issued: date
    due: date
    amount: Decimal
    currency: str
    account: str = ""
    order: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the ledger: money that left (positive) or came back (negative).

    `supplier` is who was paid, as the invoices spell it; `split_batches` fills it in.
    """

    row: int
    day: date
    amount: Decimal
    currency: str
    counterparty: str
    text: str
    supplier: str = ""


INVOICE_COLUMNS = Columns(
    required={
        "number": ("invoice number", "invoice no", "invoice", "invoice id", "number", "bill number", "Rechnungsnummer"),
        "supplier": ("supplier", "supplier name", "vendor", "vendor name", "payee", "creditor", "Lieferant"),
        "issue date": ("issue date", "invoice date", "issued", "bill date", "date", "Rechnungsdatum"),
        "due date": ("due date", "due", "payment due", "pay by", "Fälligkeit", "Fälligkeitsdatum"),
        "amount": ("amount", "invoice amount", "gross amount", "total amount", "total", "gross", "Betrag"),
        "currency": ("currency", "currency code", "ccy", "cur", "Währung"),
        "account": ("account", "IBAN", "supplier IBAN", "bank account", "account number", "Konto"),
    },
    optional={
        "order": ("PO", "PO number", "purchase order", "order", "order number", "reference", "Bestellnummer"),
    },
)

LEDGER_COLUMNS = Columns(
    required={
        "date": ("date", "booking date", "posting date", "value date", "transaction date", "Buchungstag", "Datum"),
        "amount": ("amount", "transaction amount", "value", "total", "Betrag", "Umsatz"),
        "currency": ("currency", "currency code", "ccy", "cur", "Währung"),
        "counterparty": ("counterparty", "beneficiary", "payee", "recipient", "supplier", "vendor", "Empfänger"),
        "text": ("text", "reference", "payment reference", "description", "details", "purpose", "Verwendungszweck"),
    },
    optional={},
)

RATE_COLUMNS = Columns(required={"currency": ("currency",), "rate": ("eur", "rate")}, optional={})


def read_invoices(path: Path, currencies: Collection[str] | None = None) -> tuple[list[Invoice], list[BadRow]]:
    """The invoices of a CSV file and its bad rows, each in the order of the file.

    Amounts must be in one of `currencies` (those of the shipped rates unless told). Raises InvalidInput for a file
    that is missing, empty or lacks a column.
    """
    known = currencies or read_rates().keys()
    return _read(path, INVOICE_COLUMNS, lambda row: _invoice(row, known))


def read_ledger(path: Path, currencies: Collection[str] | None = None) -> tuple[list[Line], list[BadRow]]:
    """The lines of a ledger or bank export and its bad rows, as `read_invoices` does.

    Banks write money that leaves with a minus: a file with more negative amounts than positive ones is turned round.
    """
    known = currencies or read_rates().keys()
    lines, bad = _read(path, LEDGER_COLUMNS, lambda row: _line(row, known))
    if sum(line.amount < 0 for line in lines) * 2 > len(lines):
        lines = [replace(line, amount=-line.amount) for line in lines]
    return lines, bad


def read_rates(path: Path = DATA / "rates.csv") -> Rates:
    """What one unit of each currency is worth in EUR."""
    rows, _ = read_table(path, RATE_COLUMNS)
    return {row.cells["currency"]: Decimal(row.cells["rate"]) for row in rows}


T = TypeVar("T")


def _read(path: Path, columns: Columns, parse: Callable[[Row], T]) -> tuple[list[T], list[BadRow]]:
    rows, bad = read_table(path, columns)
    good: list[T] = []
    for row in rows:
        try:
            good.append(parse(row))
        except ValueError as error:
            bad.append(BadRow(path.name, row.line, str(error), row.text))
    return good, sorted(bad, key=lambda row: row.line)


def _invoice(row: Row, currencies: Collection[str]) -> Invoice:
    return Invoice(
        row=row.line,
        number=_present(row, "number"),
        supplier=_present(row, "supplier"),
        issued=parse_date(_present(row, "issue date")),
        due=parse_date(_present(row, "due date")),
        amount=parse_amount(_present(row, "amount")),
        currency=_currency(row, currencies),
        account=row.cells["account"].replace(" ", ""),
        order=row.cells.get("order", ""),
    )


def _line(row: Row, currencies: Collection[str]) -> Line:
    return Line(
        row=row.line,
        day=parse_date(_present(row, "date")),
        amount=parse_amount(_present(row, "amount")),
        currency=_currency(row, currencies),
        counterparty=row.cells["counterparty"],
        text=row.cells["text"],
    )


def _present(row: Row, column: str) -> str:
    if not row.cells[column]:
        raise ValueError(f"the {column} is missing")
    return row.cells[column]


def _currency(row: Row, currencies: Collection[str]) -> str:
    currency = _present(row, "currency").upper()
    if currency not in currencies:
        raise ValueError(f"the currency {currency} has no rate (known are {', '.join(sorted(currencies))})")
    return currency


_ISO_DATE = re.compile(r"(?P<year>\d{4})-(?P<month>\d{2})-(?P<day>\d{2})", re.ASCII)
_DOTTED_DATE = re.compile(r"(?P<day>\d{1,2})\.(?P<month>\d{1,2})\.(?P<year>\d{4})", re.ASCII)


def parse_date(text: str) -> date:
    """The day written as 2026-03-01 or 01.03.2026. Raises ValueError with the reason.

    01/03/2026 is refused: it is January in one office and March in the next.
    """
    written = _ISO_DATE.fullmatch(text) or _DOTTED_DATE.fullmatch(text)
    if not written:
        raise ValueError(f"the date {text!r} is written neither as 2026-03-01 nor as 01.03.2026")
    try:
        return date(int(written["year"]), int(written["month"]), int(written["day"]))
    except ValueError:
        raise ValueError(f"the date {text!r} is not in the calendar") from None


_NEGATIVE = re.compile(r"^\D*[-\u2212(]|-\D*$")
_SIGNS_AND_UNITS = re.compile(r"^[-+\u2212(\s]*(?:[A-Z]{3}|[€$£])?[-+\u2212\s]*|[)\s]*(?:[A-Z]{3}|[€$£])?[-)\s]*$")
_GROUPED = re.compile(r"\d{1,3}([.,])\d{3}(?:\1\d{3})*|\d+", re.ASCII)


def parse_amount(text: str) -> Decimal:
    """The amount in two decimals, from 1234.5, 1,234.50, 1.234,50, 1 234,50, 1'234.50, -12.00, 12.00- or (12.00).

    A lone separator before exactly three digits groups thousands, since these currencies have two decimals.
    Raises ValueError with the reason.
    """
    body = re.sub(r"(?<=\d)['\u2019\s](?=\d{3})", "", _SIGNS_AND_UNITS.sub("", text))
    whole, mark, cents = _split_decimals(body)
    if not _GROUPED.fullmatch(whole) or (mark and mark in whole) or not re.fullmatch(r"\d{0,2}0*", cents, re.ASCII):
        raise ValueError(f"the amount {text!r} is not a number with two decimals")
    amount = Decimal(f"{re.sub('[.,]', '', whole)}.{cents[:2]:0<2}")
    if not amount:
        raise ValueError("the amount is zero")
    return -amount if _NEGATIVE.search(text) else amount


def _split_decimals(body: str) -> tuple[str, str, str]:
    """Whole part, decimal mark and cents."""
    place = max(body.rfind(","), body.rfind("."))
    if place < 0 or (_GROUPED.fullmatch(body) and not body.startswith("0")):
        return body, "", ""
    return body[:place], body[place], body[place + 1 :]
