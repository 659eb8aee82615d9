"""The agent of the demo: reads two files, matches them, asks for consent, pays once, reports.

Plain asyncio throughout. What touches the world is a tool; everything between the tools is replayed after a crash.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path

from perdure import Approval, Context, StepError, agent, tool
from perdure.demo import bank
from perdure.demo.bank import Receipt
from perdure.demo.batches import Batch, split_batches
from perdure.demo.filing import file_report
from perdure.demo.matching import match_batch
from perdure.demo.outcome import Outcome, merge
from perdure.demo.payments import Payment, payments_due
from perdure.demo.records import DATA, Rates, read_invoices, read_ledger, read_rates
from perdure.demo.report import Report, Settlement, Status
from perdure.demo.stage import stage
from perdure.demo.tables import BadRow
from perdure.errors import InvalidInput

#: batches that are matched at the same time
AT_ONCE = 3


@dataclass(frozen=True, slots=True)
class Job:
    """What to reconcile. Payments of more than `limit` EUR need consent; `today` decides what is due."""

    invoices: Path = DATA / "invoices.csv"
    ledger: Path = DATA / "ledger.csv"
    out: Path = Path("perdure-demo")
    limit: Decimal = Decimal(5000)
    today: date | None = None

    @property
    def transfers(self) -> Path:
        """The file that payments are sent to."""
        return self.out / "payments.csv"


@dataclass(frozen=True, slots=True)
class Books:
    """What the files hold, cut into batches."""

    batches: tuple[Batch, ...]
    rates: Rates
    bad_invoices: tuple[BadRow, ...]
    bad_lines: tuple[BadRow, ...]

    @property
    def bad_rows(self) -> tuple[BadRow, ...]:
        """The rows of both files that could not be read."""
        return (*self.bad_invoices, *self.bad_lines)


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it; the rest is in the report."""

    payments: int
    paid_eur: Decimal
    not_paid: int
    exceptions: int
    bad_rows: int
    report: Path


@tool(effect="read", no_retry=[InvalidInput])
def read_books(invoices: Path, ledger: Path) -> Books:
    """Both files. Raises InvalidInput for one that is missing, empty or lacks a column."""
    rates = read_rates()
    bills, bad_invoices = read_invoices(invoices, rates)
    lines, bad_lines = read_ledger(ledger, rates)
    return Books(tuple(split_batches(bills, lines)), rates, tuple(bad_invoices), tuple(bad_lines))


@tool(effect="read")
async def match(batch: Batch, rates: Rates) -> Outcome:
    """What the lines of one batch paid."""
    await stage.beat("matching", 0.45)
    return match_batch(batch.invoices, batch.lines, rates)


@tool(effect="keyed")
async def pay(payment: Payment, file: Path) -> Receipt:
    """Send the payment. Safe to repeat: the bank sends once for each key."""
    receipt = await asyncio.to_thread(bank.send, payment, file)
    await stage.beat("paying", 0.08)  # sent, and its answer is on the way: the worst moment to die
    return receipt


@tool(effect="keyed")
def write_report(report: Report, out: Path) -> Path:
    """Write report.md and report.json; again gives the same files."""
    return file_report(report, out)


@agent
async def reconcile(ctx: Context, job: Job) -> Result:
    """Match invoices with the ledger, ask a person about what is large or odd, pay what is due, report."""
    books = await read_books(job.invoices, job.ledger)
    outcome = merge(await _match_all(ctx, books))
    today = job.today or ctx.now().date()
    payments = payments_due(outcome, today, job.limit, books.bad_lines)
    decisions = await _ask_consent(ctx, payments, job.transfers)
    settlements = []
    for payment in payments:
        settlements.append(await _settle(payment, decisions.get(payment.key), job.transfers))
        await ctx.emit("progress", {"stage": "paying", "done": len(settlements), "of": len(payments)})
    report = Report(
        invoices_file=job.invoices.name,
        ledger_file=job.ledger.name,
        today=today,
        limit=job.limit,
        outcome=outcome,
        settlements=tuple(settlements),
        bad_rows=books.bad_rows,
    )
    return _result(report, await write_report(report, job.out))


async def _match_all(ctx: Context, books: Books) -> Sequence[Outcome]:
    places = asyncio.Semaphore(AT_ONCE)
    done = 0

    async def match_one(batch: Batch) -> Outcome:
        nonlocal done
        async with places:
            outcome = await match(batch, books.rates)
        done += 1
        await ctx.emit("progress", {"stage": "matching", "done": done, "of": len(books.batches), "batch": batch.name})
        return outcome

    return await asyncio.gather(*(match_one(batch) for batch in books.batches))


async def _ask_consent(ctx: Context, payments: Sequence[Payment], file: Path) -> dict[str, Approval]:
    """A person's decision on each payment that needs one, all asked at once, by the payment's key."""
    asked = [payment for payment in payments if payment.consent]
    await ctx.emit("progress", {"stage": "consent", "of": len(asked), "payments": len(payments)})
    decisions = await asyncio.gather(
        *(ctx.approve(pay, payment, file, to="finance", reason=payment.consent) for payment in asked)
    )
    return {payment.key: decision for payment, decision in zip(asked, decisions, strict=True)}


async def _settle(payment: Payment, decision: Approval | None, file: Path) -> Settlement:
    try:
        if decision is None:
            await pay(payment, file)
            return Settlement(payment, Status.PAID)
        if not decision:
            return Settlement(payment, Status.REJECTED, f"by {decision.by or 'a person'}")
        await decision.perform()
    except StepError as error:
        return Settlement(payment, Status.FAILED, error.message)
    # A person may have edited what is paid: the report says what was sent.
    return Settlement(decision.arguments["payment"], Status.APPROVED, f"approved by {decision.by or 'a person'}")


def _result(report: Report, path: Path) -> Result:
    paid = [item.payment for item in report.settlements if item.status in (Status.PAID, Status.APPROVED)]
    return Result(
        payments=len(paid),
        paid_eur=sum((payment.amount_eur for payment in paid), Decimal("0.00")),
        not_paid=len(report.settlements) - len(paid),
        exceptions=len(report.outcome.findings),
        bad_rows=len(report.bad_rows),
        report=path,
    )
