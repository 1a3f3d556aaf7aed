"""Workbooks (.xlsx): every sheet is a page, with its values as a person sees them, and what is drawn over it.

Knows nothing about which rows are a table. Read row by row from the XML, not by openpyxl: that gives up the file
over a broken style, knows no text boxes or charts when it streams, and takes twice as long.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from ingest.parse.document import ParsedDocument, Piece, assemble, pick_title
from ingest.parse.drawing import shapes
from ingest.parse.numbers import BUILT_IN, general, shown
from ingest.parse.package import Package, local, reference
from ingest.parse.rows import Sheet, one_line, table
from rag.errors import ParseError

_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")
"""How control characters are written in these files (ECMA-376-1, 22.9.2.19)."""
_THREADED = re.compile(r"^\[Threaded comment\].*?Comment:\s*", re.DOTALL)
"""What stands above a comment's text for programs older than 2018."""
_CELL = re.compile(r"([A-Z]{1,3})(\d{1,7})")


class _Book(NamedTuple):
    strings: list[str]
    formats: list[str]
    """A number format for each style of cell."""
    from_1904: bool


def parse_xlsx(path: Path) -> ParsedDocument:
    """Read a workbook, its hidden sheets too.

    Raises:
        ParseError: if it is a binary workbook (.xlsb), or has no sheets. BadZipFile: if it is no Office file.
    """
    with Package(path) as package:
        main = package.main() or "xl/workbook.xml"
        if main.endswith(".bin"):
            raise ParseError("it is a binary workbook (.xlsb); save it as .xlsx")
        root = package.xml(main)
        relations = package.relations(main)
        sheets = [] if root is None else [node for node in root.iter("{*}sheet") if reference(node, "id") in relations]
        if not sheets:
            raise ParseError("it has no sheets; open it in the program that it comes from and save it anew")
        reader = _Reader(package, _book(package, main, root))
        pieces: list[Piece] = []
        for page, node in enumerate(sheets, start=1):
            pieces += reader.sheet(relations[reference(node, "id")].part, page, one_line(node.get("name", "")))
        title = pick_title(package.title()) or path.stem
        return package.about(assemble(title, pieces, len(sheets), tuple(reader.notes)))


def _book(package: Package, main: str, root: Any) -> _Book:
    properties = next(root.iter("{*}workbookPr"), None)
    from_1904 = properties is not None and properties.get("date1904", "0") in ("1", "true")
    strings = [_text(node) for part in package.related(main, "sharedStrings") for node in package.elements(part, "si")]
    formats = [code for part in package.related(main, "styles") for code in _formats(package.xml(part))]
    return _Book(strings, formats, from_1904)


def _formats(root: Any) -> Iterator[str]:
    if root is None:
        return
    own = {node.get("numFmtId"): node.get("formatCode", "") for node in root.findall("{*}numFmts/{*}numFmt")}
    for style in root.findall("{*}cellXfs/{*}xf"):
        identity = style.get("numFmtId", "0")
        yield own.get(identity) or BUILT_IN.get(int(identity), "")


def _text(node: Any) -> str:
    """A string with its differently formatted runs, without the reading aids (`rPh`) above Japanese."""
    runs = (run.text or "" for run in node.iter("{*}t") if local(run.getparent()) != "rPh")
    return one_line(_unescaped("".join(runs)))


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(lambda found: chr(int(found.group(1), 16)), text)


