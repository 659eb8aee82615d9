"""The matcher finds what is true of the sample, and nothing else; the rest is told to a person."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from decimal import Decimal
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from perdure.demo.batches import Batch, split_batches
from perdure.demo.generate import write
from perdure.demo.matching import match_batch
from perdure.demo.outcome import Finding, Kind, Outcome, Rule, merge
from perdure.demo.payments import Payment, payments_due
from perdure.demo.records import AS_OF, DATA, Invoice, Line, read_invoices, read_ledger, read_rates
from perdure.demo.tables import BadRow

LIMIT = Decimal(5000)
DAY = date(2026, 3, 1)
TRUTH: dict[str, Any] = json.loads(Path(__file__).with_name("truth.json").read_text())
RATES = read_rates()


def matched(invoices: list[Invoice], lines: list[Line]) -> Outcome:
    """What the batches of these rows give together."""
    return merge(match_batch(batch.invoices, batch.lines, RATES) for batch in split_batches(invoices, lines))


@pytest.fixture(scope="module")
def sample() -> Outcome:
    """The outcome of the files that ship."""
    return matched(read_invoices(DATA / "invoices.csv")[0], read_ledger(DATA / "ledger.csv")[0])


def pairs(outcome: Outcome) -> set[tuple[int, int]]:
    """Every invoice with every line that paid it."""
    return {(invoice, line) for match in outcome.matches for invoice in match.invoices for line in match.lines}


def true_pairs(truth: dict[str, Any], category: str) -> set[tuple[int, int]]:
    """The pairs that are true of a category."""
    return {(bill, line) for bills, lines in truth["matches"][category] for bill in bills for line in lines}


def rows(findings: tuple[Finding, ...], kind: Kind, of: Callable[[Finding], tuple[int, ...]]) -> list[int]:
    """The rows that the findings of a kind are about."""
    return sorted(row for finding in findings if finding.kind == kind for row in of(finding))


# --- On the sample, against the truth --------------------------------------------------------------


def test_no_match_is_wrong(sample: Outcome) -> None:
    """Precision is 100 %: a wrong match would hide an unpaid invoice."""
    assert pairs(sample) - set().union(*(true_pairs(TRUTH, category) for category in TRUTH["matches"])) == set()


@pytest.mark.parametrize("category", TRUTH["matches"])
def test_at_least_98_percent_of_each_category_is_found(sample: Outcome, category: str) -> None:
    """Every way of paying is recognised."""
    true = true_pairs(TRUTH, category)
    assert len(true & pairs(sample)) / len(true) >= 0.98


def test_the_truth_holds_on_other_samples_too(tmp_path: Path) -> None:
    """The rules are not fitted to one seed: with ten times the rows there is no wrong match either."""
    write(tmp_path, scale=10)
    truth = json.loads((tmp_path / "truth.json").read_text())
    invoices, lines = read_invoices(tmp_path / "invoices.csv")[0], read_ledger(tmp_path / "ledger.csv")[0]
    assert len(invoices) > 10_000 < len(lines)
    started = time.process_time()
    found = pairs(matched(invoices, lines))
    assert time.process_time() - started < 2
    for category in truth["matches"]:
        true = true_pairs(truth, category)
        assert len(true & found) / len(true) >= 0.98, category
        found -= true
    assert found == set()


def test_exceptions_are_those_that_were_planted(sample: Outcome) -> None:
    """Duplicates, second payments, unclear ones and strays: each is found once, nothing else is called so."""
    invoices, lines = attrgetter("invoices"), attrgetter("lines")
    assert rows(sample.findings, Kind.DUPLICATE, invoices) == TRUTH["duplicates"]
    assert rows(sample.findings, Kind.LOOKALIKE, invoices) == TRUTH["lookalikes"]
    assert rows(sample.findings, Kind.PAID_TWICE, lines) == TRUTH["paid_twice"]
    assert rows(sample.findings, Kind.UNCLEAR, invoices) == TRUTH["unclear"]
    assert rows(sample.findings, Kind.UNCLEAR, lines) == TRUTH["unclear_lines"]
    assert rows(sample.findings, Kind.NO_INVOICE, lines) == TRUTH["strays"]


def test_every_row_is_accounted_for(sample: Outcome) -> None:
    """An invoice is matched, open or a duplicate; a line is matched or in a finding: once each, and none is missing."""
    partly = {row for match in sample.matches if match.rule == Rule.PARTIAL for row in match.invoices}
    bills = Counter(row for match in sample.matches for row in match.invoices)
    bills.update(item.row for item in sample.open if item.row not in partly)
    bills.update(rows(sample.findings, Kind.DUPLICATE, lambda finding: finding.invoices))
    assert set(bills) == {invoice.row for invoice in read_invoices(DATA / "invoices.csv")[0]}
    assert set(bills.values()) == {1}
    lines = Counter(row for match in sample.matches for row in match.lines)
    leftover = {Kind.PAID_TWICE, Kind.UNCLEAR, Kind.NO_INVOICE}
    lines.update(row for finding in sample.findings if finding.kind in leftover for row in finding.lines)
    assert set(lines) == {line.row for line in read_ledger(DATA / "ledger.csv")[0]}
    assert set(lines.values()) == {1}


def test_what_is_due_is_paid_and_nothing_else(sample: Outcome) -> None:
    """The unpaid invoices and the rests of partly paid ones; no duplicate, nothing held, nothing before it is due."""
    due = {item.row: item.due for item in sample.open}
    rests = {bill for [bill], _ in TRUTH["matches"]["partial"] if due[bill] <= AS_OF}
    payments = payments_due(sample, AS_OF, LIMIT)
    assert sorted(payment.row for payment in payments) == sorted({*TRUTH["due"], *rests})
    assert len({payment.key for payment in payments}) == len(payments)
    assert sum(payment.amount_eur > LIMIT for payment in payments) == 8
    assert all(payment.consent for payment in payments if payment.amount_eur > LIMIT)


# --- Batches -----------------------------------------------------------------------------------------


def test_batches_are_the_same_whatever_the_order_of_the_results() -> None:
    """The partition is complete and deterministic, and merging does not depend on which batch ended first."""
    invoices, lines = read_invoices(DATA / "invoices.csv")[0], read_ledger(DATA / "ledger.csv")[0]
    batches = split_batches(invoices, lines)
    assert batches == split_batches(invoices, lines)
    assert 20 <= len(batches) <= 40
    assert sorted(invoice.row for batch in batches for invoice in batch.invoices) == [bill.row for bill in invoices]
    assert sorted(line.row for batch in batches for line in batch.lines) == [line.row for line in lines]
    outcomes = [match_batch(batch.invoices, batch.lines, RATES) for batch in batches]
    shuffled = random.Random(1).sample(outcomes, len(outcomes))
    assert merge(shuffled) == merge(outcomes)


def test_results_survive_json_and_stay_small(sample: Outcome) -> None:
    """What a step returns is stored: exact after a round trip, and a few kilobytes."""
    batches = split_batches(read_invoices(DATA / "invoices.csv")[0], read_ledger(DATA / "ledger.csv")[0])
    batch_adapter, adapter = TypeAdapter(Batch), TypeAdapter(Outcome)
    for batch in batches:
        assert batch_adapter.validate_json(batch_adapter.dump_json(batch)) == batch
        stored = adapter.dump_json(match_batch(batch.invoices, batch.lines, RATES))
        assert len(stored) < 12_000
    assert adapter.validate_json(adapter.dump_json(sample)) == sample
    payments = TypeAdapter(list[Payment])
    due = payments_due(sample, AS_OF, LIMIT)
    assert payments.validate_json(payments.dump_json(due)) == due


def test_nothing_at_all_is_an_empty_outcome() -> None:
    """No rows, no batches, no harm."""
    assert split_batches([], []) == []
    assert merge([]) == Outcome()


# --- Single rules, on single rows -----------------------------------------------------------------------


def bill(row: int, number: str, amount: str, **changes: Any) -> Invoice:
    """An invoice of Müller Bau, due today."""
    invoice = Invoice(row, number, "Müller Bau GmbH", DAY, DAY, Decimal(amount), "EUR", "DE1", "")
    return replace(invoice, **changes)


def paid(row: int, text: str, amount: str, **changes: Any) -> Line:
    """A payment to Müller Bau, as the bank writes it."""
    return replace(Line(row, DAY, Decimal(amount), "EUR", "MUELLER BAU", text), **changes)


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("inv 1023", "reference inv 1023 read as INV-1023"),
        ("INV-1O23", "reference INV-1O23 read as INV-1023 (a letter for a digit)"),
        ("Rechnung 1023", "reference 1023 read as INV-1023 (the prefix is missing)"),
        ("INV-1032", "reference INV-1032 read as INV-1023 (two digits are swapped)"),
    ],
)
def test_a_slip_of_the_pen_is_forgiven_and_told(text: str, note: str) -> None:
    """The note says what was read as what."""
    [match] = matched([bill(2, "INV-1023", "70.00")], [paid(2, text, "70.00")]).matches
    assert (match.rule, match.note) == (Rule.REFERENCE, note)


def test_a_slip_is_not_believed_when_the_amount_differs() -> None:
    """The invoice is held instead: it may have been paid."""
    outcome = matched([bill(2, "INV-1023", "70.00")], [paid(2, "INV-1032", "69.00")])
    assert not outcome.matches
    assert [finding.kind for finding in outcome.findings] == [Kind.UNCLEAR]
    assert outcome.open[0].held
    assert payments_due(outcome, DAY, LIMIT) == []


def test_a_swapped_number_that_exists_goes_by_the_amount() -> None:
    """The text names 1032, the money is that of 1023."""
    bills = [bill(2, "INV-1023", "70.00"), bill(3, "INV-1032", "99.00")]
    [match] = matched(bills, [paid(2, "INV-1032", "70.00")]).matches
    assert match.invoices == (2,)


def test_a_second_payment_of_a_settled_invoice_does_not_settle_its_neighbour() -> None:
    """Equal amounts and numbers a swap apart: paid again, not mistyped."""
    bills = [bill(2, "INV-1012", "70.00"), bill(3, "INV-1021", "70.00", issued=date(2026, 2, 1))]
    outcome = matched(bills, [paid(2, "INV-1012", "70.00"), paid(3, "INV-1012", "70.00")])
    assert [match.invoices for match in outcome.matches] == [(2,)]
    assert [finding.kind for finding in outcome.findings] == [Kind.PAID_TWICE]


def test_split_payments_say_over_how_many_lines() -> None:
    """Three lines, one of them mistyped, add up."""
    lines = [paid(2, "INV-1023", "30.00"), paid(3, "inv-1023 rest", "30.00"), paid(4, "INV-1O23", "10.00")]
    [match] = matched([bill(2, "INV-1023", "70.00")], lines).matches
    assert (match.rule, match.lines) == (Rule.SPLIT, (2, 3, 4))
    assert match.note.startswith("split over 3 lines; reference inv-1023")


def test_one_payment_for_several_invoices_less_a_credit_note() -> None:
    """The sum decides."""
    bills = [bill(2, "INV-101", "70.00"), bill(3, "INV-102", "30.00"), bill(4, "CN-7", "-20.00")]
    [match] = matched(bills, [paid(2, "INV-101, INV-102 less CN-7", "80.00")]).matches
    assert (match.rule, match.invoices) == (Rule.SEVERAL, (2, 3, 4))
    assert match.note == "one payment for 2 invoices less 1 credit note"


def test_several_invoices_with_another_sum_are_not_settled() -> None:
    """Nobody knows which of the two was paid in full: both are held."""
    bills = [bill(2, "INV-101", "70.00"), bill(3, "INV-102", "30.00")]
    outcome = matched(bills, [paid(2, "INV-101, INV-102", "90.00")])
    assert not outcome.matches
    assert [bool(item.held) for item in outcome.open] == [True, True]


@pytest.mark.parametrize(
    ("currency", "line_currency", "amount", "rule", "difference"),
    [
        ("EUR", "EUR", "999.97", Rule.ROUNDING, "-0.03"),
        ("EUR", "EUR", "1000.05", Rule.ROUNDING, "0.05"),
        ("USD", "USD", "985.00", Rule.FEE, "-15.00"),
        ("USD", "EUR", "923.40", Rule.CURRENCY, "0.00"),
        ("EUR", "EUR", "985.00", Rule.PARTIAL, "-15.00"),
        ("EUR", "EUR", "400.00", Rule.PARTIAL, "-600.00"),
        ("EUR", "EUR", "1010.00", Rule.OVERPAID, "10.00"),
    ],
)
def test_what_is_not_to_the_cent_is_told_apart(
    currency: str, line_currency: str, amount: str, rule: Rule, difference: str
) -> None:
    """Cents, fees, exchange, parts and too much."""
    invoice = bill(2, "INV-1023", "1000.00", currency=currency)
    [match] = matched([invoice], [paid(2, "INV-1023", amount, currency=line_currency)]).matches
    assert (match.rule, match.difference) == (rule, Decimal(difference))


def test_the_same_number_of_two_suppliers_is_kept_apart() -> None:
    """The name of the payee decides whose 2026/001 was paid; without a name, the amount does."""
    bills = [bill(2, "2026/001", "70.00"), bill(3, "2026/001", "50.00", supplier="Orion Media")]
    by_name = matched(bills, [paid(2, "2026/001", "70.00")])
    assert [match.invoices for match in by_name.matches] == [(2,)]
    by_amount = matched(bills, [paid(2, "2026/001", "50.00", counterparty="")])
    assert [match.invoices for match in by_amount.matches] == [(3,)]


def test_a_number_that_the_supplier_never_wrote_is_no_match_by_amount() -> None:
    """Right supplier, right amount, wrong number: held for a person, who can see both."""
    outcome = matched([bill(2, "INV-1023", "70.00")], [paid(2, "INV-88888", "70.00")])
    assert not outcome.matches
    assert outcome.open[0].held


def test_a_purchase_order_stands_for_its_invoices() -> None:
    """One invoice by its amount, or all of the order by their sum."""
    bills = [bill(2, "INV-1", "70.00", order="PO-4711"), bill(3, "INV-2", "30.00", order="PO-4711")]
    [match] = matched(bills, [paid(2, "your order PO 4711", "30.00")]).matches
    assert (match.rule, match.invoices) == (Rule.ORDER, (3,))
    [match] = matched(bills, [paid(2, "PO-4711", "100.00")]).matches
    assert (match.rule, match.invoices) == (Rule.ORDER, (2, 3))


# --- What is paid ---------------------------------------------------------------------------------------


def test_a_duplicate_is_never_paid() -> None:
    """Not the copy of a settled invoice, and not both of two open ones."""
    bills = [bill(2, "INV-1", "70.00"), bill(3, "inv 1", "70.00"), bill(4, "INV-2", "9.00"), bill(5, "INV-2", "9.00")]
    payments = payments_due(matched(bills, [paid(2, "INV-1", "70.00")]), DAY, LIMIT)
    assert [payment.row for payment in payments] == [4]


def test_an_invoice_like_a_settled_one_is_held() -> None:
    """Same supplier, day and amount, another number: a person decides."""
    outcome = matched([bill(2, "INV-1", "70.00"), bill(3, "INV-2", "70.00")], [paid(2, "INV-2", "70.00")])
    assert [(item.row, bool(item.held)) for item in outcome.open] == [(2, True)]
    assert payments_due(outcome, DAY, LIMIT) == []


def test_a_number_with_two_amounts_is_paid_once_at_most() -> None:
    """The second is held."""
    outcome = matched([bill(2, "INV-1", "70.00"), bill(3, "INV-1", "80.00")], [])
    assert [payment.row for payment in payments_due(outcome, DAY, LIMIT)] == [2]
    assert [finding.kind for finding in outcome.findings] == [Kind.REUSED]


def test_an_open_credit_note_is_taken_off_a_larger_payment() -> None:
    """One payment less, the transfer says so, and the limit applies to what is really paid."""
    bills = [bill(2, "INV-1", "10.00"), bill(3, "INV-2", "5100.00"), bill(4, "CN-1", "-200.00")]
    small, large = payments_due(matched(bills, []), DAY, LIMIT)
    assert (small.amount, small.credits) == (Decimal("10.00"), ())
    assert (large.amount, large.text, large.consent) == (Decimal("4900.00"), "INV-2 less CN-1", "")


def test_the_limit_is_in_euros_and_itself_allowed() -> None:
    """5,000 EUR pass, a cent more does not, nor do 5,000 francs."""
    bills = [bill(2, "A-1", "5000.00"), bill(3, "A-2", "5000.01"), bill(4, "A-3", "5000.00", currency="CHF")]
    consent = [bool(payment.consent) for payment in payments_due(matched(bills, []), DAY, LIMIT)]
    assert consent == [False, True, True]


def test_a_changed_account_needs_consent_and_a_missing_one_is_held() -> None:
    """Three invoices made the usual account known."""
    known = [bill(row, f"INV-{row}", f"{row}.00") for row in range(2, 5)]
    strange, without = bill(5, "INV-5", "5.00", account="LT9"), bill(6, "INV-6", "6.00", account="")
    outcome = matched([*known, strange, without], [])
    payments = {payment.row: payment for payment in payments_due(outcome, DAY, LIMIT)}
    assert payments.keys() == {2, 3, 4, 5}
    assert "LT9" in payments[5].consent
    assert {finding.kind for finding in outcome.findings} == {Kind.NEW_ACCOUNT, Kind.NO_ACCOUNT}


def test_an_invoice_named_by_an_unreadable_ledger_row_needs_consent() -> None:
    """It may have been paid: nobody can tell from that row."""
    bad = BadRow("ledger.csv", 9, "the amount is missing", "2026-03-01,,EUR,MUELLER BAU,INV-1")
    payments = payments_due(matched([bill(2, "INV-1", "7.00"), bill(3, "INV-2", "8.00")], []), DAY, LIMIT, [bad])
    assert [bool(payment.consent) for payment in payments] == [True, False]


def test_the_key_of_a_payment_does_not_depend_on_the_row() -> None:
    """Sorting the file does not make it another payment."""
    first = payments_due(matched([bill(2, "INV-1", "7.00")], []), DAY, LIMIT)
    second = payments_due(matched([bill(9, "inv-1", "7.00", supplier="MUELLER BAU")], []), DAY, LIMIT)
    assert first[0].key == second[0].key
