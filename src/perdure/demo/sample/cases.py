"""What happens to the invoices of the sample? One function a case; `CASES` says how often, the bad rows come last."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal

from perdure.demo.records import AS_OF
from perdure.demo.sample.books import Bill, Books, Payment
from perdure.demo.sample.suppliers import account_of, letter_o, lower_case, no_prefix, swap


def _exact(books: Books) -> None:
    bill = books.bill(high=9_000)
    books.matched("exact", [bill], [books.pay(bill, books.wording(bill))])


def _twins(books: Books) -> None:
    """Two invoices of one day and amount, and both are meant: each is paid under its own number."""
    first = books.bill()
    second = books.again(first)
    for bill in (first, second):
        books.matched("exact", [bill], [books.pay(bill, bill.number)])


def _split(books: Books) -> None:
    bill = books.bill(low=300)
    parts = books.rng.choice((2, 2, 3))
    shares = [round(bill.amount * books.rng.randrange(20, 40) / 100, 2) for _ in range(parts - 1)]
    shares.append(bill.amount - sum(shares))
    lines = [
        books.pay(bill, f"{bill.number} part {part}/{parts}", share, late=9 * part)
        for part, share in enumerate(shares, start=1)
    ]
    books.matched("split", [bill], lines)


def _partial(books: Books) -> None:
    bill = books.bill(low=400)
    share = round(bill.amount * books.rng.randrange(30, 70) / 100, 2)
    books.matched("partial", [bill], [books.pay(bill, f"{bill.number} on account", share)])


def _several(books: Books) -> None:
    first = books.bill(high=1_500)
    bills = [first]
    more = books.rng.choice((1, 1, 2, 3))
    bills += [books.again(first, amount=books.amount(first.supplier, 35, 1_500)) for _ in range(more)]
    numbers = [bill.number for bill in bills]
    short = [first.number, *map(no_prefix, numbers[1:])]
    text = books.rng.choice((", ".join(numbers), " + ".join(numbers), "/".join(short)))
    books.matched("several", bills, [books.pay(first, text, sum((bill.amount for bill in bills), Decimal()))])


def _less_credit(books: Books) -> None:
    bill = books.bill(low=500)
    credit = books.credit(bill)
    line = books.pay(bill, f"{bill.number} less credit note {credit.number}", bill.amount + credit.amount)
    books.matched("credit", [bill, credit], [line])


def _refund(books: Books) -> None:
    bill = books.bill(low=300)
    books.matched("exact", [bill], [books.pay(bill, bill.number)])
    credit = books.credit(bill)
    books.matched("credit", [credit], [books.pay(credit, f"Refund {credit.number}", late=5)])


def _rounding(books: Books) -> None:
    bill = books.bill()
    cents = books.rng.choice((-4, -3, -2, -1, 1, 2, 3))
    books.matched("rounding", [bill], [books.pay(bill, books.wording(bill), bill.amount + Decimal(cents) / 100)])


def _currency(books: Books) -> None:
    bill = books.bill(low=120, foreign=True)
    rate = books.rates[bill.supplier.currency] * Decimal(10_000 + books.rng.randrange(-120, 180)) / 10_000
    books.matched(
        "currency", [bill], [books.pay(bill, books.wording(bill), round(bill.amount * rate, 2), currency="EUR")]
    )


def _fee(books: Books) -> None:
    bill = books.bill(low=1_000, foreign=True)
    fee = Decimal(books.rng.choice(("7.50", "12.00", "15.00", "18.50", "20.00")))
    books.matched("fee", [bill], [books.pay(bill, books.wording(bill), bill.amount - fee)])


def _mistyped(books: Books) -> None:
    bill = books.bill()
    slips = [lower_case(bill.number), letter_o(bill.number), no_prefix(bill.number), swap(books.rng, bill.number)]
    slip = books.rng.choice([slip for slip in slips if slip != bill.number])
    books.matched("mistyped", [bill], [books.pay(bill, books.rng.choice(("{}", "Invoice {}")).format(slip))])


def _order(books: Books) -> None:
    bill = books.bill()
    books.matched(
        "order", [bill], [books.pay(bill, books.rng.choice(("{}", "Order {}", "your {}")).format(bill.order))]
    )


def _amount(books: Books) -> None:
    bill = books.bill()
    text = books.rng.choice(("", "Payment", "as agreed", "Rechnung Februar 2026", "transfer"))
    books.matched("amount", [bill], [books.pay(bill, text, late=7)])


def _overpaid(books: Books) -> None:
    bill = books.bill(low=200)
    extra = Decimal(books.rng.choice(("10.00", "9.00", "45.00", "90.00", "100.00")))
    books.matched("overpaid", [bill], [books.pay(bill, books.wording(bill), bill.amount + extra)])


def _paid_twice(books: Books) -> None:
    bill = books.bill()
    books.matched("exact", [bill], [books.pay(bill, bill.number)])
    again = books.pay(bill, f"Invoice {bill.number}", late=20)
    again.day = AS_OF
    books.mark("paid_twice", again)


def _unclear(books: Books) -> None:
    """A payment without a text fits two open invoices alike: neither may be paid before somebody has looked."""
    first = books.bill()
    first.due = AS_OF - timedelta(days=9)
    second = books.again(first)
    second.issued += timedelta(days=1)
    books.mark("unclear", first, second)
    books.mark("unclear_lines", books.pay(first, "Payment"))


def _due(books: Books, low: int = 35, high: int = 3_900) -> Bill:
    bill = books.bill(low, high)
    bill.due = AS_OF - timedelta(days=books.rng.randrange(21))
    bill.issued = bill.due - timedelta(days=30)
    books.mark("due", bill)
    return bill


def _due_large(books: Books) -> None:
    _due(books, low=5_300, high=26_000)


def _due_later(books: Books) -> None:
    bill = books.bill()
    bill.issued = AS_OF - timedelta(days=books.rng.randrange(2, 18))
    bill.due = bill.issued + timedelta(days=30)
    books.mark("due_later", bill)


def _due_credit(books: Books) -> None:
    bill = _due(books, low=600)
    books.mark("credit_open", books.credit(bill))


def _duplicate(books: Books) -> None:
    """The same invoice entered again, on paper and by mail: sometimes in other letters."""
    original = books.rng.choice(books.bills[:200]) if books.rng.random() < 0.5 else _due(books)
    number = books.rng.choice((original.number, original.number, original.number.lower().replace("-", " ")))
    books.mark("duplicates", books.again(original, number))


def _lookalike(books: Books) -> None:
    """The same supplier, day and amount under another number."""
    original = books.rng.choice(books.bills[:200]) if books.rng.random() < 0.5 else _due(books)
    books.mark("lookalikes", books.again(original))


def _new_account(books: Books) -> None:
    _due(books).account = account_of(books.rng, "LT", "00009999")


def _stray(books: Books) -> None:
    party, text, low, high = books.rng.choice(_STRAYS)
    line = Payment(
        day=date(2025, 11, 20) + timedelta(days=books.rng.randrange(130)),
        amount=Decimal(books.rng.randrange(low * 100, high * 100)) / 100,
        currency="EUR",
        counterparty=party,
        text=text.format(n=books.rng.randrange(100_000, 999_999)),
    )
    books.lines.append(line)
    books.mark("strays", line)


def _not_theirs(books: Books) -> None:
    """A supplier is paid under a number that it never wrote."""
    bill = books.bill()
    books.matched("exact", [bill], [books.pay(bill, bill.number)])
    amount = books.amount(bill.supplier, 35, 4_200)
    books.mark("strays", books.pay(bill, f"Invoice Q{books.rng.randrange(10**7, 10**8)}", amount))


#: in an order such that a copy finds exactly paid invoices among the first 200
CASES: dict[Callable[[Books], object], int] = {
    _exact: 560,
    _twins: 4,
    _split: 36,
    _partial: 12,
    _several: 38,
    _less_credit: 6,
    _refund: 4,
    _rounding: 40,
    _currency: 36,
    _fee: 18,
    _mistyped: 96,
    _order: 28,
    _amount: 24,
    _overpaid: 12,
    _paid_twice: 6,
    _unclear: 3,
    _due: 25,
    _due_large: 8,
    _due_later: 34,
    _due_credit: 4,
    _duplicate: 14,
    _lookalike: 8,
    _new_account: 2,
    _stray: 30,
    _not_theirs: 3,
}

BAD_INVOICES = (
    ("INV-70411", "Nordlicht Druckerei GmbH", "2026-01-12", "2026-02-11", "", "EUR", "PO-40177", ""),
    ("INV-70412", "Kestrel Office Supplies Ltd", "2026-02-30", "2026-03-30", "412.80", "GBP", "", ""),
    ("", "Tannhof Media GmbH", "14.01.2026", "13.02.2026", "96.00", "EUR", "PO-40201", ""),
    ("RE-2026-9001", "Müller Bau GmbH", "2026-02-02", "end of month", "1,180.00", "EUR", "", ""),
    ("2026/9917", "Orion Software Inc.", "2026-01-20", "2026-02-19", "0.35", "XBT", "", ""),
    ("F2690031", "Delorme Travel SARL", "05.02.2026", "07.03.2026", "1.249.00.5", "EUR", "", ""),
)
BAD_LINES = (
    ("2026-01-15", "", "EUR", "NORDLICHT DRUCKEREI GMBH", "INV-70411"),
    ("31.02.2026", "250.00", "EUR", "TANNHOF MEDIA GMBH", "Payment"),
    ("2026-02-17", "1,180.00", "EURO", "MUELLER BAU GMBH", "RE-2026-9001"),
    ("", "77.10", "EUR", "DELORME TRAVEL SARL", "F2690031"),
    ("2026-03-03", "see mail", "GBP", "KESTREL OFFICE SUPPLIE", "INV-70412"),
)
#: who else is paid, with what text, between so many and so many euros
_STRAYS = (
    ("Hausbank", "Kontoführung {n}", 8, 40),
    ("Hausbank", "Account fee", 8, 40),
    ("Finanzamt", "Umsatzsteuer {n}", 2_000, 19_000),
    ("Payroll", "Salaries February 2026", 30_000, 42_000),
    ("Stadtwerke", "Abschlag Strom {n}", 300, 900),
    ("City Parking", "Card payment {n}", 4, 60),
    ("Rail Tickets", "Booking {n}", 20, 400),
    ("Landlord Partners", "Rent March 2026", 3_000, 3_900),
)
