"""PDF through PDFium: the text layer, a block a page. Knows nothing about other formats, OCR or chunks."""

from __future__ import annotations

import re
from pathlib import Path
from threading import Lock
from typing import Any

from ingest.parse.document import ParsedDocument, Piece, assemble, pick_title
from rag.errors import ParseError

_PDFIUM = Lock()
"""PDFium may be entered by one thread at a time."""
_WRONG_PASSWORD = 4
_BROKEN_WORD = re.compile("(\\w*)(?:\ufffe|\u00ad\\s*\n)(\\w*)")
_WORDS = re.compile(r"\w+(?:-\w+)+|\w+")
_SYMBOL_BULLETS = str.maketrans(dict.fromkeys("\uf0a7\uf0b7\uf0d8\uf076\uf02d", "•"))
"""Bullets of the Symbol and Wingdings fonts, which PDFium reports by their private code points."""


def parse_pdf(path: Path) -> ParsedDocument:
    """Read the text layer of a PDF file.

    Raises:
        ParseError: if it needs a password or holds no text. PDFium's own error if it is beyond repair.
    """
    with _PDFIUM:
        document = _open(path)
        try:
            texts, unread = _read(document)
            title, sound = pick_title(document.get_metadata_value("Title")), _is_sound(document)
        finally:
            document.close()
    if not any(text.strip() for text in texts):
        raise ParseError(
            f"no text layer on any of its {len(texts)} pages: scanned pages need OCR, which is not built in yet; "
            "run `ocrmypdf IN OUT` first"
        )
    notes = [f"{_spans(unread)} no text layer and {_were(unread)} not read"] if unread else []
    if not sound:
        notes.append("the file is damaged and was repaired while reading; parts may be missing")
    texts = _join_broken_words(texts)
    pieces = (Piece(text.translate(_SYMBOL_BULLETS), page=number) for number, text in enumerate(texts, start=1))
    return assemble(title or path.stem, pieces, len(texts), tuple(notes))


def _open(path: Path) -> Any:
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        if getattr(error, "err_code", None) == _WRONG_PASSWORD:
            raise ParseError(
                "password-protected; remove the password first, for example `qpdf --decrypt --password=... IN OUT`"
            ) from None
        raise
    if document.get_formtype():
        document.init_forms()
    return document


def _read(document: Any) -> tuple[list[str], list[int]]:
    """The text of every page, and the numbers of pages that show something but hold no text."""
    texts: list[str] = []
    unread: list[int] = []
    for number in range(1, len(document) + 1):
        text, shows = _page(document, number - 1)
        texts.append(text)
        if shows and not text.strip():
            unread.append(number)
    return texts, unread


def _page(document: Any, index: int) -> tuple[str, bool]:
    """Text of a page, and whether anything but text is drawn on it; a page that is beyond repair shows something."""
    import pypdfium2

    try:
        page = document[index]
    except pypdfium2.PdfiumError:
        return "", True
    try:
        if document.formenv is not None:
            page = _with_form_values(document, page, index)
        textpage = page.get_textpage()
        text = str(textpage.get_text_range()).replace("\r\n", "\n")
        textpage.close()
        return text, not text.strip() and _draws(page)
    finally:
        page.close()


def _with_form_values(document: Any, page: Any, index: int) -> Any:
    """The page with what was filled into its form fields drawn onto it, where text extraction sees it."""
    page.flatten()
    page.close()
    return document[index]


def _draws(page: Any) -> bool:
    from pypdfium2 import raw

    return any(item.type != raw.FPDF_PAGEOBJ_TEXT for item in page.get_objects(max_depth=1))


def _is_sound(document: Any) -> bool:
    from pypdfium2 import raw

    return bool(raw.FPDF_DocumentHasValidCrossReferenceTable(document.raw))


def _join_broken_words(texts: list[str]) -> list[str]:
    """Mend words that were hyphenated at a line's end; PDFium puts U+FFFE for that hyphen and line break.

    The hyphen stays before a capital or a digit (`Lucene-BM25`), and where the document writes the word with a
    hyphen elsewhere but never without (`worst-case`).
    """
    known = {word.lower() for text in texts for word in _WORDS.findall(text)}

    def mend(found: re.Match[str]) -> str:
        head, tail = found.groups()
        hyphenated = f"{head}-{tail}"
        if tail and head and tail[0].islower():
            return hyphenated if hyphenated.lower() in known and (head + tail).lower() not in known else head + tail
        return hyphenated

    return [_BROKEN_WORD.sub(mend, text) for text in texts]


def _spans(pages: list[int]) -> str:
    """`page 3 has`, `pages 3-7, 9 have`."""
    spans: list[list[int]] = []
    for page in pages:
        if spans and page == spans[-1][1] + 1:
            spans[-1][1] = page
        else:
            spans.append([page, page])
    listed = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)
    return f"page {listed} has" if len(pages) == 1 else f"pages {listed} have"


def _were(pages: list[int]) -> str:
    return "was" if len(pages) == 1 else "were"
