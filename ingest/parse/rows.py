"""Rows of cells -> table pieces: which rows are a table, and which of them has the column names.

Knows nothing about the formats that rows come from. A long sheet is kept as one packed line a row: as lists of
cells, a million rows would take gigabytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from ingest.parse.document import Piece

_CELL = "\x1f"
"""Between the cells of a packed row. `one_line` leaves none within a cell."""
_NUMBER = re.compile(
    r"[-+(]?\s*[^\w\s]?\s*[-+]?\d[\d.,'\u00a0\u202f ]*(E[+-]?\d+)?\s*(%|[^\w\s]|[A-Z]{3})?\)?"
    r"|\d{1,4}[-./]\d{1,2}([-./]\d{1,4})?([ T]\d.*)?|\d{1,2}:\d\d(:\d\d)?|TRUE|FALSE|#N/A|#DIV/0!",
    re.IGNORECASE,
)
_PERIOD = re.compile(r"(19|20)\d\d([-/]\d\d){0,2}")
"""A number that may well name a column: a year, a month or a day."""
_SENTENCE = re.compile(r"[.,;!?](\s|$)")
_LONGEST_NAME = 80
_LONGEST_PLAIN_NAME = 40
"""Characters of a column's name where nothing but their shortness tells names from values."""
_LONGEST_HEADING = 100
_LOOKED_AT = 30
"""Rows that tell whether the first one has column names."""


def one_line(text: str) -> str:
    """A cell's text on one line."""
    return " ".join(text.split())


def pack(cells: Iterable[str]) -> str:
    """A row as one string; the cells have gone through `one_line`. Empty where all cells are."""
    return _CELL.join(cells).rstrip(_CELL)


def unpack(row: str) -> list[str]:
    """The cells of a packed row, without the empty ones at its end."""
    return row.split(_CELL) if row else []


def table(
    rows: Iterable[Sequence[str]], page: int | None, headings: tuple[str, ...], has_header: bool | None = None
) -> Piece:
    """A table piece without empty rows and columns; None for `has_header` lets the cells tell."""
    tidied = _tidy([list(map(one_line, row)) for row in rows])
    named = looks_named(tidied) if has_header is None else has_header and len(tidied) > 1
    lines = list(map(line, tidied))
    return Piece("\n".join(lines), "table", page, headings, lines[0] if named else "")


