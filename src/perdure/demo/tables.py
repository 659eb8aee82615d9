"""Which rows does a CSV file hold, under which columns?

Copes with what spreadsheets and banks export: UTF-8 with or without a mark, UTF-16, Windows-1252; comma, semicolon,
tab or bar; headers in any case and by their common names. It knows nothing of invoices or payments.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from perdure.errors import InvalidInput

DELIMITERS = (",", ";", "\t", "|")


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that could not be read. It is reported, never dropped: `line` is where it starts in the file."""

    file: str
    line: int
    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class Row:
    """One row by column name, and where it starts in the file (the header is line 1)."""

    line: int
    cells: Mapping[str, str]
    text: str


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns a file must and may have: each with the header names that mean it, the best first."""

    required: Mapping[str, Sequence[str]]
    optional: Mapping[str, Sequence[str]]


def read_table(path: Path, columns: Columns) -> tuple[list[Row], list[BadRow]]:
    """The rows of the file, in order, and those without a shape. Raises InvalidInput when the file is no such table."""
    lines = list(io.StringIO(_decode(path), newline=""))
    first = next(line for line in lines if line.strip())
    delimiter = max(DELIMITERS, key=first.count)
    records = (record for record in _records(lines, delimiter) if any(field.strip() for field in record.fields))
    header = next(records).fields
    places = _places(header, columns, path.name)
    rows: list[Row] = []
    bad: list[BadRow] = []
    for record in records:
        text = delimiter.join(record.fields).strip()[:200]
        problem = record.problem or _surplus(record.fields, header)
        if problem:
            bad.append(BadRow(path.name, record.line, problem, text))
        else:
            rows.append(Row(record.line, _cells(record.fields, places), text))
    return rows, bad


def _decode(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}. Give the path of a CSV file that can be read.") from None
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = raw.decode("utf-16", errors="replace")
    else:
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = raw.decode("cp1252", errors="replace")
    text = text.replace("\0", "")
    if not text.strip():
        raise InvalidInput(f"{path.name} is empty. It needs a header line and one row for each record.")
    return text


@dataclass(frozen=True, slots=True)
class _Record:
    line: int
    fields: Sequence[str]
    problem: str = ""


def _records(lines: Sequence[str], delimiter: str) -> Iterator[_Record]:
    """The fields of each record, with the line it starts on (a quoted field may span several)."""
    done = 0
    while done < len(lines):
        # Strict, because a lenient reader swallows the rest of the file into one field when a quote is never closed.
        # After such a row a new reader starts on the line below it, so that one slip costs one row.
        reader = csv.reader(islice(lines, done, None), delimiter=delimiter, strict=True)
        start = done
        try:
            for fields in reader:
                yield _Record(done + 1, fields)
                done = start + reader.line_num
        except csv.Error as error:
            yield _Record(done + 1, [lines[done].strip()], f"the quotes of this row are broken ({error})")
            done += 1


def _places(header: Sequence[str], columns: Columns, file: str) -> dict[str, int]:
    """Where each column stands. Names are compared without case, blanks and punctuation."""
    found = {_plain(name): place for place, name in reversed(list(enumerate(header)))}
    places: dict[str, int] = {}
    for column, names in {**columns.required, **columns.optional}.items():
        known = [found[_plain(name)] for name in names if _plain(name) in found]
        if known:
            places[column] = known[0]
        elif column in columns.required:
            raise InvalidInput(
                f"{file} has no column for the {column} (any of: {', '.join(names)}). "
                f"The headers found are: {', '.join(name.strip() for name in header)}. Rename one of them."
            )
    return places


def _plain(name: str) -> str:
    return "".join(char for char in name.casefold() if char.isalnum())


def _surplus(fields: Sequence[str], header: Sequence[str]) -> str:
    if any(field.strip() for field in fields[len(header) :]):
        return f"{len(fields)} fields where the header has {len(header)} (an unquoted delimiter?)"
    return ""


def _cells(fields: Sequence[str], places: Mapping[str, int]) -> dict[str, str]:
    return {column: fields[place].strip() if place < len(fields) else "" for column, place in places.items()}
