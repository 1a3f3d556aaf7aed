"""PDF through PDFium: the text layer, a block a page; pages without one are recognised as pictures.

Knows nothing about other formats, how text is recognised, or chunks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from ingest.parse import ocr
from ingest.parse.document import Context, Member, ParsedDocument, Piece, assemble, day, pairs, pick_title
from ingest.parse.members import Spool, file_name, left_out
from ingest.parse.outline import Entry, headed
from rag.errors import ParseError

_PDFIUM = Lock()
"""PDFium may be entered by one thread at a time."""
_WRONG_PASSWORD = 4
_BROKEN_WORD = re.compile("(\\w*)(?:\ufffe|\u00ad\\s*\n)(\\w*)")
_WORDS = re.compile(r"\w+(?:-\w+)*")
_DPI = 300
"""What scans are recognised at; 400 was no better."""
_STAMP = 100
"""Characters; a text layer with fewer on a page that is one picture is a stamp or a page number."""
_NO_TEXT = re.compile("[\x00-\x08\x0e-\x1f\ufffd\ufffe\ue000-\uf8ff]")
_MAX_BROKEN = 0.2
"""Share of such characters; on readable pages at most 0.0012 was seen."""
_PAPER = 250
"""Brightness; an empty page with nothing darker is blank."""
_SILENT = (2, 16, 20)
"""Annotations without words of their own: links, pop-ups (which show another's), fields (FPDF_ANNOT_* in PDFium)."""
_SYMBOL_BULLETS = str.maketrans(dict.fromkeys("\uf0a7\uf0b7\uf0d8\uf076\uf02d", "•"))
"""Bullets of the Symbol and Wingdings fonts, which PDFium reports by their private code points."""


def parse_pdf(path: Path, context: Context) -> ParsedDocument:
    """Read the text layer of a PDF file, and by text recognition the pages that have none worth the name.

    Pictures on pages with a text layer are not recognised.

    Raises:
        ParseError: if it needs a password or holds no text. PDFium's own error if it is beyond repair.
    """
    with _PDFIUM:
        document = _open(path)
        try:
            pages = [_page(document, index) for index in range(len(document))]
            texts, notes = _recognised(document, pages, context)
            title, sound = pick_title(document.get_metadata_value("Title")), _is_sound(document)
            said = pairs(("author", document.get_metadata_value("Author")))
            dated = day(*map(document.get_metadata_value, ("ModDate", "CreationDate")))
            entries, members = _outline(document), _attachments(document, context, notes)
        finally:
            document.close()
    if not any(text.strip() for text in texts) and (notes or not members):
        raise ParseError(_nothing(notes, len(texts)))
    if not sound:
        notes.append("the file is damaged and was repaired while reading; parts may be missing")
    texts = [text.translate(_SYMBOL_BULLETS) for text in _join_broken_words(texts)]
    pieces = [*headed(texts, entries), *(Piece(f"- {member.name}") for member in members)]
    parsed = assemble(title or path.stem, pieces, len(texts), tuple(notes))
    return replace(parsed, members=members, date=dated, metadata=said)


def _nothing(notes: list[str], pages: int) -> str:
    where = f"no text layer on any of its {pages} pages" if pages > 1 else "its page has no text layer"
    return f"{where}, and {notes[0]}" if notes else f"{where}, nor anything that could be recognised as text"


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


def _outline(document: Any) -> list[Entry]:
    found = []
    for bookmark in document.get_toc():
        target = bookmark.get_dest()
        index = None if target is None else target.get_index()
        if index is not None and bookmark.get_title():
            found.append(Entry(bookmark.level, bookmark.get_title(), index + 1))
    return found


def _attachments(document: Any, context: Context, notes: list[str]) -> tuple[Member, ...]:
    """Files inside the PDF: all there is in a portfolio, the data of an electronic invoice."""
    import pypdfium2

    spool = Spool(context)
    damaged: list[tuple[str, str]] = []
    for index in range(document.count_attachments()):
        attachment = document.get_attachment(index)
        name = file_name(attachment.get_name())
        try:
            spool.add(name, [bytes(attachment.get_data())])
        except pypdfium2.PdfiumError:
            damaged.append((name, "damaged"))
    notes += left_out(damaged)
    return tuple(spool.members)


class _Page(NamedTuple):
    """What PDFium sees of a page."""

    text: str
    wants_recognition: bool
    """True where it shows something that is not in its text, or its text is no text."""


def _page(document: Any, index: int) -> _Page:
    """A page's text layer; a page that is beyond repair shows something that nobody can read."""
    import pypdfium2

    try:
        page = document[index]
    except pypdfium2.PdfiumError:
        return _Page("", True)
    try:
        if document.formenv is not None:
            page = _with_form_values(document, page, index)
        textpage = page.get_textpage()
        text = _with_ligatures(textpage, str(textpage.get_text_range())).replace("\r\n", "\n")
        textpage.close()
        wants = _wants_recognition(page, text.strip())
        return _Page("\n\n".join([text, *_comments(page, text)]), wants)
    finally:
        page.close()


def _comments(page: Any, text: str) -> Iterator[str]:
    """What readers wrote on the page: text boxes, notes, remarks on marked passages. Links and fields say nothing."""
    from pypdfium2 import raw

    seen = " ".join(text.split())
    for index in range(raw.FPDFPage_GetAnnotCount(page.raw)):
        annotation = raw.FPDFPage_GetAnnot(page.raw, index)
        if raw.FPDFAnnot_GetSubtype(annotation) not in _SILENT:
            said = " ".join(_contents(annotation).split())
            if said and said not in seen:
                yield said
        raw.FPDFPage_CloseAnnot(annotation)


def _contents(annotation: Any) -> str:
    import ctypes

    from pypdfium2 import raw

    size = raw.FPDFAnnot_GetStringValue(annotation, b"Contents", None, 0)
    buffer = ctypes.create_string_buffer(size)
    raw.FPDFAnnot_GetStringValue(annotation, b"Contents", ctypes.cast(buffer, ctypes.POINTER(raw.FPDF_WCHAR)), size)
    return buffer.raw.decode("utf-16-le", "replace").rstrip("\0")


def _wants_recognition(page: Any, text: str) -> bool:
    if not text:
        return _shows_something(page)
    if len(text) < _STAMP and _is_picture(page):
        return True
    return len(_NO_TEXT.findall(text)) > _MAX_BROKEN * len(text)


def _shows_something(page: Any) -> bool:
    """True where an empty page is not blank; annotations are no objects of the page, but they show."""
    from pypdfium2 import raw

    if any(item.type != raw.FPDF_PAGEOBJ_TEXT for item in page.get_objects(max_depth=1)):
        return True
    darkest, _ = page.render(scale=_fit(page, 36), grayscale=True).to_pil().getextrema()
    return bool(darkest < _PAPER)


def _is_picture(page: Any) -> bool:
    """True where one picture covers most of the page: a scan, on which a text layer is but a stamp."""
    from pypdfium2 import raw

    width, height = page.get_size()
    for item in page.get_objects(filter=(raw.FPDF_PAGEOBJ_IMAGE,), max_depth=2):
        left, bottom, right, top = item.get_bounds()
        if (right - left) * (top - bottom) > width * height / 2:
            return True
    return False


def _with_ligatures(textpage: Any, text: str) -> str:
    """PDFium writes U+FFFE for a hyphen at a line's end, and for a character that the font does not name.

    The fonts of macOS' own PDF writer leave the ligature ffi without a name; no other was seen.
    """
    from pypdfium2 import raw

    if "\ufffe" not in text:
        return text
    units = text.encode("utf-16-le", "surrogatepass")
    found = list(text)
    for at in (match.start() for match in re.finditer("\ufffe", text)):
        unit = at if len(units) == 2 * len(text) else len(text[:at].encode("utf-16-le", "surrogatepass")) // 2
        index = raw.FPDFText_GetCharIndexFromTextIndex(textpage.raw, unit)
        if index >= 0 and raw.FPDFText_GetUnicode(textpage.raw, index) == 0:
            inside = text[at - 1 : at].isalpha() and text[at + 1 : at + 2].isalpha()
            found[at] = "ffi" if inside else "\ufffd"
    return "".join(found)


def _recognised(document: Any, pages: Sequence[_Page], context: Context) -> tuple[list[str], list[str]]:
    """The pages' texts, recognised where they have to be, and notes on what could not be read."""
    texts = [page.text for page in pages]
    wanted = [number for number, page in enumerate(pages, start=1) if page.wants_recognition]
    lacking = ocr.missing(context.languages) if wanted else ""
    if lacking:
        return texts, [f"{_spans(wanted)} no text layer and {_were(wanted)} not read: {lacking}"]
    lost: dict[str, list[int]] = {}
    for done, number in enumerate(wanted, start=1):
        try:
            read = ocr.recognise(_picture(document, number - 1), context.languages, _DPI)
        except (ParseError, OSError, ValueError, RuntimeError) as error:
            lost.setdefault(str(error), []).append(number)
            context.progress(done, len(wanted))
            continue
        texts[number - 1] = _joined(read.text, texts[number - 1])
        if read.has_gaps or not read.text:
            what = "some text could not be recognised" if read.text else "no text was recognised"
            hint = f"if there is some, its language may not be among ocr_languages ({context.languages})"
            lost.setdefault(f"{what}; {hint}", []).append(number)
        context.progress(done, len(wanted))
    return texts, [f"{_spans(numbers).rpartition(' ')[0]}: {reason}" for reason, numbers in lost.items()]


def _picture(document: Any, index: int) -> Any:
    """A page as it shows, in grey, with no more pixels than tesseract can take."""
    page = document[index]
    try:
        return page.render(scale=_fit(page, _DPI), grayscale=True).to_pil()
    finally:
        page.close()


def _fit(page: Any, dpi: int) -> float:
    """The factor from points to pixels; a poster has too many for `dpi`."""
    width, height = (length * dpi / 72 for length in page.get_size())
    return dpi / 72 * ocr.fit(width, height)


def _joined(recognised: str, layer: str) -> str:
    """What was recognised, and what only the text layer has, such as a stamp."""
    if len(_NO_TEXT.findall(layer)) > _MAX_BROKEN * len(layer.strip()):
        layer = ""
    new = set(_WORDS.findall(layer.lower())) - set(_WORDS.findall(recognised.lower()))
    return f"{recognised}\n\n{layer}" if new and recognised else recognised or layer


def _with_form_values(document: Any, page: Any, index: int) -> Any:
    """The page with what was filled into its form fields drawn onto it, where text extraction sees it."""
    page.flatten()
    page.close()
    return document[index]


def _is_sound(document: Any) -> bool:
    from pypdfium2 import raw

    return bool(raw.FPDF_DocumentHasValidCrossReferenceTable(document.raw))


def _join_broken_words(texts: list[str]) -> list[str]:
    """Mend words that were hyphenated at a line's end; PDFium puts U+FFFE for that hyphen and line break.

    The hyphen stays before a capital or a digit (`Lucene-BM25`), and where the document writes the word with a
    hyphen elsewhere but never without (`worst-case`).
    """
    if not any(mark in text for text in texts for mark in "\ufffe\u00ad"):
        return texts
    known = set(_WORDS.findall("\n".join(texts).lower()))

    def mend(found: re.Match[str]) -> str:
        head, tail = found.groups()
        hyphenated = f"{head}-{tail}"
        if len(head) > 1 and tail and tail[0].islower():  # `d-dimensional`, `e-mail`
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
