"""What did the person ask for? Checks the options of `perdure demo` and makes a job of them; starts nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path

from perdure.demo.agent import Job
from perdure.demo.records import AS_OF, DATA
from perdure.errors import InvalidSetting

OUT = Path("perdure-demo")
LIMIT = Decimal(5000)


@dataclass(frozen=True, slots=True)
class Wish:
    """The options; None where the person said nothing. Raises InvalidSetting for what makes no sense."""

    store: str | None = None
    yes: bool = False
    invoices: Path | None = None
    ledger: Path | None = None
    limit: Decimal | str | None = None
    out: Path | None = None

    def __post_init__(self) -> None:
        if (self.invoices is None) != (self.ledger is None):
            raise InvalidSetting("--invoices and --ledger belong together: give both, or neither for the shipped files")
        if self.url.startswith("memory:"):
            raise InvalidSetting("the demo kills its worker, so its store must outlive it: --store sqlite:///demo.db")
        try:
            known = self.euros.is_finite()
        except InvalidOperation:
            known = False
        if not known:
            raise InvalidSetting(f"--limit must be an amount in EUR, like 2500, not {self.limit!r}")

    @property
    def folder(self) -> Path:
        """Where everything goes that comes of it."""
        return self.out or OUT

    @property
    def url(self) -> str:
        """The store."""
        return self.store or f"sqlite:///{self.folder / 'demo.db'}"

    @property
    def euros(self) -> Decimal:
        """Payments of more than this need consent."""
        return LIMIT if self.limit is None else Decimal(self.limit)

    def make_folder(self) -> None:
        """See that the folder is there. Raises InvalidSetting."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidSetting(
                f"{self.folder} cannot be made: {error.strerror}. Choose another folder with --out."
            ) from None

    def job(self) -> Job:
        """What the agent is to do. The shipped files are looked at as of their own day."""
        return Job(
            invoices=(self.invoices or DATA / "invoices.csv").resolve(),
            ledger=(self.ledger or DATA / "ledger.csv").resolve(),
            out=self.folder.resolve(),
            limit=self.euros,
            today=AS_OF if self.invoices is None else datetime.now(UTC).astimezone().date(),
        )
