"""Old workbooks (.xls, Excel 5 to 2003): every sheet is a page, with its values as a person sees them.

Knows nothing about which rows are a table. xlrd reads the cells and the comments, but no text boxes: these are
looked up among the file's records. The names and numbers of a chart are those of cells.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ingest.parse.document import ParsedDocument, Piece, assemble
from ingest.parse.numbers import general, shown
from ingest.parse.rows import Sheet, one_line
from rag.errors import ParseError

_TXO = 0x01B6
_TXO_LENGTH = 10
"""Where in a TXO record the number of characters is."""
_CONTINUE = b"\x3c\x00"
_BIFF8 = 80


def parse_xls(path: Path) -> ParsedDocument:
    """Read an old workbook, its hidden sheets too.

    Raises:
        ParseError: if it needs a password. Whatever xlrd raises on a damaged one.
    """
    import xlrd

    with Path(os.devnull).open("w") as nowhere:
        try:
            book = xlrd.open_workbook(path, logfile=nowhere, on_demand=True, formatting_info=True)
        except xlrd.XLRDError as error:
            if "encrypted" in str(error).lower():
                raise ParseError("it needs a password; remove the password and save it anew") from error
            raise
        with book:
            boxes = _boxes(book)
            pieces = [piece for index in range(book.nsheets) for piece in _sheet(book, index, boxes[index])]
            return assemble(path.stem, pieces, book.nsheets)


def _sheet(book: Any, index: int, boxes: list[str]) -> Iterator[Piece]:
    source, page = book.sheet_by_index(index), index + 1
    name = one_line(source.name)
    sheet = Sheet()
    for row in range(source.nrows):
        sheet.put(row + 1, [_value(book, cell) for cell in source.row(row)])
    for top, bottom, left, _ in source.merged_cells:
        sheet.merge((top + 1, left + 1), (bottom, left + 1))
    comments = {note.text.strip() for note in source.cell_note_map.values()}
    texts = (Piece(box, "text", page, (name,)) for box in boxes if box not in comments)
    found = [*sheet.pieces(page, (name,)), *texts, *_comments(source, page, name)]
    book.unload_sheet(index)
    if any(piece.text for piece in found):
        yield Piece(name, "heading", page, (name,))
        yield from found


def _value(book: Any, cell: Any) -> str:
    """A cell's value as a person sees it."""
    import xlrd

    if cell.ctype == xlrd.XL_CELL_TEXT:
        return one_line(cell.value)
    if cell.ctype == xlrd.XL_CELL_BOOLEAN:
        return "TRUE" if cell.value else "FALSE"
    if cell.ctype == xlrd.XL_CELL_ERROR:
        return str(xlrd.error_text_from_code.get(cell.value, ""))
    if cell.ctype in (xlrd.XL_CELL_NUMBER, xlrd.XL_CELL_DATE):
        style = book.format_map.get(book.xf_list[cell.xf_index].format_key) if cell.xf_index is not None else None
        return shown(cell.value, style.format_str, bool(book.datemode)) if style else general(cell.value)
    return ""


def _comments(source: Any, page: int, name: str) -> Iterator[Piece]:
    from xlrd.formula import cellname

    for (row, column), note in sorted(source.cell_note_map.items()):
        yield Piece(f"{cellname(row, column)}: {note.text.strip()}", "text", page, (name, "Comments"))


def _boxes(book: Any) -> list[list[str]]:
    """The text boxes of each sheet. A TXO record has the number of characters, the record behind it the characters.

    Source: [MS-XLS] 2.4.329 (TxO).
    """
    found: list[list[str]] = [[] for _ in range(book.nsheets)]
    stream, starts = bytes(book.mem), book._sh_abs_posn
    at, end = book.base, book.base + book.stream_len
    while at + 4 <= end:
        kind, size = struct.unpack_from("<HH", stream, at)
        if kind == _TXO and size >= _TXO_LENGTH + 2 and book.biff_version >= _BIFF8:
            sheet = sum(start <= at for start in starts) - 1
            if sheet >= 0:
                found[sheet].append(_characters(stream, at + 4, size))
        at += 4 + size
    return found


def _characters(stream: bytes, record: int, size: int) -> str:
    (length,) = struct.unpack_from("<H", stream, record + _TXO_LENGTH)
    at, parts = record + size, []
    while length > 0 and stream[at : at + 2] == _CONTINUE:
        (size,) = struct.unpack_from("<H", stream, at + 2)
        wide = stream[at + 4] & 1 if size else 0
        text = stream[at + 5 : at + 4 + size].decode("utf-16-le" if wide else "latin-1", "replace")[:length]
        parts.append(text)
        length -= len(text) or length
        at += 4 + size
    return "".join(parts).strip()
