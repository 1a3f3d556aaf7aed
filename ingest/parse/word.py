"""Word documents (.docx): what a reader of the document sees, laid open for `unstructured`.

Knows nothing about how elements become text. python-docx, under `unstructured`, walks the paragraphs and tables
that lie directly in the body and the runs that lie directly in a paragraph; content controls (cover pages,
tables of contents, forms), tracked insertions, text boxes, equations and footnotes lie elsewhere, and would be
lost without a word. They are moved to where they show.
"""

from __future__ import annotations

import copy
import re
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

from ingest.parse.document import ParsedDocument, assemble, pick_title
from ingest.parse.package import Package
from ingest.parse.via_unstructured import docx_elements, pieces

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_M = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
_MC = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
_TYPES = "[Content_Types].xml"
_MAIN = b"application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
_KINDS = re.compile(
    rb"application/vnd\.(ms-word\.(document|template)\.macroEnabled\w*"
    rb"|openxmlformats-officedocument\.wordprocessingml\.template)\.main\+xml"
)
"""Word's content types of documents with macros and of templates."""
_WRAPPERS = ("ins", "moveTo", "smartTag", "customXml", "fldSimple")
_NOTES = {"footnoteReference": "footnotes", "endnoteReference": "endnotes"}


def parse_docx(path: Path) -> ParsedDocument:
    """Read a Word document; pages are those that Word itself recorded when it last saved the file, or none.

    Raises:
        OSError: if the file cannot be read. Whatever python-docx raises on a damaged one.
    """
    import docx

    document = docx.Document(_as_document(path))
    _lay_open(document)
    opened = BytesIO()
    document.save(opened)
    found = list(pieces(docx_elements(opened.getvalue())))
    headings = (piece.text for piece in found if piece.kind == "heading")
    title = pick_title(document.core_properties.title or "", *headings) or path.stem
    with Package(path) as package:  # python-docx makes up what a file does not say: that it was changed just now
        return package.about(assemble(title, found, max((piece.page or 1 for piece in found), default=1)))


def _as_document(path: Path) -> BytesIO:
    """The file; one with macros or a template as the plain document that python-docx takes."""
    data = path.read_bytes()
    with zipfile.ZipFile(BytesIO(data)) as archive:
        types = archive.read(_TYPES)
        if not _KINDS.search(types):
            return BytesIO(data)
        plain = BytesIO()
        with zipfile.ZipFile(plain, "w") as copy_:
            for name in archive.namelist():
                copy_.writestr(name, _KINDS.sub(_MAIN, types) if name == _TYPES else archive.read(name))
    plain.seek(0)
    return plain


def _lay_open(document: Any) -> None:
    body = document.element.body
    for kind, notes in _NOTES.items():
        _place_notes(body, kind, _notes_part(document, notes))
    for fallback in list(body.iter(f"{_MC}Fallback")):
        fallback.getparent().remove(fallback)
    # Innermost first: what is inside a box or a control moves out before the box itself does.
    for box in reversed(list(body.iter(f"{_W}txbxContent"))):
        _move_after_paragraph(box)
    for math in list(body.iter(f"{_M}oMath")):
        _replace_by_run(math)
    for node in list(body.iter(f"{_M}oMathPara", *(f"{_W}{tag}" for tag in _WRAPPERS))):
        _unwrap(node, node)
    for control in list(body.iter(f"{_W}sdt")):
        content = control.find(f"{_W}sdtContent")
        _unwrap(control, content if content is not None else ())


def _unwrap(node: Any, content: Any) -> None:
    """Put `content` in the place of `node`."""
    for child in list(content):
        node.addprevious(child)
    node.getparent().remove(node)


def _move_after_paragraph(box: Any) -> None:
    """A text box hangs on a paragraph and shows beside it: its paragraphs follow that one."""
    anchor = next(box.iterancestors(f"{_W}p"), None)
    if anchor is not None:
        for child in reversed(list(box)):
            anchor.addnext(child)


def _replace_by_run(math: Any) -> None:
    """An equation becomes its characters, in reading order."""
    text = "".join(node.text or "" for node in math.iter(f"{_M}t"))
    math.addprevious(_run(math, text))
    math.getparent().remove(math)


def _run(near: Any, text: str) -> Any:
    run = near.makeelement(f"{_W}r")
    holder = run.makeelement(f"{_W}t", {"{http://www.w3.org/XML/1998/namespace}space": "preserve"})
    holder.text = text
    run.append(holder)
    return run


def _notes_part(document: Any, notes: str) -> dict[str, Any]:
    """Footnotes or endnotes by id; empty where the document has none."""
    from lxml import etree

    part = next((rel.target_part for rel in document.part.rels.values() if rel.reltype.endswith(f"/{notes}")), None)
    if part is None:
        return {}
    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    return {note.get(f"{_W}id"): note for note in etree.fromstring(part.blob, parser)}


def _place_notes(body: Any, kind: str, notes: dict[str, Any]) -> None:
    """A footnote's text follows the paragraph that refers to it, on the same page."""
    last: dict[Any, Any] = {}
    for number, reference in enumerate(list(body.iter(f"{_W}{kind}")), start=1):
        anchor = next(reference.iterancestors(f"{_W}p"), None)
        if anchor is None:
            continue
        reference.getparent().replace(reference, _run(reference, f"[{number}]")[0])
        for paragraph in _note_paragraphs(notes.get(reference.get(f"{_W}id")), number, body):
            last.get(anchor, anchor).addnext(paragraph)
            last[anchor] = paragraph


def _note_paragraphs(note: Any, number: int, body: Any) -> Iterator[Any]:
    if note is None:
        return
    for index, source in enumerate(note.iter(f"{_W}p")):
        paragraph = body.makeelement(f"{_W}p")
        if index == 0:
            paragraph.append(_run(body, f"[{number}] "))
        paragraph.extend(copy.deepcopy(child) for child in source if child.tag != f"{_W}pPr")
        yield paragraph