class _Reader:
    """Reads sheets into pieces; `notes` says what could not be read."""

    def __init__(self, package: Package, book: _Book) -> None:
        self._package, self._book = package, book
        self._empty = 0
        """Formulas of the sheet at hand that have no saved value."""
        self.notes: list[str] = []

    def sheet(self, part: str, page: int, name: str) -> Iterator[Piece]:
        """The pieces of one sheet, under its name; none where it is empty."""
        self._empty, damaged = 0, len(self._package.damaged)
        sheet = self._rows(part)
        found = [*sheet.pieces(page, (name,)), *self._beside(part, page, (name,))]
        if any(piece.text for piece in found):
            yield Piece(name, "heading", page, (name,))
            yield from found
        if self._empty:
            self.notes.append(
                f"sheet {name}: {self._empty} formulas without a saved value; open the file, recalculate and save it"
            )
        if len(self._package.damaged) > damaged:
            self.notes.append(f"sheet {name}: damaged, and not all of it could be read")

    def _rows(self, part: str) -> Sheet:
        sheet = Sheet()
        for node in self._package.elements(part, "row", "mergeCell"):
            if local(node) == "row":
                sheet.put(int(node.get("r", len(sheet.rows) + 1)), self._cells(node))
            else:
                first, _, last = node.get("ref", "").partition(":")
                sheet.merge(_place(first), _place(last))
        return sheet

    def _cells(self, row: Any) -> list[str]:
        cells: list[str] = []
        for node in row:
            name = node.get("r", "")
            column = _column(name.rstrip("0123456789")) if name else len(cells) + 1
            value = self._value(node)
            if value:
                cells += [""] * (column - 1 - len(cells))
                cells[column - 1 :] = [value]
            elif not name:
                cells.append("")
        return cells

    def _value(self, cell: Any) -> str:
        kind, text, formula = cell.get("t", "n"), "", False
        for child in cell:
            tag = child.tag  # looked at ten million times in a long sheet
            if tag.endswith("}v"):
                text = child.text or ""
            elif tag.endswith("}is"):
                return _text(child)
            formula = formula or tag.endswith("}f")
        if formula and not text and kind != "str":
            self._empty += 1
        return self._read(kind, text, int(cell.get("s", "0"))) if text else ""

    def _read(self, kind: str, text: str, style: int) -> str:
        """A cell's value as a person sees it."""
        book = self._book
        if kind == "s":
            if int(text) < len(book.strings):
                return book.strings[int(text)]
            self._package.damaged.append("a shared string")
            return ""
        if kind == "b":
            return "TRUE" if text == "1" else "FALSE"
        if kind == "n":
            return _number(text, book.formats[style] if style < len(book.formats) else "", book.from_1904)
        return one_line(_unescaped(text)) if kind != "d" else text.removesuffix("T00:00:00").replace("T", " ")

    def _beside(self, part: str, page: int, headings: tuple[str, ...]) -> Iterator[Piece]:
        """Text boxes, charts and diagrams, then the comments on cells."""
        for drawing in self._package.related(part, "drawing"):
            root = self._package.xml(drawing)
            for shape in () if root is None else shapes(root, self._package, drawing):
                if shape.kind == "table":
                    yield table(shape.rows, page, headings, shape.has_header)
                else:
                    yield Piece(shape.text, "text", page, headings)
        for comments in self._package.related(part, "comments"):
            root = self._package.xml(comments)
            for node in () if root is None else root.iter("{*}comment"):
                text = _THREADED.sub("", "".join(run.text or "" for run in node.iter("{*}t"))).strip()
                yield Piece(f"{node.get('ref', '')}: {text}" if text else "", "text", page, (*headings, "Comments"))


def _number(text: str, code: str, from_1904: bool) -> str:
    try:
        return shown(float(text), code, from_1904) if code else _plain(text)
    except ValueError:
        return one_line(text)


def _plain(text: str) -> str:
    return text if len(text) < 16 and text.replace(".", "", 1).isdecimal() else general(float(text))


def _place(name: str) -> tuple[int, int]:
    """`B3` -> (3, 2); (0, 0) for what is no cell."""
    found = _CELL.fullmatch(name.replace("$", ""))
    return (int(found.group(2)), _column(found.group(1))) if found else (0, 0)


@lru_cache(maxsize=16_384)
def _column(letters: str) -> int:
    number = 0
    for letter in letters:
        number = 26 * number + ord(letter) - 64
    return number
