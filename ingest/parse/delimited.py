"""Tables in plain text (.csv, .tsv): which character parts the cells, and how quotes are meant.

Knows nothing about workbooks. The standard library's sniffer is not used: it guesses the delimiter from
frequencies, and takes letters for one.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from ingest.parse.document import ParsedDocument, assemble
from ingest.parse.rows import one_line, pack, pieces
from ingest.parse.text import decode

_DELIMITERS = ";\t|,"
"""In the order of preference: a comma is found in texts and decimals more often than the others."""
_SAMPLE = 200
"""Rows that are tried with each delimiter."""
_LEAST_EVEN = 0.3
"""Share of the rows that must have the same number of cells; else the lines stay whole."""
_SEP = re.compile(r"sep=(.)\n", re.IGNORECASE)
"""The first line by which spreadsheet programs are told the delimiter."""
_INK = re.compile(rf"[^\s{_DELIMITERS}]")
_LINE = re.compile(r"[^\n]*\n|[^\n]+\Z")
_STAND_IN = "\ue000"
"""For an escaped delimiter, while a line is read."""
_LAST = ["\x1e"]
"""A row that is read after the text: swallowed by a cell where a quotation mark was never closed."""


class _Dialect(NamedTuple):
    delimiter: str
    escaped: bool = False
    quoted: bool = True

    def rows(self, text: str) -> Iterator[list[str]]:
        """The text's rows of cells and then `_LAST`."""
        lines = chain((line.group() for line in _LINE.finditer(text)), ["\n", _LAST[0]])
        found = csv.reader(
            map(self._unescaped, lines) if self.escaped else lines,
            delimiter=self.delimiter,
            quoting=csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE,
            skipinitialspace=self.delimiter != "\t",
        )
        return ([cell.replace(_STAND_IN, self.delimiter) for cell in row] for row in found) if self.escaped else found

    def _unescaped(self, line: str) -> str:
        """The line with its backslashes before marks undone; csv's own `escapechar` swallows every other one too."""
        return line.replace('\\"', '""').replace(f"\\{self.delimiter}", _STAND_IN)


def parse_delimited(path: Path) -> ParsedDocument:
    """Read a table in plain text, whatever its delimiter, quotes and encoding.

    Raises:
        ParseError: if it is binary. OSError: if it cannot be read.
    """
    text, notes = decode(path.read_bytes())
    told = _SEP.match(text)
    if told:
        text = text[told.end() :]
    csv.field_size_limit(max(len(text), csv.field_size_limit()))
    rows = _rows(text.replace("\x00", ""), told.group(1) if told else _DELIMITERS)
    return assemble(path.stem, pieces(rows, None, ()), notes=notes)


def _rows(text: str, delimiters: str) -> list[str]:
    """Packed rows."""
    escapes = (False, True) if "\\" in text else (False,)
    dialects = [_Dialect(mark, escaped) for escaped in escapes for mark in delimiters]
    best = max(dialects, key=lambda dialect: _evenness(dialect, text))
    if not _INK.search(text):
        return []
    if _evenness(best, text) < _LEAST_EVEN:
        return [one_line(line) for line in text.split("\n")]
    return _read(best, text) or _read(best._replace(quoted=False), text)


def _read(dialect: _Dialect, text: str) -> list[str]:
    """Packed rows; none where a quotation mark was never closed."""
    rows: list[str] = []
    for row in dialect.rows(text):
        if row == _LAST:
            return rows
        rows.append(pack(map(one_line, row)))
    return []


def _evenness(dialect: _Dialect, text: str) -> float:
    """Share of the rows that have the most common number of cells, of several."""
    widths = [len(row) for row in islice(dialect.rows(text), _SAMPLE) if any(row) and row != _LAST]
    counts = Counter(width for width in widths if width > 1)
    return max(counts.values(), default=0) / max(1, len(widths))
