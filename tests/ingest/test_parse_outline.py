"""What a PDF holds besides its pages' text: outline, remarks, attached files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pypdfium2
import pytest
from pypdfium2 import raw

from ingest.parse import ocr
from ingest.parse.document import Context, ParsedDocument, Piece
from ingest.parse.outline import Entry, headed
from ingest.parse.pdf import parse_pdf
from rag.errors import ParseError
from tests.ingest.test_parse import lines, pdf


def place(piece: Piece) -> tuple[str, str, int | None, tuple[str, ...]]:
    return piece.text.strip(), piece.kind, piece.page, piece.headings


def parts(texts: list[str], *entries: tuple[int, str, int]) -> list[tuple[str, str, int | None, tuple[str, ...]]]:
    return [place(piece) for piece in headed(texts, [Entry(*entry) for entry in entries]) if piece.text.strip()]


class TestOutline:
    def test_text_goes_below_the_heading_whose_line_is_before_it(self) -> None:
        texts = ["preface\nWhales\nThey sing.", "more\n1.1  Blue\nwhales\nLarge."]
        assert parts(texts, (0, "Whales", 1), (1, "1.1 Blue Whales", 2)) == [
            ("preface", "text", 1, ()),
            ("Whales", "heading", 1, ("Whales",)),
            ("They sing.", "text", 1, ("Whales",)),
            ("more", "text", 2, ("Whales",)),
            ("1.1 Blue whales", "heading", 2, ("Whales", "1.1 Blue Whales")),
            ("Large.", "text", 2, ("Whales", "1.1 Blue Whales")),
        ]

    def test_a_heading_that_is_not_on_its_page_is_no_guess(self) -> None:
        """Page 2 may belong to either section: only what both lie below is sure."""
        texts = ["Book\nOne\ntext", "somewhere here the second begins", "surely below it"]
        found = parts(texts, (0, "Book", 1), (1, "One", 1), (1, "Two", 2))
        assert found[-2:] == [
            ("somewhere here the second begins", "text", 2, ("Book",)),
            ("surely below it", "text", 3, ("Book", "Two")),
        ]

    @pytest.mark.parametrize("entries", [[(0, "b", 2), (0, "a", 1)], [(0, "Page 1", 1)], [(0, "scan01.pdf", 1)], []])
    def test_outlines_that_say_nothing_change_nothing(self, entries: list[tuple[int, str, int]]) -> None:
        texts = ["a\nPage 1\nscan01.pdf", "b"]
        assert parts(texts, *entries) == [(texts[0], "text", 1, ()), ("b", "text", 2, ())]

    def test_words_of_roman_letters_are_headings(self) -> None:
        assert parts(["Civil\nlaw"], (0, "Civil", 1))[0] == ("Civil", "heading", 1, ("Civil",))


def changed(tmp_path: Path, change: Any) -> ParsedDocument:
    (tmp_path / "a.pdf").write_bytes(pdf(lines("The ship sails.")))
    with pypdfium2.PdfDocument(tmp_path / "a.pdf") as document:
        change(document)
        document.save(tmp_path / "b.pdf")
    spool = tmp_path / "spool"
    spool.mkdir()
    return parse_pdf(tmp_path / "b.pdf", Context(spool))


def remark(document: Any, kind: int, text: str) -> None:
    page = document[0]
    annotation = raw.FPDFPage_CreateAnnot(page.raw, kind)
    said = (text + "\0").encode("utf-16-le")
    assert raw.FPDFAnnot_SetStringValue(
        annotation, b"Contents", (raw.FPDF_WCHAR * (len(said) // 2)).from_buffer_copy(said)
    )
    raw.FPDFPage_CloseAnnot(annotation)


def test_remarks_are_read_once(tmp_path: Path) -> None:
    def write(document: Any) -> None:
        remark(document, raw.FPDF_ANNOT_TEXT, "When does it leave?")
        remark(document, raw.FPDF_ANNOT_HIGHLIGHT, "The ship")

    assert changed(tmp_path, write).text == "The ship sails.\n\nWhen does it leave?"


def test_attached_files_are_members(tmp_path: Path) -> None:
    def attach(document: Any) -> None:
        for name in ("../bill.xml", "notes.txt", "notes.txt "):
            document.new_attachment(name).set_data(b"<total>12</total>")

    parsed = changed(tmp_path, attach)
    assert [member.name for member in parsed.members][:2] == ["bill.xml", "notes.txt"]
    assert all(member.path.read_bytes() == b"<total>12</total>" for member in parsed.members)
    assert all(member.path.is_relative_to(tmp_path / "spool") for member in parsed.members)
    assert len({member.name for member in parsed.members}) == 3
    assert parsed.text.startswith("The ship sails.\n\n- bill.xml")


def test_words_with_a_single_letter_keep_their_hyphen(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(pdf(lines("a d-", "dimensional space")))
    assert "a d-dimensional space" in parse_pdf(tmp_path / "a.pdf", Context(tmp_path)).text


def test_the_first_reading_stands_when_time_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small print is read a second time; the first reading is kept if that takes too long, and pages end in time."""
    from PIL import Image

    asked: list[float] = []

    def read(_image: Any, _languages: str, _dpi: int, _mode: int, seconds: float) -> ocr.Read:
        asked.append(seconds)
        if len(asked) > 1:
            raise ParseError("took longer")
        return ocr.Read("tiny words", False, 50.0, 8)

    monkeypatch.setattr(ocr, "_read", read)
    assert ocr.recognise(Image.new("L", (100, 100)), "eng").text == "tiny words"
    assert len(asked) == 2
    assert asked[1] <= asked[0] == ocr.SECONDS
