"""Which lines paid which invoices of one supplier? Each rule looks at what is left on the desk and returns its matches.

A rule is pure, claims a row at most once, and leaves alone what it is not sure of: a wrong match costs money, a missing
one costs a look. The rules run in the order of `RULES`, the surest first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from perdure.demo.outcome import Match, Rule
from perdure.demo.records import Invoice, Line, Rates
from perdure.demo.references import Numbers, Reading, canonical, names_a_number

#: cents that nobody writes a letter about
ROUNDING_MAX = Decimal("0.05")
#: how far a converted payment may be off, as a share of the invoice: the bank's rate and its fee
EXCHANGE_SHARE_MAX = Decimal("0.03")
#: what banks keep of a payment abroad, in the currency of the invoice
FEE_MAX = Decimal("25.00")

NOTHING = Decimal("0.00")

#: which faults of a reading to forgive ("" is none)
Forgiving = Callable[[str], bool]


def flawless(fault: str) -> bool:
    """Forgive nothing: the number is there, whatever its case and punctuation."""
    return not fault


def anyhow(_fault: str) -> bool:
    """Forgive everything."""
    return True


def _abridged(fault: str) -> bool:
    """Forgive what people do in lists: INV-1023/1024/1025."""
    return fault in ("", "the prefix is missing")


@dataclass(frozen=True, slots=True)
class Desk:
    """One supplier's invoices and lines that are not matched yet, by row, and what the lines name."""

    supplier: str
    invoices: Mapping[int, Invoice]
    lines: Mapping[int, Line]
    readings: Mapping[int, tuple[Reading, ...]]
    #: all invoices by their number in canonical form, matched or not
    bills: Mapping[str, Sequence[Invoice]]
    #: invoices that look like an earlier one under another number; only their own number speaks for them
    lookalikes: frozenset[int]
    rates: Rates

    def without(self, matches: Iterable[Match]) -> Desk:
        """The desk after the matched rows are taken off it."""
        invoices = {row for match in matches for row in match.invoices}
        lines = {row for match in matches for row in match.lines}
        return replace(
            self,
            invoices={row: invoice for row, invoice in self.invoices.items() if row not in invoices},
            lines={row: line for row, line in self.lines.items() if row not in lines},
        )

    def named(self, line: Line, faults: Forgiving = flawless) -> list[Invoice]:
        """The open invoices that the line names: without a fault, unless told which faults to forgive."""
        return [bill for bill in self.named_ever(line, faults) if bill.row in self.invoices]

    def named_ever(self, line: Line, faults: Forgiving = flawless) -> list[Invoice]:
        """The invoices that the line names, settled or not."""
        numbers = [reading.number for reading in self.readings[line.row] if faults(reading.fault)]
        return [bill for number in numbers for bill in self.bills[number]]

    def correction(self, line: Line, invoice: Invoice) -> str:
        """How the line's text was read, when it does not have the invoice's number to the letter."""
        for reading in self.readings[line.row]:
            if reading.number == canonical(invoice.number) and reading.written != invoice.number:
                fault = f" ({reading.fault})" if reading.fault else ""
                return f"reference {reading.written} read as {invoice.number}{fault}"
        return ""


def same_money(invoice: Invoice, line: Line) -> bool:
    """Does the line have the invoice's amount to the cent, in its currency?"""
    return invoice.amount == line.amount and invoice.currency == line.currency


def exact(desk: Desk) -> list[Match]:
    """A line names an invoice and pays it to the cent. Of two such lines the first counts."""
    matches: list[Match] = []
    taken: set[int] = set()
    for line in _by_date(desk.lines.values()):
        for invoice in desk.named(line):
            if invoice.row not in taken and same_money(invoice, line):
                taken.add(invoice.row)
                note = desk.correction(line, invoice)
                rule = Rule.REFERENCE if note else Rule.EXACT
                matches.append(_match(rule, [invoice], [line], line.amount, note or "number and amount agree"))
                break
    return matches


