"""Which invoice numbers, and which supplier, does a text mean?

People copy numbers by hand: inv-1O23, 1023 and INV-1032 may all mean INV-1023. Every reading says what it had to
forgive; whether to believe it is for the rules, which also see the money.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

_CHUNK = re.compile(r"[^\W_]+")
_DATE = re.compile(r"(?<![\w-])\d{4}-\d{2}-\d{2}(?![\w-])|(?<![\w.])\d{1,2}\.\d{1,2}\.\d{4}(?!\w)")
_NUMBER_LIKE = re.compile(r"\b(?!(?:19|20)\d\d\b)[A-Z]*\d[\dOIL]{2,}", re.IGNORECASE)
_ALIKE = str.maketrans("OILSBZ", "011582")
#: a number is written in so many pieces at most, as in RE-2026-03-0042
_PIECES = 4


@dataclass(frozen=True, slots=True)
class Reading:
    """An invoice number (in canonical form) found in a text, as it was `written`, and the `fault` forgiven, if any."""

    number: str
    written: str
    fault: str = ""


class Numbers:
    """A set of invoice numbers that can be found in free text, mistyped or not."""

    def __init__(self, numbers: Iterable[str]) -> None:
        self._canonical = {canonical(number) for number in numbers}
        self._lengths = {len(number) for number in self._canonical}
        self._alike: dict[str, list[str]] = defaultdict(list)
        self._bare: dict[str, list[str]] = defaultdict(list)
        for number in sorted(self._canonical):
            self._alike[number.translate(_ALIKE)].append(number)
            self._bare[_bare(number)].append(number)

    def read(self, text: str) -> tuple[Reading, ...]:
        """Every number the text may mean, once each, with the least fault."""
        found: dict[str, Reading] = {}
        for written in _candidates(_DATE.sub(" ", text)):
            for reading in self._meanings(written):
                known = found.get(reading.number)
                if known is None or (known.fault and not reading.fault):
                    found[reading.number] = reading
        return tuple(found.values())

    def _meanings(self, written: str) -> Iterator[Reading]:
        form = canonical(written)
        if form in self._canonical:
            yield Reading(form, written)
        for number in self._alike.get(form.translate(_ALIKE), ()):
            yield Reading(number, written, "a letter for a digit" if number != form else "")
        if form.isdigit() and len(form) >= 3:
            for number in self._bare.get(form.lstrip("0"), ()):
                yield Reading(number, written, "the prefix is missing" if number != form else "")
        if len(form) in self._lengths:
            for number in _swaps(form):
                if number in self._canonical:
                    yield Reading(number, written, "two digits are swapped")


def canonical(number: str) -> str:
    """The number without case, blanks and punctuation: inv 1023 and INV-1023 are the same."""
    return "".join(_CHUNK.findall(number)).upper()


def names_a_number(text: str) -> bool:
    """Does the text carry anything that looks like a number of some document?"""
    return bool(_NUMBER_LIKE.search(_DATE.sub(" ", text)))


def _bare(number: str) -> str:
    return re.sub(r"\D", "", number).lstrip("0")


def _candidates(text: str) -> Iterator[str]:
    """Every stretch of the text that may be one number: up to four pieces in a row, the last with a digit in it."""
    chunks = list(_CHUNK.finditer(text))
    for first, start in enumerate(chunks):
        end = start.start()
        for chunk in chunks[first : first + _PIECES]:
            if chunk.start() - end > 2:
                break
            end = chunk.end()
            if any(char.isdigit() for char in chunk.group()):
                yield text[start.start() : end]


def _swaps(form: str) -> Iterator[str]:
    for place, (left, right) in enumerate(pairwise(form)):
        if left != right and left.isdigit() and right.isdigit():
            yield form[:place] + right + left + form[place + 2 :]


_LEGAL_FORM = re.compile(
    r"\b(?:ab|ag|as|bv|co|corp|gmbh|inc|kg|kgaa|limited|llc|llp|ltd|nv|ohg|oy|plc|sa|sarl|sas|sl|spa|srl|ug|and|und)\b"
)


def supplier_key(name: str) -> str:
    """The name as banks and books agree on it: MUELLER BAU GMBH and Müller Bau are the same."""
    letters = (char for char in unicodedata.normalize("NFKD", name.casefold()) if not unicodedata.combining(char))
    plain = " ".join(_CHUNK.findall("".join(letters).replace(".", "")))
    return re.sub("([aou])e", r"\1", " ".join(_LEGAL_FORM.sub("", plain).split()) or plain)


class Suppliers:
    """A set of suppliers that can be recognised by the name a bank gives them, cut short or not."""

    def __init__(self, names: Iterable[str]) -> None:
        self._keys = {supplier_key(name) for name in names}
        self._cut: dict[str, set[str]] = defaultdict(set)
        for key in self._keys:
            for length in range(_CUT_MIN, len(key)):
                self._cut[key[:length].rstrip()].add(key)

    def recognise(self, name: str) -> str:
        """The key of the one supplier that the name means, or nothing."""
        key = supplier_key(name)
        if key in self._keys:
            return key
        longer = self._cut.get(key, set())
        if len(longer) == 1:
            return next(iter(longer))
        words = key.split()
        shorter = [" ".join(words[:count]) for count in range(len(words) - 1, 0, -1)]
        return next((short for short in shorter if short in self._keys and len(short) >= _CUT_MIN), "")


#: a name cut shorter than this could be anybody
_CUT_MIN = 8