def looks_named(rows: Sequence[Sequence[str]]) -> bool:
    """True where the first row has column names, as far as cells can tell.

    Names are short, differ from each other and are no numbers (years and days aside); nearly every column has one.
    Numbers below them settle it; without numbers, names have to be quite short and not recur among the values.
    """
    if len(rows) < 2:
        return False
    head, rest = rows[0], rows[1:_LOOKED_AT]
    names = [name for name in head if name]
    width = max(map(len, rows[:_LOOKED_AT]))
    if len(names) < 2 or len(names) < width - max(1, width // 5) or len(set(map(str.casefold, names))) < len(names):
        return False
    columns = [(name, [row[at] for row in rest if at < len(row) and row[at]]) for at, name in enumerate(head)]
    return all(_may_name(name, values) for name, values in columns) and (
        any(_numeric(values) for name, values in columns if name)
        or all(len(name) <= _LONGEST_PLAIN_NAME and not _SENTENCE.search(name) for name in names)
    )


def _may_name(name: str, values: list[str]) -> bool:
    if name in values:
        return not name
    if _NUMBER.fullmatch(name):
        return bool(_PERIOD.fullmatch(name)) and not all(map(_PERIOD.fullmatch, values))
    return len(name) <= _LONGEST_NAME


def _numeric(values: list[str]) -> bool:
    return 2 * sum(_NUMBER.fullmatch(value) is not None for value in values) > len(values) > 0


def pieces(rows: Sequence[str], page: int | None, headings: tuple[str, ...]) -> Iterator[Piece]:
    """Packed rows of a sheet, in pieces: tables, and what stands above, between and below them.

    Empty rows part a sheet; a part that begins neither with column names nor with a line of its own goes on with the
    table above it. A short line right above a table is its heading.
    """
    here = headings
    parts = _parts(rows)
    for at, part in enumerate(parts):
        following = parts[at + 1] if at + 1 < len(parts) else None
        lines = [row.strip(_CELL) for row in rows[part.start : part.body]]
        above_table = part.body < part.end or (following is not None and following.start == following.body)
        title = lines.pop() if lines and above_table and len(lines[-1]) <= _LONGEST_HEADING else ""
        yield Piece("\n".join(lines), "text", page, headings if title else here)
        if title:
            here = (*headings, title)
            yield Piece(title, "heading", page, here)
        if part.body < part.end:
            yield _piece(rows, part, page, here)


class _Part(NamedTuple):
    """Rows between empty ones: from `start` lines of a single cell, from `body` a table."""

    start: int
    body: int
    end: int


def _parts(rows: Sequence[str]) -> list[_Part]:
    parts: list[_Part] = []
    for start, end in _runs(rows):
        body = next((row for row in range(start, end) if _CELL in rows[row].strip(_CELL)), end)
        last = parts[-1] if parts else _Part(0, 0, 0)
        if body == start and last.body < last.end and not _first_names(rows, start, end):
            parts[-1] = last._replace(end=end)
        else:
            parts.append(_Part(start, body, end))
    return parts


def _runs(rows: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Where rows follow each other without an empty one between them."""
    at = 0
    for filled, run in groupby(rows, key=bool):
        end = at + sum(1 for _ in run)
        if filled:
            yield at, end
        at = end


def _first_names(rows: Sequence[str], start: int, end: int) -> bool:
    return looks_named(_tidy(list(map(unpack, rows[start : min(end, start + _LOOKED_AT)]))))


def _piece(rows: Sequence[str], part: _Part, page: int | None, headings: tuple[str, ...]) -> Piece:
    used: set[int] = set()
    for row in rows[part.body : part.end]:
        used.update(at for at, cell in enumerate(row.split(_CELL)) if cell)
    columns = sorted(used)
    lines = [line(_picked(row, columns)) for row in rows[part.body : part.end] if row]
    named = _first_names(rows, part.body, part.end)
    return Piece("\n".join(lines), "table", page, headings, lines[0] if named else "")


def _picked(row: str, columns: list[int]) -> list[str]:
    cells = row.split(_CELL)
    return [cells[at] for at in columns if at < len(cells)]


def line(cells: Sequence[str]) -> str:
    """One line of a table; empty cells at its end are left out."""
    filled = next((at for at in range(len(cells), 0, -1) if cells[at - 1]), 0)
    return " | ".join(cells[:filled])


def _tidy(rows: list[list[str]]) -> list[list[str]]:
    """Rows without empty rows and columns."""
    used = sorted({at for row in rows for at, cell in enumerate(row) if cell})
    return [[row[at] for at in used if at < len(row)] for row in rows if any(row)]


class Sheet:
    """A sheet's rows on their way to pieces, packed; row and column numbers count from 1."""

    def __init__(self) -> None:
        self.rows: list[str] = []
        self._merged: list[tuple[int, int, int]] = []

    def put(self, number: int, cells: Sequence[str]) -> None:
        """Set a row; rows that were left out are empty. A row that comes out of order goes to the end."""
        number = max(number, len(self.rows) + 1)
        if any(cells):
            self.rows += [""] * (number - 1 - len(self.rows))
            self.rows.append(pack(cells))

    def merge(self, first: tuple[int, int], last: tuple[int, int]) -> None:
        """Cells, as (row, column), that are one: its text is said in each of its rows, as it stands beside them."""
        if last[0] > first[0]:
            self._merged.append((first[0], last[0], first[1]))

    def pieces(self, page: int | None, headings: tuple[str, ...]) -> Iterator[Piece]:
        """See `pieces`."""
        for first, last, column in self._merged:
            self._repeat(first, last, column)
        return pieces(self.rows, page, headings)

    def _repeat(self, first: int, last: int, column: int) -> None:
        top = unpack(self.rows[first - 1]) if first <= len(self.rows) else []
        for at in range(first, min(last, len(self.rows))):
            cells = unpack(self.rows[at])
            if cells and column <= len(top):
                cells += [""] * (column - len(cells))
                cells[column - 1] = cells[column - 1] or top[column - 1]
                self.rows[at] = pack(cells)