def several(desk: Desk) -> list[Match]:
    """A line names several invoices or credit notes and pays their sum."""
    matches: list[Match] = []
    taken: set[int] = set()
    for line in _by_date(desk.lines.values()):
        for faults in flawless, _abridged:
            invoices = desk.named(line, faults)
            total = sum((invoice.amount for invoice in invoices), NOTHING)
            alike = {invoice.currency for invoice in invoices} == {line.currency}
            free = taken.isdisjoint(invoice.row for invoice in invoices)
            if len(invoices) > 1 and alike and free and abs(total - line.amount) <= ROUNDING_MAX:
                taken.update(invoice.row for invoice in invoices)
                credit_notes = sum(invoice.amount < 0 for invoice in invoices)
                note = f"one payment for {_count(len(invoices) - credit_notes, 'invoice')}"
                note += f" less {_count(credit_notes, 'credit note')}" if credit_notes else ""
                matches.append(_match(Rule.SEVERAL, invoices, [line], line.amount, note))
                break
    return matches


def reference(desk: Desk) -> list[Match]:
    """A line names an invoice with a slip of the pen and pays it to the cent; nothing else comes into question."""
    claims: dict[int, list[tuple[Invoice, Line]]] = defaultdict(list)
    for line in _by_date(desk.lines.values()):
        meant = [invoice for invoice in desk.named(line, bool) if same_money(invoice, line)]
        again = any(same_money(invoice, line) for invoice in desk.named_ever(line))
        if len(meant) == 1 and not again:
            claims[meant[0].row].append((meant[0], line))
    return [
        _match(Rule.REFERENCE, [invoice], [line], line.amount, desk.correction(line, invoice))
        for [(invoice, line)] in (pairs for pairs in claims.values() if len(pairs) == 1)
    ]


def split(desk: Desk) -> list[Match]:
    """Several lines name one invoice, mistyped or not, and add up to it."""
    matches = []
    for invoice, lines in _by_invoice(desk, flawless, anyhow):
        total = sum((line.amount for line in lines), NOTHING)
        alike = {line.currency for line in lines} == {invoice.currency}
        if len(lines) > 1 and alike and abs(total - invoice.amount) <= ROUNDING_MAX:
            notes = [f"split over {len(lines)} lines", *(desk.correction(line, invoice) for line in lines)]
            matches.append(_match(Rule.SPLIT, [invoice], lines, total, "; ".join(filter(None, dict.fromkeys(notes)))))
    return matches


def order(desk: Desk) -> list[Match]:
    """A line names no invoice but a purchase order, and pays the one invoice of that order, or all of them."""
    orders: dict[str, list[Invoice]] = defaultdict(list)
    for invoice in desk.invoices.values():
        if invoice.order and invoice.row not in desk.lookalikes:
            orders[canonical(invoice.order)].append(invoice)
    numbers = Numbers(orders)
    matches: list[Match] = []
    for line in _by_date(desk.lines.values()):
        readings = [] if desk.named_ever(line) else numbers.read(line.text)
        named = [reading.number for reading in readings if not reading.fault]
        invoices = [invoice for number in named for invoice in orders[number]]
        fitting = [[invoice] for invoice in invoices if same_money(invoice, line)]
        if not fitting and len(invoices) > 1 and {invoice.currency for invoice in invoices} == {line.currency}:
            fitting = [invoices] if sum(invoice.amount for invoice in invoices) == line.amount else []
        if len(named) == 1 and len(fitting) == 1:
            note = f"no invoice number, but order {fitting[0][0].order}, whose amount it is"
            matches.append(_match(Rule.ORDER, fitting[0], [line], line.amount, note))
            orders[named[0]] = [invoice for invoice in invoices if invoice not in fitting[0]]
    return matches


