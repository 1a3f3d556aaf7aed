"""The one door to `unstructured`: its elements -> pieces with heading paths and table rows.

Knows nothing about files or suffixes. Nothing is downloaded and nothing is reported to anyone: telemetry is
off before the first import, and the spaCy model is never loaded.
"""

from __future__ import annotations

import importlib
import logging
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from io import BytesIO
from types import ModuleType
from typing import Any, cast

from ingest.parse.document import Piece
from ingest.parse.rows import line, looks_named

_TOKENIZE = "unstructured.nlp.tokenize"
_MARKED = re.compile(r"(?:[-•*–]|\(?\w{1,4}[.)]|\d[\d.]*)\s")
"""A list item that carries its bullet or number already."""
_MAX_HEADING = 200
"""Characters; a longer `heading` is a paragraph in large print."""


@cache
def _prepare() -> None:
    """Set `unstructured` up, before any of its modules is imported.

    It runs every paragraph through spaCy to tell narrative from other text. Nothing here reads that verdict,
    and it takes 95 % of the time (a 2.4 MB page: 4.9 s with it, 0.2 s without), so the module that owns
    spaCy is replaced by one that splits at white space; spaCy would bring PyTorch along as well (220 MB).
    """
    os.environ.setdefault("UNSTRUCTURED_DISABLE_NOTICE", "1")
    os.environ.setdefault("SCARF_NO_ANALYTICS", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    if _TOKENIZE not in sys.modules:
        sys.modules[_TOKENIZE] = _without_spacy()


def _without_spacy() -> ModuleType:
    module = ModuleType(_TOKENIZE, "Splits at white space; sees no parts of speech.")
    module.sent_tokenize = lambda text: [text]  # type: ignore[attr-defined]
    module.word_tokenize = str.split  # type: ignore[attr-defined]
    module.pos_tag = lambda text: []  # type: ignore[attr-defined]
    return module


@cache
def _html_partitioner() -> Callable[..., list[Any]]:
    """`partition_html`, mended: it drops paragraphs of one character and strips what looks like a bullet, and
    libxml2's default limits make it lose, without an error, all that comes after 256 levels or 10 MB of text.
    """
    _prepare()
    from lxml import etree
    from unstructured.documents.elements import Text
    from unstructured.partition.html import parser

    partition: Any = importlib.import_module("unstructured.partition.html.partition")
    roomy = etree.HTMLParser(remove_comments=True, remove_pis=True, huge_tree=True)
    roomy.set_element_class_lookup(parser.element_class_lookup)
    partition.html_parser = roomy
    parser.derive_element_type_from_text = lambda text: Text
    return cast("Callable[..., list[Any]]", partition.partition_html)


def html_elements(html: str) -> list[Any]:
    """Elements of an HTML page. Links are not followed, images are not fetched."""
    return _html_partitioner()(text=html, languages=[""])


@cache
def _docx_partitioner() -> Callable[..., list[Any]]:
    """`partition_docx`, kept from printing: it warns on the root logger of cells that `_table` puts back."""
    _prepare()
    partition: Any = importlib.import_module("unstructured.partition.docx")
    partition.logging = logging.getLogger("unstructured.docx")
    partition.logging.setLevel(logging.ERROR)
    return cast("Callable[..., list[Any]]", partition.partition_docx)


def docx_elements(data: bytes) -> list[Any]:
    """Elements of a Word document."""
    return _docx_partitioner()(file=BytesIO(data), include_page_breaks=False, languages=[""])


def pieces(elements: Iterable[Any]) -> Iterator[Piece]:
    """Pieces in document order. Headings are those that the format marks, never those that merely look like it."""
    path: list[tuple[int, str]] = []
    page: int | None = None
    running: set[str] = set()
    for element in elements:
        page = element.metadata.page_number or page
        text = element.text or ""
        if element.category in ("Header", "Footer"):
            if text not in running:
                running.add(text)
                yield Piece(text, page=page)
        elif element.category == "Title" and 0 < len(text.strip()) <= _MAX_HEADING:
            depth = element.metadata.category_depth or 0
            path = [(level, name) for level, name in path if level < depth] + [(depth, " ".join(text.split()))]
            yield Piece(text, "heading", page, _names(path))
        elif element.category == "Table":
            yield from _table(element, page, _names(path))
        else:
            bare = element.category == "ListItem" and not _MARKED.match(text)
            yield Piece(f"- {text}" if bare else text, "text", page, _names(path))


def _names(path: list[tuple[int, str]]) -> tuple[str, ...]:
    return tuple(name for _, name in path)


def _table(element: Any, page: int | None, headings: tuple[str, ...]) -> Iterator[Piece]:
    """The caption, then the table with a line a row; all cells in one line where rows would lose some."""
    caption, rows, named = _rows(element.metadata.text_as_html or "")
    if Counter(element.text.split()) - Counter(f"{caption} {' '.join(map(' '.join, rows))}".split()):
        caption, rows, named = "", [[element.text]], False
    yield Piece(caption, "text", page, headings)
    rows = _tidy(rows)
    lines = [line(row) for row in rows]
    named = len(lines) > 1 and (named or looks_named(rows))
    yield Piece("\n".join(lines), "table", page, headings, lines[0] if named else "")


def _rows(html: str) -> tuple[str, list[list[str]], bool]:
    """Caption, rows of cells, and whether the first row that is not empty is marked as column names."""
    from lxml import etree

    if not html:
        return "", [], False
    root = etree.fromstring(html, etree.HTMLParser())
    caption = " ".join(_text(node) for node in root.iter("caption"))
    found = [(row, [_text(cell) for cell in row.iter("td", "th")]) for row in root.iter("tr")]
    first = next((row for row, cells in found if any(cells)), None)
    return caption, _spread([row for row, _ in found]), first is not None and _is_head(first)


def _is_head(row: Any) -> bool:
    cells = list(row.iter("td", "th"))
    return row.getparent().tag == "thead" or (len(cells) > 1 and all(cell.tag == "th" for cell in cells))


def _spread(rows: list[Any]) -> list[list[str]]:
    """The cells' texts in their columns: in every row that a merged cell reaches into, in the first of its columns."""
    out: list[list[str]] = []
    hanging: dict[int, tuple[int, str]] = {}
    for row in rows:
        held, hanging = hanging, {at: (left - 1, text) for at, (left, text) in hanging.items() if left > 1}
        cells: list[str] = []
        for cell in row.iter("td", "th"):
            while len(cells) in held:
                cells.append(held[len(cells)][1])
            texts = [_text(cell), *[""] * (_span(cell, "colspan") - 1)]
            below = _span(cell, "rowspan") - 1
            hanging |= {len(cells) + at: (below, text) for at, text in enumerate(texts) if below}
            cells += texts
        out.append([*cells, *(held[at][1] for at in sorted(held) if at >= len(cells))])
    return out


def _span(cell: Any, name: str) -> int:
    value = cell.get(name, "1")
    return min(int(value), 1000) if value.isdecimal() and int(value) else 1


def _text(node: Any) -> str:
    return " ".join(" ".join(node.itertext()).split())


def _tidy(rows: list[list[str]]) -> list[list[str]]:
    """Rows without empty rows and columns. Where rows differ in length, columns mean nothing: no empty cells."""
    rows = [row for row in rows if any(row)]
    if len({len(row) for row in rows}) > 1:
        return [[cell for cell in row if cell] for row in rows]
    used = [any(column) for column in zip(*rows, strict=True)]
    return [[cell for cell, keep in zip(row, used, strict=True) if keep] for row in rows]
