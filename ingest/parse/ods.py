"""OpenDocument spreadsheets (.ods): every sheet is a page, with its values as the program that wrote it showed them.

Knows nothing about which rows are a table. Left out on purpose: what a chart shows of cells, as they are read anyway.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ingest.parse.document import ParsedDocument, Piece, assemble, pick_title
from ingest.parse.numbers import general
from ingest.parse.opendocument import about
from ingest.parse.package import Package, local
from ingest.parse.rows import Sheet, one_line
from rag.errors import ParseError

_OFFICE = "{urn:oasis:names:tc:opendocument:xmlns:office:1.0}"
_TABLE = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}"
_HREF = "{http://www.w3.org/1999/xlink}href"
_MOST_ROWS, _MOST_COLUMNS = 1 << 20, 1 << 14
"""Of a sheet, in every program; a row or cell that repeats says how often, and may say anything."""
_BESIDE = ("annotation", "frame", "custom-shape", "g", "rect", "ellipse", "line", "connector", "polygon", "path")
"""What hangs on a cell without being its text: a comment, and what is drawn."""
_UNSEEN = (*_BESIDE, "ruby-text")
"""Within a paragraph: what hangs on it, and the reading aids above Japanese."""
_BLANKS = ("s", "tab", "line-break")
_PLAIN = (f"{_OFFICE}string-value", f"{_OFFICE}time-value")


class _Comment(NamedTuple):
    cell: str
    text: str


class _Reading:
    """A sheet while its rows go by."""

    def __init__(self) -> None:
        self.name = ""
        self.rows = 0
        self.sheet = Sheet()
        self.drawn: list[str] = []
        self.comments: list[_Comment] = []
        self.unsaved = 0
        """Formulas without a saved value."""


def parse_ods(path: Path) -> ParsedDocument:
    """Read an OpenDocument spreadsheet, its hidden sheets too.

    Raises:
        ParseError: if it needs a password, or has no sheets. BadZipFile: if it is no archive.
    """
    if is_locked(path):
        raise ParseError("it needs a password; remove the password and save it anew")
    with Package(path) as package:
        reader = _Reader(package)
        pieces = list(reader.pieces())
        meta = package.xml("meta.xml", needed=False)
        title = "" if meta is None else str(next(meta.iter("{*}title"), meta).text or "")
        if not reader.pages:
            raise ParseError("it has no sheets; open it in the program that it comes from and save it anew")
        parsed = assemble(pick_title(title) or path.stem, pieces, reader.pages, tuple(reader.notes))
        return parsed if meta is None else about(parsed, meta)


def is_locked(path: Path) -> bool:
    """True for an OpenDocument file that needs a password."""
    with Package(path) as package:
        manifest = package.xml("META-INF/manifest.xml", needed=False)
        return manifest is not None and next(manifest.iter("{*}encryption-data"), None) is not None


class _Reader:
    """Reads sheets into pieces; `notes` says what could not be read."""

    def __init__(self, package: Package) -> None:
        self._package = package
        self.pages = 0
        self.notes: list[str] = []

    def pieces(self) -> Iterator[Piece]:
        """The sheets of the file, row by row: a sheet's end tells that its rows are complete."""
        reading = _Reading()
        for node in self._package.elements("content.xml", "shapes", "table-row", "table"):
            if local(node) == "table-row":
                self._row(node, reading)
            elif local(node) == "shapes":
                reading.drawn += self._drawn(node)
            else:
                yield from self._sheet(_named(node), reading)
                reading = _Reading()
        if reading.rows:  # the file ended too early
            yield from self._sheet(reading.name, reading)
        if self._package.damaged:
            self.notes.append("it is damaged, and not all of it could be read")

    def _sheet(self, name: str, reading: _Reading) -> Iterator[Piece]:
        self.pages += 1
        page = self.pages
        drawn = (Piece(text, "text", page, (name,)) for text in reading.drawn)
        comments = (Piece(f"{at}: {text}", "text", page, (name, "Comments")) for at, text in reading.comments)
        found = [*reading.sheet.pieces(page, (name,)), *drawn, *comments]
        if any(piece.text for piece in found):
            yield Piece(name, "heading", page, (name,))
            yield from found
        if reading.unsaved:
            self.notes.append(
                f"sheet {name}: {reading.unsaved} formulas without a saved value; open the file, "
                "recalculate and save it"
            )

    def _row(self, row: Any, reading: _Reading) -> None:
        """A row as often as it repeats; what hangs on its cells, once."""
        reading.name = reading.name or next(map(_named, row.iterancestors("{*}table")), "")
        number, column = reading.rows + 1, 0
        cells: list[str] = []
        for cell in row.iterchildren(f"{_TABLE}table-cell", f"{_TABLE}covered-table-cell"):
            times = _times(cell, "number-columns-repeated", _MOST_COLUMNS - column)
            text = self._cell(cell, number, column + 1, reading)
            if text:
                cells += [""] * (column - len(cells)) + [text] * times
            column += times
        times = _times(row, "number-rows-repeated", _MOST_ROWS - reading.rows)
        for at in range(number, number + times) if cells else ():
            reading.sheet.put(at, cells)
        reading.rows += times

    def _cell(self, cell: Any, row: int, column: int, reading: _Reading) -> str:
        """A cell's text; a covered one's is hidden by the cell that it was merged into."""
        beside = [node for node in cell if local(node) in _BESIDE]
        reading.drawn += self._drawn(beside)
        for node in beside:
            text = one_line(" ".join(map(_text, node.iter("{*}p")))) if local(node) == "annotation" else ""
            reading.comments += [_Comment(f"{_letters(column)}{row}", text)] if text else []
        if cell.tag != f"{_TABLE}table-cell":
            return ""
        text = one_line(" ".join(map(_text, cell))) or _value(cell)
        if not text and cell.get(f"{_TABLE}formula"):
            reading.unsaved += cell.get(f"{_OFFICE}value-type") != "string"
        reading.sheet.merge((row, column), (row + _times(cell, "number-rows-spanned", _MOST_ROWS) - 1, column))
        return text

    def _drawn(self, nodes: Iterable[Any]) -> Iterator[str]:
        """Texts of what is drawn over a cell or a sheet: of every shape, and the titles of every chart."""
        for shape in nodes:
            if local(shape) in _BESIDE[1:]:
                yield "\n".join(map(_text, shape.iter("{*}p", "{*}h")))
                for chart in shape.iter("{*}object"):
                    yield self._titles(chart.get(_HREF, ""))

    def _titles(self, href: str) -> str:
        root = self._package.xml(posixpath.normpath(posixpath.join(href, "content.xml")), needed=False)
        found = () if root is None else root.iter("{*}title", "{*}subtitle", "{*}footer")
        return "\n".join(one_line(" ".join(map(_text, node.iter("{*}p")))) for node in found)


