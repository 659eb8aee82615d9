"""How is the work cut up? By supplier, so that everything that could match is in one batch; decides no match."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from perdure.demo.records import Invoice, Line
from perdure.demo.references import Numbers, Suppliers, canonical, supplier_key


@dataclass(frozen=True, slots=True)
class Batch:
    """Some suppliers' invoices and every line that may have paid them. `name` says whose they are."""

    name: str
    invoices: tuple[Invoice, ...]
    lines: tuple[Line, ...]


def split_batches(invoices: Sequence[Invoice], lines: Sequence[Line], count: int = 32) -> list[Batch]:
    """About `count` batches of whole suppliers, in alphabetical order and of similar size; the same for the same input.

    Lines that belong to no supplier are the last batch. Every line is told its supplier here, once, because only
    here all invoices are in view: a number that is unique in a batch may belong to somebody else as well.
    """
    bills: dict[str, list[Invoice]] = defaultdict(list)
    for invoice in invoices:
        bills[supplier_key(invoice.supplier)].append(invoice)
    payments: dict[str, list[Line]] = defaultdict(list)
    for line, key in zip(lines, _owners(invoices, lines), strict=True):
        payments[key].append(replace(line, supplier=bills[key][0].supplier) if key else line)
    nobody = payments.pop("", [])

    rows = len(invoices) + len(lines) - len(nobody)
    place: dict[str, int] = {}
    before = 0
    for key in sorted(bills):
        place[key] = before * count // max(rows, 1)
        before += len(bills[key]) + len(payments[key])
    batches = [
        _batch([bill for key in keys for bill in bills[key]], [line for key in keys for line in payments[key]])
        for keys in (list(group) for _, group in groupby(sorted(bills), key=place.__getitem__))
    ]
    return [*batches, Batch("lines of no supplier", (), tuple(nobody))] if nobody else batches


def _batch(invoices: list[Invoice], lines: list[Line]) -> Batch:
    first, last = invoices[0].supplier, invoices[-1].supplier
    return Batch(first if first == last else f"{first} to {last}", tuple(invoices), tuple(lines))


def _owners(invoices: Sequence[Invoice], lines: Iterable[Line]) -> Iterable[str]:
    """Whose each line is: the supplier it names, else the only one whose invoices it names, else nobody's."""
    suppliers = Suppliers({invoice.supplier for invoice in invoices})
    numbers = Numbers(invoice.number for invoice in invoices)
    billed: dict[str, list[Invoice]] = defaultdict(list)
    for invoice in invoices:
        billed[canonical(invoice.number)].append(invoice)
    known: dict[str, str] = {}
    for line in lines:
        if line.counterparty not in known:
            known[line.counterparty] = suppliers.recognise(line.counterparty)
        yield known[line.counterparty] or _owner_by_number(line, numbers, billed)


def _owner_by_number(line: Line, numbers: Numbers, billed: dict[str, list[Invoice]]) -> str:
    readings = numbers.read(line.text)
    named = [invoice for reading in readings if not reading.fault for invoice in billed[reading.number]]
    meant = [invoice for reading in readings for invoice in billed[reading.number]]
    # A mistyped number alone is no evidence in a line that names no known supplier; with the very amount it is.
    paid = [invoice for invoice in named or meant if invoice.amount == line.amount]
    for candidates in (named, paid):
        owners = {supplier_key(invoice.supplier) for invoice in candidates}
        if len(owners) == 1:
            return owners.pop()
    return ""
