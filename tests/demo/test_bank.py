"""The bank sends once for each key, whatever happened to the attempt before."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal
from multiprocessing.pool import ThreadPool

import pytest

from perdure.demo.bank import read_transfers, send
from perdure.demo.payments import Payment

PAYMENT = Payment(
    key="pay-1",
    supplier='Müller, "Bau" GmbH',
    account="DE1",
    amount=Decimal("10.50"),
    currency="USD",
    amount_eur=Decimal("9.70"),
    number="A-1",
    row=2,
    due=date(2026, 3, 1),
)


@pytest.fixture
def book(tmp_path):
    """The bank's file, not yet there."""
    return tmp_path / "payments.csv"


def test_the_same_key_is_sent_once(book):
    """The second attempt is told where the first one is."""
    assert not send(PAYMENT, book).found
    again = send(PAYMENT, book)
    assert (again.found, again.line) == (True, 2)
    assert [transfer.key for transfer in read_transfers(book)] == ["pay-1"]


def test_another_key_is_another_line(book):
    """Lines follow in the order they were sent, below one header."""
    assert [send(replace(PAYMENT, key=key), book).line for key in ("a", "b")] == [2, 3]
    assert [transfer.key for transfer in read_transfers(book)] == ["a", "b"]


def test_a_line_that_a_power_cut_tore_was_not_sent(book):
    """It is cut off before the next transfer is written, so that it neither counts nor spoils the file."""
    send(PAYMENT, book)
    whole = book.read_bytes()
    send(replace(PAYMENT, key="pay-2"), book)
    book.write_bytes(book.read_bytes()[:-9])
    assert not send(replace(PAYMENT, key="pay-2"), book).found
    assert book.read_bytes().startswith(whole)
    assert [transfer.key for transfer in read_transfers(book)] == ["pay-1", "pay-2"]


def test_a_break_in_a_name_stays_inside_its_line(book):
    """Names come from other people's files."""
    send(replace(PAYMENT, supplier="two\nlines", number="A\r\n1"), book)
    assert book.read_bytes().count(b"\n") == 2


def test_attempts_at_the_same_time_send_once(book):
    """Looking and appending are one act."""
    with ThreadPool(8) as pool:
        receipts = pool.map(lambda _: send(PAYMENT, book), range(8))
    assert sum(not receipt.found for receipt in receipts) == 1
    assert len(read_transfers(book)) == 1
