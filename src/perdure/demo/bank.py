"""The demo's bank: a file to which transfers are appended. It sends once for each key, whoever asks how often."""

from __future__ import annotations

import csv
import fcntl
import io
import os
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from perdure.demo.payments import Payment

FIELDS = ("key", "account", "amount", "currency", "amount_eur", "text", "supplier")


@dataclass(frozen=True, slots=True)
class Receipt:
    """The bank's answer. `found`: the transfer was there, sent by an attempt that did not live to say so."""

    key: str
    line: int
    found: bool


@dataclass(frozen=True, slots=True)
class Transfer:
    """A line of the file, as far as the evidence needs it."""

    key: str
    amount_eur: Decimal


def send(payment: Payment, file: Path) -> Receipt:
    """Append the transfer and force it to disk, unless one with its key is there."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    with os.fdopen(descriptor, "r+b") as book:
        fcntl.flock(book, fcntl.LOCK_EX)  # looking and appending are one act
        text = book.read()
        whole = text[: text.rfind(b"\n") + 1]
        if whole != text:
            book.truncate(len(whole))  # a power cut tore the last line: nobody was told that it was sent
        transfers = _transfers(whole)
        for line, transfer in enumerate(transfers, start=2):
            if transfer.key == payment.key:
                return Receipt(payment.key, line, found=True)
        book.write((b"" if whole else _line(FIELDS)) + _line(_fields(payment)))
        book.flush()
        os.fsync(book.fileno())
        return Receipt(payment.key, len(transfers) + 2, found=False)


def read_transfers(file: Path) -> list[Transfer]:
    """Every transfer that was sent, in order."""
    return _transfers(file.read_bytes()) if file.exists() else []


def _transfers(text: bytes) -> list[Transfer]:
    rows = csv.DictReader(io.StringIO(text.decode(), newline=""))
    return [Transfer(row["key"], Decimal(row["amount_eur"])) for row in rows]


def _fields(payment: Payment) -> tuple[object, ...]:
    return (
        payment.key,
        payment.account,
        payment.amount,
        payment.currency,
        payment.amount_eur,
        " ".join(payment.text.split()),
        " ".join(payment.supplier.split()),
    )


def _line(fields: tuple[object, ...]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(fields)
    return text.getvalue().encode()
