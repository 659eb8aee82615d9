"""What did each supplier's lines pay, what is still open, and what needs a person? Pure: same rows, same answer."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal

from perdure.demo.outcome import Finding, Kind, Match, OpenItem, Outcome, Rule, merge
from perdure.demo.records import Invoice, Line, Rates
from perdure.demo.references import Numbers, canonical, supplier_key
from perdure.demo.rules import NOTHING, RULES, Desk, anyhow

#: the usual account of a supplier is known after so many invoices
ACCOUNT_KNOWN_MIN = 3
#: a number that more invoices share names none of them (a column of constants, say)
NAMESAKES_MAX = 20


def match_batch(invoices: Sequence[Invoice], lines: Sequence[Line], rates: Rates) -> Outcome:
    """Match one batch of `split_batches`.

    Every invoice ends up in a match, among the duplicates or among the open items (a partly paid one is matched and
    open), every line in a match or a finding.
    """
    bills: dict[str, list[Invoice]] = defaultdict(list)
    for invoice in invoices:
        bills[supplier_key(invoice.supplier)].append(invoice)
    payments: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        payments[supplier_key(line.supplier)].append(line)
    keys = sorted(bills.keys() | payments.keys())
    return merge(_match_supplier(bills[key], payments[key], rates) for key in keys)


def _match_supplier(invoices: Sequence[Invoice], lines: Sequence[Line], rates: Rates) -> Outcome:
    originals, duplicates = _without_copies(invoices)
    matches: list[Match] = []
    desk = _desk(originals, lines, rates)
    for rule in RULES:
        found = rule(desk)
        matches += found
        desk = desk.without(found)
    findings = [*duplicates, *_inexact(matches), *_leftovers(desk)]
    items, doubts = _open_items(originals, matches, findings, rates)
    return Outcome(
        matches=tuple(matches),
        findings=(*findings, *doubts),
        open=tuple(items),
        invoices=len(invoices),
        lines=len(lines),
        invoiced_eur=sum((round(bill.amount * rates[bill.currency], 2) for bill in originals), NOTHING),
        paid_eur=sum((round(line.amount * rates[line.currency], 2) for line in lines), NOTHING),
    )


def _desk(invoices: Sequence[Invoice], lines: Sequence[Line], rates: Rates) -> Desk:
    bills: dict[str, list[Invoice]] = defaultdict(list)
    for invoice in invoices:
        bills[canonical(invoice.number)].append(invoice)
    numbers = Numbers(number for number, alike in bills.items() if len(alike) <= NAMESAKES_MAX)
    return Desk(
        supplier=invoices[0].supplier if invoices else "",
        invoices={invoice.row: invoice for invoice in invoices},
        lines={line.row: line for line in lines},
        readings={line.row: numbers.read(line.text) for line in lines},
        bills=bills,
        lookalikes=_lookalikes(invoices),
        rates=rates,
    )


def _without_copies(invoices: Iterable[Invoice]) -> tuple[list[Invoice], list[Finding]]:
    """The invoices once each, and a finding for every one that was entered again: same number, same amount."""
    first: dict[tuple[str, Decimal, str], Invoice] = {}
    findings = []
    for invoice in sorted(invoices, key=lambda invoice: invoice.row):
        original = first.setdefault((canonical(invoice.number), invoice.amount, invoice.currency), invoice)
        if original is not invoice:
            note = f"{invoice.number} is {original.number} of row {original.row} once more"
            findings.append(_about(invoice, Kind.DUPLICATE, note))
    return list(first.values()), findings


def _lookalikes(invoices: Iterable[Invoice]) -> frozenset[int]:
    """The rows that repeat an earlier invoice under another number."""
    first: dict[tuple[Decimal, str, date], int] = {}
    return frozenset(bill.row for bill in invoices if first.setdefault(_alike(bill), bill.row) != bill.row)


def _alike(invoice: Invoice) -> tuple[Decimal, str, date]:
    """What two invoices of a supplier share when they may be one, billed twice."""
    return invoice.amount, invoice.currency, invoice.issued


def _inexact(matches: Iterable[Match]) -> list[Finding]:
    """A finding for every match that leaves money to talk about."""
    kinds = {Rule.OVERPAID: Kind.OVERPAID, Rule.PARTIAL: Kind.PARTIAL}
    return [
        Finding(
            kind=kinds[match.rule],
            supplier=match.supplier,
            note=f"{match.numbers[0]}: {match.note}",
            amount=abs(match.difference),
            currency=match.currency,
            invoices=match.invoices,
            lines=match.lines,
        )
        for match in matches
        if match.rule in kinds
    ]


def _leftovers(desk: Desk) -> list[Finding]:
    """A finding for every line that no rule took; lines that may pay the same invoices share one."""
    by_money: dict[tuple[Decimal, str], list[Invoice]] = defaultdict(list)
    for invoice in desk.invoices.values():
        by_money[invoice.amount, invoice.currency].append(invoice)
    findings = []
    guesses: dict[tuple[Decimal, str], list[Line]] = defaultdict(list)
    for line in desk.lines.values():
        money = line.amount, line.currency
        if by_money[money] and not desk.named(line, anyhow) and not desk.named_ever(line):
            guesses[money].append(line)
        else:
            findings.append(_leftover(desk, line))
    return findings + [_guess(desk, by_money[money], lines) for money, lines in guesses.items()]


def _leftover(desk: Desk, line: Line) -> Finding:
    """Why no rule took the line, and which open invoices it names all the same."""
    candidates = desk.named(line, anyhow)
    settled = [bill for bill in desk.named_ever(line) if bill.row not in desk.invoices]
    kind = Kind.UNCLEAR
    if settled and line.amount > 0:
        kind, candidates = Kind.PAID_TWICE, settled
        note = f"names {settled[0].number}, which is settled: ask {desk.supplier} for the money back"
    elif settled:
        candidates, note = settled, f"money back for {settled[0].number}, which is settled"
    elif candidates:
        note = f"may mean {_either(candidates)}, but the amount does not fit"
    elif desk.supplier:
        kind, note = Kind.NO_INVOICE, f"fits no invoice of {desk.supplier}"
    else:
        kind, note = Kind.NO_INVOICE, "neither the name nor the text belongs to an invoice"
    return _about_lines(kind, desk, [line], candidates, note)


def _guess(desk: Desk, candidates: Sequence[Invoice], lines: Sequence[Line]) -> Finding:
    note = f"the amount is that of {_either(candidates)}, but the text does not say so"
    return _about_lines(Kind.UNCLEAR, desk, lines, candidates, note)


def _about_lines(kind: Kind, desk: Desk, lines: Sequence[Line], candidates: Sequence[Invoice], note: str) -> Finding:
    line = lines[0]
    return Finding(
        kind=kind,
        supplier=desk.supplier or line.counterparty,
        note=f"{line.text or 'no text'}: {note}",
        amount=line.amount,
        currency=line.currency,
        invoices=tuple(bill.row for bill in candidates),
        lines=tuple(line.row for line in lines),
    )


def _either(invoices: Sequence[Invoice]) -> str:
    more = f" and {len(invoices) - 3} more" if len(invoices) > 3 else ""
    return " or ".join(invoice.number for invoice in invoices[:3]) + more


def _open_items(
    invoices: Sequence[Invoice], matches: Iterable[Match], findings: Iterable[Finding], rates: Rates
) -> tuple[list[OpenItem], list[Finding]]:
    """What is still to pay, and a finding for each item that must not be paid just like that."""
    left = {invoice.row: invoice.amount for invoice in invoices}
    for match in matches:
        for row in match.invoices:
            left[row] = -match.difference if match.rule == Rule.PARTIAL else NOTHING
    unclear = {row: finding for finding in findings if finding.kind == Kind.UNCLEAR for row in finding.invoices}
    doubt_about = _doubts(invoices, left)
    items: list[OpenItem] = []
    doubts: list[Finding] = []
    for invoice in invoices:
        if left[invoice.row]:
            doubt = unclear.get(invoice.row) or doubt_about(invoice)
            items.append(_open_item(invoice, left[invoice.row], rates[invoice.currency], doubt))
            if doubt and doubt.kind != Kind.UNCLEAR:
                doubts.append(doubt)
    return items, doubts


def _doubts(invoices: Sequence[Invoice], left: Mapping[int, Decimal]) -> Callable[[Invoice], Finding | None]:
    """A function that tells why a person should look before an invoice is paid, if there is a reason."""
    by_number: dict[str, Invoice] = {}
    alike: dict[tuple[Decimal, str, date], list[Invoice]] = defaultdict(list)
    for invoice in invoices:
        by_number.setdefault(canonical(invoice.number), invoice)
        alike[_alike(invoice)].append(invoice)
    accounts = Counter(invoice.account for invoice in invoices if invoice.account)
    usual, times = accounts.most_common(1)[0] if accounts else ("", 0)

    def doubt(invoice: Invoice) -> Finding | None:
        first = by_number[canonical(invoice.number)]
        if first is not invoice:
            note = f"{invoice.number} is also in row {first.row}, over {first.amount:,.2f} {first.currency}"
            return _about(invoice, Kind.REUSED, note)
        for other in alike[_alike(invoice)]:
            if other.row < invoice.row or (other is not invoice and not left[other.row]):
                note = f"{invoice.number} has the amount and date of {other.number} (row {other.row})"
                return _about(invoice, Kind.LOOKALIKE, note)
        if not invoice.account:
            return _about(invoice, Kind.NO_ACCOUNT, f"{invoice.number} names no account to pay to")
        if invoice.account != usual and times >= ACCOUNT_KNOWN_MIN:
            note = f"{invoice.number} asks for payment to {invoice.account}, not to {usual} as {times} others do"
            return _about(invoice, Kind.NEW_ACCOUNT, note)
        return None

    return doubt


def _open_item(invoice: Invoice, amount: Decimal, rate: Decimal, doubt: Finding | None) -> OpenItem:
    note = doubt.note if doubt else ""
    payable = doubt is None or doubt.kind == Kind.NEW_ACCOUNT
    return OpenItem(
        row=invoice.row,
        number=invoice.number,
        supplier=invoice.supplier,
        account=invoice.account,
        due=invoice.due,
        amount=amount,
        currency=invoice.currency,
        rate=rate,
        held="" if payable else note,
        caution=note if payable else "",
    )


def _about(invoice: Invoice, kind: Kind, note: str) -> Finding:
    return Finding(kind, invoice.supplier, note, invoice.amount, invoice.currency, (invoice.row,))