def amount(desk: Desk) -> list[Match]:
    """A line names nothing at all, and one open invoice of the supplier has its very amount."""
    lines: dict[tuple[Decimal, str], list[Line]] = defaultdict(list)
    for line in _by_date(desk.lines.values()):
        if not desk.readings[line.row] and not names_a_number(line.text):
            lines[line.amount, line.currency].append(line)
    invoices: dict[tuple[Decimal, str], list[Invoice]] = defaultdict(list)
    for invoice in desk.invoices.values():
        if invoice.row not in desk.lookalikes:
            invoices[invoice.amount, invoice.currency].append(invoice)
    note = f"no reference, but the only open invoice of {desk.supplier} over this amount"
    return [
        _match(Rule.AMOUNT, invoices[money], payments, payments[0].amount, note)
        for money, payments in lines.items()
        if len(payments) == len(invoices[money]) == 1 and invoices[money][0].issued <= payments[0].day
    ]


def settle(desk: Desk) -> list[Match]:
    """Lines name one invoice and pay about it, a part of it, or more than it."""
    matches = []
    for invoice, lines in _by_invoice(desk, flawless):
        paid = sum((_converted(line, invoice.currency, desk.rates) for line in lines), NOTHING)
        foreign = {line.currency for line in lines} != {invoice.currency}
        if (paid > 0) == (invoice.amount > 0):
            rule, note = _verdict(invoice, lines, paid, foreign)
            matches.append(_match(rule, [invoice], lines, paid, note))
    return matches


def _verdict(invoice: Invoice, lines: Sequence[Line], paid: Decimal, foreign: bool) -> tuple[Rule, str]:
    short = abs(invoice.amount) - abs(paid)
    off = f"{abs(short):,.2f} {invoice.currency}"
    share = abs(short) / abs(invoice.amount)
    if foreign and share <= EXCHANGE_SHARE_MAX:
        sums = " and ".join(f"{line.amount:,.2f} {line.currency}" for line in lines)
        return Rule.CURRENCY, f"paid as {sums}; fee and exchange difference {off} ({share:.1%})"
    if abs(short) <= ROUNDING_MAX:
        return Rule.ROUNDING, f"rounding difference of {off}"
    if invoice.currency != "EUR" and 0 < short <= FEE_MAX and share <= EXCHANGE_SHARE_MAX:
        return Rule.FEE, f"a bank on the way kept {off}"
    if short > 0:
        return Rule.PARTIAL, f"{off} of {abs(invoice.amount):,.2f} are still open after {_count(len(lines), 'payment')}"
    return Rule.OVERPAID, f"paid {off} too much in {_count(len(lines), 'payment')}"


#: the surest first: a number written out and to the cent, then sums, then slips, then no number, then what is left over
RULES: tuple[Callable[[Desk], list[Match]], ...] = (exact, several, reference, split, order, amount, settle)


def _by_invoice(desk: Desk, *forgiving: Forgiving) -> list[tuple[Invoice, list[Line]]]:
    """Each open invoice with the lines that name it and no other open one; the less forgiving reading counts."""
    groups: dict[int, list[Line]] = defaultdict(list)
    for line in _by_date(desk.lines.values()):
        for faults in forgiving:
            rows = [invoice.row for invoice in desk.named(line, faults)]
            if rows:
                if len(rows) == 1:
                    groups[rows[0]].append(line)
                break
    return [(desk.invoices[row], lines) for row, lines in sorted(groups.items())]


def _match(rule: Rule, invoices: Sequence[Invoice], lines: Sequence[Line], paid: Decimal, note: str) -> Match:
    return Match(
        rule=rule,
        supplier=invoices[0].supplier,
        numbers=tuple(invoice.number for invoice in invoices),
        invoices=tuple(invoice.row for invoice in invoices),
        lines=tuple(line.row for line in lines),
        paid=paid,
        difference=paid - sum((invoice.amount for invoice in invoices), NOTHING),
        currency=invoices[0].currency,
        note=note,
    )


def _converted(line: Line, currency: str, rates: Rates) -> Decimal:
    if line.currency == currency:
        return line.amount
    return round(line.amount * rates[line.currency] / rates[currency], 2)


def _by_date(lines: Iterable[Line]) -> list[Line]:
    return sorted(lines, key=lambda line: (line.day, line.row))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
