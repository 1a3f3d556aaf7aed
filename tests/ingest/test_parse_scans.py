"""Scanned pages and pictures: what a person can read on them is found, and what cannot be read is said."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont

from ingest.parse.document import Context, ParsedDocument
from ingest.parse.table import parse
from rag.errors import ParseError

SENTENCE = "The lighthouse keeper polished the brass lamp every evening"
FONT = Path("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf")
needs_tesseract = pytest.mark.skipif(
    shutil.which("tesseract") is None or not FONT.exists(), reason="tesseract or the font is missing"
)

Read = Callable[..., ParsedDocument]


def page(*lines: str, size: tuple[int, int] = (1700, 1100)) -> Image.Image:
    """A page as a scanner sees it at 200 dpi."""
    image = Image.new("L", size, 245)
    draw, font = ImageDraw.Draw(image), ImageFont.truetype(str(FONT), 40)
    for number, line in enumerate(lines):
        draw.text((100, 120 + 90 * number), line, fill=20, font=font)
    return image


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read_(path: Path, languages: str = "eng", **changes: object) -> ParsedDocument:
        spool = tmp_path / "spool"
        spool.mkdir(exist_ok=True)
        return parse(path, Context(spool, languages, **changes))  # type: ignore[arg-type]

    return read_


@needs_tesseract
@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "gif", "webp", "tiff"])
def test_pictures_of_every_format(read: Read, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"scan.{suffix}"
    page(SENTENCE, "The second line is below it.").save(path)
    text = " ".join(read(path).text.split())
    assert SENTENCE in text
    assert "second line is below" in text


@needs_tesseract
def test_a_tiff_has_pages(read: Read, tmp_path: Path) -> None:
    page("Page one speaks of whales and ships.").save(
        tmp_path / "fax.tiff", save_all=True, append_images=[page("Page two speaks of herring and nets.")]
    )
    parsed = read(tmp_path / "fax.tiff")
    assert parsed.pages == 2
    pages = {block.page: parsed.text[block.start : block.end] for block in parsed.blocks}
    assert "whales" in pages[1]
    assert "herring" in pages[2]


@needs_tesseract
def test_a_scanned_pdf_is_recognised_page_by_page(read: Read, tmp_path: Path) -> None:
    page(SENTENCE).save(tmp_path / "a.pdf", save_all=True, append_images=[page("Another page about the harbour.")])
    beats: list[tuple[int, int]] = []
    parsed = read(tmp_path / "a.pdf", progress=lambda done, of: beats.append((done, of)))
    assert [block.page for block in parsed.blocks] == [1, 2]
    assert SENTENCE in " ".join(parsed.text.split())
    assert "harbour" in parsed.text
    assert beats == [(1, 2), (2, 2)]


@needs_tesseract
def test_only_pages_without_text_are_recognised(read: Read, tmp_path: Path) -> None:
    """A page with a text layer stays as it is; a blank one costs nothing; a scan in between is read."""
    import pypdfium2

    from tests.ingest.test_parse import lines, pdf

    (tmp_path / "text.pdf").write_bytes(pdf(lines("A page with a text layer."), ""))
    page(SENTENCE).save(tmp_path / "scan.pdf")
    with pypdfium2.PdfDocument(tmp_path / "text.pdf") as whole, pypdfium2.PdfDocument(tmp_path / "scan.pdf") as scan:
        whole.import_pages(scan)
        whole.save(tmp_path / "mixed.pdf")
    beats: list[tuple[int, int]] = []
    parsed = read(tmp_path / "mixed.pdf", progress=lambda done, of: beats.append((done, of)))
    assert parsed.pages == 3
    assert [block.page for block in parsed.blocks] == [1, 3]
    assert "A page with a text layer." in parsed.text
    assert SENTENCE in " ".join(parsed.text.split())
    assert beats == [(1, 1)]


@needs_tesseract
def test_a_stamp_does_not_hide_the_scan_below_it(read: Read, tmp_path: Path) -> None:
    import pypdfium2
    from pypdfium2 import raw

    page(SENTENCE).save(tmp_path / "scan.pdf")
    with pypdfium2.PdfDocument(tmp_path / "scan.pdf") as document:
        first = document[0]
        font = raw.FPDFText_LoadStandardFont(document.raw, b"Helvetica")
        stamp = raw.FPDFPageObj_CreateTextObj(document.raw, font, 8.0)
        encoded = "BATES 000117\0".encode("utf-16-le")
        buffer = (raw.FPDF_WCHAR * (len(encoded) // 2)).from_buffer_copy(encoded)
        raw.FPDFText_SetText(stamp, buffer)
        raw.FPDFPage_InsertObject(first.raw, stamp)
        first.gen_content()
        document.save(tmp_path / "stamped.pdf")
    text = " ".join(read(tmp_path / "stamped.pdf").text.split())
    assert SENTENCE in text
    assert "000117" in text


@needs_tesseract
def test_a_page_on_its_side_is_turned(read: Read, tmp_path: Path) -> None:
    lines = [SENTENCE, "and wrote the weather into the book,", "because the harbour master asked for it."] * 3
    page(*lines).rotate(90, expand=True).save(tmp_path / "side.png")
    assert SENTENCE in " ".join(read(tmp_path / "side.png").text.split())


@needs_tesseract
def test_a_picture_without_text_is_refused(read: Read, tmp_path: Path) -> None:
    Image.new("RGB", (400, 300), "navy").save(tmp_path / "blue.png")
    with pytest.raises(ParseError, match="no text was recognised"):
        read(tmp_path / "blue.png")


@needs_tesseract
def test_a_missing_language_names_its_package(read: Read, tmp_path: Path) -> None:
    page(SENTENCE).save(tmp_path / "a.png")
    with pytest.raises(ParseError, match="apt-get install tesseract-ocr-tlh"):
        read(tmp_path / "a.png", languages="eng+tlh")


def test_without_tesseract_the_command_is_told(read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    Image.new("L", (400, 300), 200).save(tmp_path / "a.png")
    with pytest.raises(ParseError, match="apt-get install tesseract-ocr"):
        read(tmp_path / "a.png")
    Image.new("L", (400, 300), 200).save(tmp_path / "a.pdf")
    with pytest.raises(ParseError, match=r"no text layer.*apt-get install tesseract-ocr"):
        read(tmp_path / "a.pdf")


def test_without_tesseract_the_other_pages_are_read(
    read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.ingest.test_parse import lines, pdf

    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "a.pdf").write_bytes(pdf(lines("A page with a text layer."), "10 10 200 200 re f"))
    parsed = read(tmp_path / "a.pdf")
    assert parsed.text == "A page with a text layer."
    (note,) = parsed.notes
    assert note.startswith("page 2 has no text layer and was not read")
    assert "apt-get install tesseract-ocr" in note


def test_a_picture_beyond_all_bounds_is_refused(read: Read, tmp_path: Path) -> None:
    """A bomb: 250 million pixels in a few hundred kilobytes."""
    Image.new("1", (50_000, 5_000)).save(tmp_path / "bomb.png")
    with pytest.raises(ParseError, match=r"million pixels|tesseract"):
        read(tmp_path / "bomb.png")
