"""The sample that ships is the one that the generator makes."""

from __future__ import annotations

from pathlib import Path

from perdure.demo.generate import generate, write
from perdure.demo.records import DATA

TRUTH = Path(__file__).with_name("truth.json")


def test_the_shipped_files_are_made_again_byte_for_byte(tmp_path: Path) -> None:
    """What ships can be reproduced, and so can the truth that the matching is judged by."""
    write(tmp_path)
    assert (tmp_path / "invoices.csv").read_bytes() == (DATA / "invoices.csv").read_bytes()
    assert (tmp_path / "ledger.csv").read_bytes() == (DATA / "ledger.csv").read_bytes()
    assert (tmp_path / "truth.json").read_bytes() == TRUTH.read_bytes()


def test_both_files_have_at_least_a_thousand_rows() -> None:
    """The demo works on files of a real size."""
    assert len((DATA / "invoices.csv").read_text("utf-8").splitlines()) > 1_000
    assert len((DATA / "ledger.csv").read_text("utf-8").splitlines()) > 1_000


def test_another_seed_makes_other_files() -> None:
    """The seed decides, nothing else."""
    assert generate(seed=1) == generate(seed=1) != generate(seed=2)
