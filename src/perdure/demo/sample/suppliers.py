"""Who sends the invoices of the sample, and how do people and banks write their numbers and names? All invented."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from random import Random

SUPPLIERS = 120
_NAMES = (
    *("Nordlicht", "Almtal", "Müller", "Brückner", "Kestrel", "Orion", "Weißhorn", "Delorme", "Lefèvre", "Marín"),
    *("Van Dijk", "Bergström", "O'Connell", "Castello", "Sturmwind", "Hollow Oak", "Silberbach", "Greyfield"),
    *("Tannhof", "Lindqvist", "Peralta", "Quayside", "Rosental", "Zephyr"),
)
_TRADES = (
    *("Druckerei", "Logistics", "Bau", "Office Supplies", "Reinigung", "IT Services", "Catering", "Verpackung"),
    *("Elektrotechnik", "Consulting", "Travel", "Metallbau", "Software", "Security", "Gartenbau", "Media", "Möbel"),
    *("Laborbedarf", "Facility", "Training"),
)
_STYLES = ("INV-{:05d}", "RE-2026-{:04d}", "{:06d}", "F26{:05d}", "2026/{:04d}", "INV{:06d}")
#: country, bank code, currency and legal form; two thirds of the suppliers are paid in euros
_COUNTRIES = (
    ("DE", "00009999", "EUR", "GmbH"),
    ("GB", "DEMO0000", "GBP", "Ltd"),
    ("AT", "00099", "EUR", "GmbH & Co. KG"),
    ("FR", "0000099999", "EUR", "SARL"),
    ("US", "00000", "USD", "Inc."),
    ("NL", "DEMO00", "EUR", "B.V."),
    ("DE", "00009998", "EUR", "AG"),
    ("CH", "00099", "CHF", "AG"),
    ("DE", "00009997", "EUR", "GmbH"),
)


@dataclass
class Supplier:
    """Somebody who sends invoices, numbered in a style of their own."""

    name: str
    currency: str
    account: str
    style: str
    next_number: int
    amounts: set[Decimal] = field(default_factory=set)


def supplier_at(rng: Random, place: int) -> Supplier:
    """The supplier at that place of the list of 120."""
    country, bank, currency, legal_form = _COUNTRIES[place % len(_COUNTRIES)]
    # 24 names and 20 trades meet in 120 different pairs
    name = f"{_NAMES[place % len(_NAMES)]} {_TRADES[place % len(_TRADES)]} {legal_form}"
    return Supplier(
        name, currency, account_of(rng, country, bank), _STYLES[place % len(_STYLES)], rng.randrange(100, 7_000)
    )


def account_of(rng: Random, country: str, bank: str) -> str:
    """An account with right check digits at a bank that does not exist."""
    rest = f"{bank}{rng.randrange(10**9, 10**10)}"
    digits = "".join(str(int(char, 36)) for char in f"{rest}{country}00")
    return f"{country}{98 - int(digits) % 97:02d}{rest}"


def lower_case(number: str) -> str:
    """INV-1023 as inv 1023."""
    return number.lower().replace("-", " ")


def letter_o(number: str) -> str:
    """INV-1023 as INV-1O23."""
    head, zero, tail = number.rpartition("0")
    return f"{head}O{tail}" if zero else number


def no_prefix(number: str) -> str:
    """INV-1023 as 1023."""
    return number.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ-")


def swap(rng: Random, number: str) -> str:
    """INV-1023 as INV-1032."""
    places = [p for p in range(len(number) - 1) if number[p : p + 2].isdigit() and number[p] != number[p + 1]]
    place = rng.choice(places[-2:])
    return number[:place] + number[place + 1] + number[place] + number[place + 2 :]


def as_banks_write(rng: Random, name: str) -> str:
    """The name in full, in capitals without accents, or cut after 22 letters."""
    capitals = name.replace("ü", "ue").replace("ö", "oe").replace("è", "e").replace("í", "i").upper().replace("'", " ")
    return rng.choice((name, name, capitals, capitals[:22].rstrip()))
