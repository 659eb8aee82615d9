"""Real files, as spreadsheets and banks write them, are read; what cannot be read is reported."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from perdure.demo.records import DATA, parse_amount, parse_date, read_invoices, read_ledger, read_rates
from perdure.errors import InvalidInput

HEADER = "Invoice No,Supplier,Issue Date,Due Date,Amount,Currency,PO,IBAN"
ROW = "INV-1,Müller Bau,2026-03-01,31.03.2026,1234.50,EUR,PO-7,DE00 1234"


def written(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    """A file of invoices with that text."""
    path = folder / "invoices.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_an_invoice_is_read_with_its_row_dates_and_amount(tmp_path: Path) -> None:
    """Every column arrives in its type."""
    [invoice], bad = read_invoices(written(tmp_path, f"{HEADER}\n{ROW}\n"))
    assert not bad
    assert (invoice.row, invoice.number, invoice.supplier) == (2, "INV-1", "Müller Bau")
    assert (invoice.issued, invoice.due) == (date(2026, 3, 1), date(2026, 3, 31))
    assert (invoice.amount, invoice.currency) == (Decimal("1234.50"), "EUR")
    assert (invoice.order, invoice.account) == ("PO-7", "DE001234")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_encodings_delimiters_and_line_ends_make_no_difference(
    tmp_path: Path, encoding: str, delimiter: str, newline: str
) -> None:
    """The same rows come out of every dialect."""
    text = f"{HEADER}\n{ROW}\n".replace(",", delimiter).replace("\n", newline)
    [invoice], bad = read_invoices(written(tmp_path, text, encoding))
    assert (invoice.supplier, invoice.amount, bad) == ("Müller Bau", Decimal("1234.50"), [])


def test_headers_are_known_by_their_common_names(tmp_path: Path) -> None:
    """Case, order and the usual synonyms do not matter."""
    text = 'total,VENDOR,ccy,iban,invoice_date,"DUE",Invoice Number\n5,Acme,usd,X,2026-01-01,2026-02-01,7\n'
    [invoice], bad = read_invoices(written(tmp_path, text))
    assert (invoice.number, invoice.supplier, invoice.amount, invoice.currency) == ("7", "Acme", Decimal(5), "USD")
    assert not bad


def test_a_missing_column_is_one_error_that_names_it(tmp_path: Path) -> None:
    """The column, the file and the headers that were found are in the message."""
    with pytest.raises(InvalidInput) as caught:
        read_invoices(written(tmp_path, "Number,Supplier,Date,Due,Currency,IBAN\n"))
    message = str(caught.value)
    assert "invoices.csv has no column for the amount" in message
    assert "Number, Supplier, Date, Due, Currency, IBAN" in message


@pytest.mark.parametrize("text", ["", "\n\n", "\ufeff"])
def test_an_empty_file_is_a_clear_error(tmp_path: Path, text: str) -> None:
    """Nothing to read is said in words, not by a traceback of the reader."""
    with pytest.raises(InvalidInput, match=r"invoices\.csv is empty"):
        read_invoices(written(tmp_path, text))


def test_a_file_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    """The path is in the message."""
    with pytest.raises(InvalidInput, match=r"nowhere\.csv"):
        read_ledger(tmp_path / "nowhere.csv")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("1234.50", "", "the amount is missing"),
        ("1234.50", "12,34.5.6", "is not a number"),
        ("1234.50", "0.00", "the amount is zero"),
        ("2026-03-01", "2026-02-30", "not in the calendar"),
        ("2026-03-01", "01/03/2026", "neither as 2026-03-01 nor as 01.03.2026"),
        ("EUR", "XBT", "the currency XBT has no rate"),
        ("INV-1", "", "the number is missing"),
        ("PO-7", "PO-7,oops", "9 fields where the header has 8"),
        ("INV-1", '"INV-1" x', "the quotes of this row are broken"),
        ("INV-1", '"INV-1', "the quotes of this row are broken"),
    ],
)
def test_a_bad_row_is_reported_with_its_line_and_the_rows_around_it_are_read(
    tmp_path: Path, old: str, new: str, reason: str
) -> None:
    """One bad row costs one row."""
    text = "\n".join((HEADER, ROW, "", ROW.replace(old, f'"{new}"' if "," in new and "." in new else new), ROW))
    invoices, [bad] = read_invoices(written(tmp_path, text))
    assert [invoice.row for invoice in invoices] == [2, 5]
    assert (bad.file, bad.line) == ("invoices.csv", 4)
    assert reason in bad.reason


def test_a_row_after_a_quoted_line_break_has_its_true_line(tmp_path: Path) -> None:
    """Lines are counted as an editor counts them."""
    text = "\n".join((HEADER, ROW.replace("Müller Bau", '"Müller\nBau"'), ROW))
    invoices, bad = read_invoices(written(tmp_path, text))
    assert ([invoice.row for invoice in invoices], bad) == ([2, 4], [])


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("1234.5", "1234.50"),
        ("1,234.50", "1234.50"),
        ("1.234,50", "1234.50"),
        ("1 234,50", "1234.50"),
        ("1'234.50", "1234.50"),
        ("1\u202f234,50", "1234.50"),
        ("1.234", "1234.00"),
        ("1,234,567", "1234567.00"),
        ("12.5000", "12.50"),
        ("-12.00", "-12.00"),
        ("12.00-", "-12.00"),
        ("(12.00)", "-12.00"),
        ("EUR -12.00", "-12.00"),
        ("€ 12", "12.00"),
        ("12,00 USD", "12.00"),
    ],
)
def test_amounts_are_read_as_people_write_them(text: str, amount: str) -> None:
    """Separators, signs and units in the usual places."""
    assert str(parse_amount(text)) == amount


@pytest.mark.parametrize("text", ["abc", "", "1e5", "1.2.3", "12,34,567", "0.123", "1..2", "١٢", "--", "5 5"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    """No guess is made about money."""
    with pytest.raises(ValueError, match="is not a number with two decimals"):
        parse_amount(text)


def test_dates_are_read_in_two_formats() -> None:
    """ISO and dotted days are the same day."""
    assert parse_date("2026-03-01") == parse_date("01.03.2026") == parse_date("1.3.2026") == date(2026, 3, 1)


def test_a_bank_file_with_outgoing_money_as_negative_is_turned_round(tmp_path: Path) -> None:
    """Banks write a payment with a minus; money that came back then has none."""
    path = tmp_path / "bank.csv"
    path.write_text(
        "Booking date;Amount;Currency;Beneficiary;Purpose\n"
        "01.03.2026;-1.234,50;EUR;Acme;INV-1\n02.03.2026;-20,00;EUR;Acme;INV-2\n03.03.2026;5,00;EUR;Acme;Refund\n"
    )
    lines, bad = read_ledger(path)
    assert ([str(line.amount) for line in lines], bad) == (["1234.50", "20.00", "-5.00"], [])


def test_every_row_of_the_sample_is_read_or_reported() -> None:
    """Rows that are read and rows that are bad add up to the file, and the bad ones are those that were made bad."""
    truth = json.loads(Path(__file__).with_name("truth.json").read_text())
    invoices, bad_invoices = read_invoices(DATA / "invoices.csv")
    lines, bad_lines = read_ledger(DATA / "ledger.csv")
    assert [row.line for row in bad_invoices] == truth["bad_invoices"]
    assert [row.line for row in bad_lines] == truth["bad_lines"]
    assert len(invoices) + len(bad_invoices) == len((DATA / "invoices.csv").read_text("utf-8").splitlines()) - 1
    assert len(lines) + len(bad_lines) == len((DATA / "ledger.csv").read_text("utf-8").splitlines()) - 1


def test_rates_are_euros_for_one_unit() -> None:
    """The euro itself is worth one."""
    rates = read_rates()
    assert rates["EUR"] == 1
    assert rates.keys() == {"EUR", "USD", "GBP", "CHF"}