def _named(sheet: Any) -> str:
    return one_line(sheet.get(f"{_TABLE}name", ""))


def _text(node: Any) -> str:
    """A paragraph's text, without what hangs on it."""
    if not isinstance(node.tag, str) or local(node) in _UNSEEN:
        return ""
    if local(node) in _BLANKS:
        return " "
    return (node.text or "") + "".join(_text(child) + (child.tail or "") for child in node)


def _value(cell: Any) -> str:
    """A cell's value where the program that wrote it left out how it is shown."""
    plain = one_line(next(filter(None, map(cell.get, _PLAIN)), ""))
    if plain or not cell.get(f"{_OFFICE}value"):
        day = cell.get(f"{_OFFICE}date-value", "").removesuffix("T00:00:00").replace("T", " ")
        return str(plain or day or cell.get(f"{_OFFICE}boolean-value", "").upper())
    number = float(cell.get(f"{_OFFICE}value"))
    if cell.get(f"{_OFFICE}value-type") == "percentage":
        return f"{general(round(number * 100, 10))}%"
    return f"{general(number)} {cell.get(f'{_OFFICE}currency', '')}".rstrip()


def _times(node: Any, name: str, most: int) -> int:
    """How often something repeats, or how far it reaches."""
    said = node.get(f"{_TABLE}{name}", "")
    return max(0, min(int(said) if said.isdecimal() else 1, most))


def _letters(column: int) -> str:
    """27 -> `AA`."""
    name = ""
    while column:
        column, rest = divmod(column - 1, 26)
        name = chr(65 + rest) + name
    return name
