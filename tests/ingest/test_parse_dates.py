"""The day and the metadata that a format has of its own."""

from __future__ import annotations

import datetime as dt
import re
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import docx
import openpyxl
import pptx
import pytest

from ingest.parse.document import Context, ParsedDocument, day, pairs
from ingest.parse.table import parse
from tests.ingest.test_parse import lines, pdf
from tests.ingest.test_parse_markup import odt
from tests.ingest.test_parse_opendocument import xml

CORE = re.compile(rb"<Relationship [^>]*core-properties[^>]*/>")
WHEN = dt.datetime(2024, 5, 17, 9, 30, tzinfo=dt.UTC)
Read = Callable[[str, bytes], ParsedDocument]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read_(name: str, content: bytes) -> ParsedDocument:
        path, spool = tmp_path / name, tmp_path / "spool"
        path.write_bytes(content)
        spool.mkdir(exist_ok=True)
        return parse(path, Context(spool))

    return read_


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("D:20240517093000+02'00'", "2024-05-17"),
        ("2024-05-17T23:59:59Z", "2024-05-17"),
        ("D:2024", "2024-01-01"),
        ("20240231", ""),
        ("1601-01-01T00:00:00Z", ""),
        ("17 May 2024", ""),
        ("", ""),
    ],
)
def test_days(said: str, expected: str) -> None:
    assert day(said) == expected
    assert day(said, "2020-02-02") == (expected or "2020-02-02")


def test_pairs_are_clean_and_each_is_there_once() -> None:
    assert pairs(("author", " Ana\n\x00Lund "), ("author", "Ana Lund"), ("to", "")) == (("author", "Ana Lund"),)
    assert len(pairs(("subject", "x" * 5000))[0][1]) == 500


def about(parsed: ParsedDocument) -> tuple[str, tuple[tuple[str, str], ...]]:
    return parsed.date, parsed.metadata


def test_word_and_powerpoint(read: Read) -> None:
    word, slides = docx.Document(), pptx.Presentation()
    word.add_paragraph("The rent is 900 euros.")
    slides.slides.add_slide(slides.slide_layouts[5]).shapes.title.text = "Rent"
    for name, file in (("a.docx", word), ("a.pptx", slides)):
        file.core_properties.author, file.core_properties.modified = "Ana Lund", WHEN
        out = BytesIO()
        file.save(out)
        assert about(read(name, out.getvalue())) == ("2024-05-17", (("author", "Ana Lund"),)), name


def test_a_word_document_without_properties_has_no_day(read: Read) -> None:
    word, saved, bare = docx.Document(), BytesIO(), BytesIO()
    word.add_paragraph("The rent is 900 euros.")
    word.save(saved)
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(bare, "w") as new:
        for name in old.namelist():
            if name != "docProps/core.xml":
                new.writestr(name, CORE.sub(b"", old.read(name)))
    assert about(read("a.docx", bare.getvalue())) == ("", ())


def test_excel(read: Read, tmp_path: Path) -> None:
    sheets, out = openpyxl.Workbook(), BytesIO()
    sheets.active["A1"] = "rent"
    sheets.properties.creator = "Ana Lund"
    sheets.save(out)
    changed = BytesIO()
    with zipfile.ZipFile(out) as old, zipfile.ZipFile(changed, "w") as new:
        for name in old.namelist():  # openpyxl writes the time of saving
            text = re.sub(rb"(:modified[^>]*>)[^<]*", rb"\g<1>2024-05-17T09:30:00Z", old.read(name))
            new.writestr(name, text)
    assert about(read("a.xlsx", changed.getvalue())) == ("2024-05-17", (("author", "Ana Lund"),))


@pytest.mark.parametrize(
    ("said", "author"),
    [
        ("<meta:initial-creator>Ana Lund</meta:initial-creator><dc:creator>Bo</dc:creator>", "Ana Lund"),
        ("<dc:creator>Bo</dc:creator>", "Bo"),
    ],
)
def test_opendocument(read: Read, said: str, author: str) -> None:
    meta = f"{said}<meta:creation-date>2020-01-01T00:00:00</meta:creation-date><dc:date>2024-05-17T09:30:00</dc:date>"
    text = odt("<text:p>The rent is 900 euros.</text:p>", **{"meta.xml": xml("document-meta", meta)})
    assert about(read("a.odt", text)) == ("2024-05-17", (("author", author),))


def test_pdf(read: Read) -> None:
    info = "<< /Author (Ana Lund) /CreationDate (D:20200101) /ModDate (D:20240517093000Z) >>"
    parsed = read("a.pdf", pdf(lines("The rent is 900 euros."), extra=(info,), trailer="/Info 4 0 R"))
    assert about(parsed) == ("2024-05-17", (("author", "Ana Lund"),))


def test_mail(read: Read) -> None:
    head = (
        b"From: =?utf-8?q?Lund=2C_=C3=81na?= <ana@example.org>\r\n"
        b'To: "Bo, Jr." <bo@example.org>, cy@example.org\r\n'
        b"Subject: The\r\n rent\r\nDate: Fri, 17 May 2024 23:30:00 -0500\r\n"
    )
    people = [("from", "Lund, Ána"), ("from", "ana@example.org")]
    people += [("to", "Bo, Jr."), ("to", "bo@example.org"), ("to", "cy@example.org")]
    assert about(read("a.eml", head + b"\r\nIt is 900 euros.")) == ("2024-05-17", (*people, ("subject", "The rent")))


@pytest.mark.parametrize("date", ["", "INVALID", "Fri, 99 May 2024 99:99:99 +9999", "Thu, 1 Jan 1903 00:00:00 +0000"])
def test_a_mail_without_a_day_that_can_be(read: Read, date: str) -> None:
    assert about(read("a.eml", f"Date: {date}\r\nFrom:\r\n\r\nIt is 900 euros.".encode())) == ("", ())
