"""Make the demo's files: invoices, a ledger that pays them the way people pay, and the truth about both.

Seeded: the same seed and scale give the same bytes on every machine. `python -m perdure.demo.generate FOLDER
[--scale N]` writes invoices.csv, ledger.csv and truth.json. Names, numbers and accounts are invented.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from perdure.demo.sample.books import Bad, Books, Draft
from perdure.demo.sample.cases import BAD_INVOICES, BAD_LINES, CASES

SEED = 20260331

INVOICE_HEADER = ("Invoice No", "Supplier", "Issue Date", "Due Date", "Amount", "Currency", "PO", "IBAN")
LEDGER_HEADER = ("Date", "Amount", "Currency", "Counterparty", "Reference")


@dataclass(frozen=True)
class Files:
    """The text of the three files."""

    invoices: str
    ledger: str
    truth: str


def generate(scale: int = 1, seed: int = SEED) -> Files:
    """About 1,100 invoices and 1,050 ledger lines for each unit of scale."""
    books = Books(Random(seed))  # noqa: S311 - dice for invented data, not for secrets
    for case, count in CASES.items():
        for _ in range(count * scale):
            case(books)
    bills = sorted(books.bills, key=lambda bill: bill.issued)
    lines = sorted(books.lines, key=lambda line: line.day)
    invoices = _numbered(books.rng, bills, BAD_INVOICES)
    ledger = _numbered(books.rng, lines, BAD_LINES)
    return Files(
        invoices=_csv(INVOICE_HEADER, [row.cells(books.rng) for row in invoices]),
        ledger=_csv(LEDGER_HEADER, [row.cells(books.rng) for row in ledger]),
        truth=_truth(books, invoices, ledger),
    )


def write(folder: Path, scale: int = 1) -> None:
    """Write the three files into the folder, replacing what is there."""
    files = generate(scale)
    for name, text in (("invoices.csv", files.invoices), ("ledger.csv", files.ledger), ("truth.json", files.truth)):
        (folder / name).write_text(text, encoding="utf-8", newline="")


def _numbered(rng: Random, rows: Sequence[Draft], bad: Sequence[tuple[str, ...]]) -> list[Draft]:
    """The rows with the bad ones strewn in, told their line in the file."""
    mixed = list(rows)
    for raw in bad:
        mixed.insert(rng.randrange(len(mixed)), Bad(raw))
    for line, row in enumerate(mixed, start=2):
        row.row = line
    return mixed


def _csv(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()


def _truth(books: Books, invoices: Sequence[Draft], ledger: Sequence[Draft]) -> str:
    """By row in the file: which lines pay which invoices, category by category, and what everything else is."""
    matches: dict[str, list[list[list[int]]]] = {}
    for category, bills, lines in books.matches:
        matches.setdefault(category, []).append([[bill.row for bill in bills], sorted(line.row for line in lines)])
    truth = {
        "matches": {category: sorted(pairs) for category, pairs in matches.items()},
        **{name: sorted(row.row for row in rows) for name, rows in books.marked.items()},
        "bad_invoices": [row.row for row in invoices if isinstance(row, Bad)],
        "bad_lines": [row.row for row in ledger if isinstance(row, Bad)],
    }
    return json.dumps(truth, separators=(",", ":")) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make the demo's files.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scale", type=int, default=1)
    arguments = parser.parse_args()
    write(arguments.folder, arguments.scale)
