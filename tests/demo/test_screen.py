"""What a person types to approve is understood or asked again, never guessed."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from perdure.demo.payments import Payment
from perdure.demo.screen import Screen, parse_choice


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("y\n", {1, 2, 3, 4}),
        ("ALL", {1, 2, 3, 4}),
        ("n", set()),
        ("2", {2}),
        ("1,3-4", {1, 3, 4}),
        ("4 2; 1", {1, 2, 4}),
    ],
)
def test_choices_are_understood(text, chosen):
    """y, n, or numbers and spans in any order."""
    assert parse_choice(text, 4) == chosen


@pytest.mark.parametrize("text", ["\n", "maybe", "0", "5", "3-1", "1-9", "1,", "y 2", "-1", "²", "1.5"])
def test_anything_else_is_asked_again(text):
    """An empty line is no consent, and a number that is not there approves nothing."""
    assert parse_choice(text, 4) is None


def test_words_of_a_file_cannot_steer_the_terminal(capsys):
    """A supplier's name neither moves the cursor nor is read as markup: the table that is approved is what is paid."""
    name = "\x1b[2A[red]Acme"
    payment = Payment("pay-1", name, "DE1", Decimal(9000), "EUR", Decimal(9000), "A-1", 2, date(2026, 3, 1))
    Screen().payments([payment])
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "\N{REPLACEMENT CHARACTER}[2A[red]Acme" in said
