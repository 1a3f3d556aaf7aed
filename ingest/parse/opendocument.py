"""OpenDocument texts (.odt), shown as HTML and read as such.

Knows nothing about how HTML becomes text. Pandoc reads them too, but loses headers and footers, text boxes, nested
tables and formulas. Left out on purpose: deleted text of tracked changes, and the contents of form controls.
"""

from __future__ import annotations

import posixpath
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

from ingest.parse.archive import open_zip, read_member
from ingest.parse.document import Context, ParsedDocument, day, pairs, pick_title
from ingest.parse.html import from_html
from rag.errors import ParseError

_OFFICE = "{urn:oasis:names:tc:opendocument:xmlns:office:1.0}"
_SVG = "{urn:oasis:names:tc:opendocument:xmlns:svg-compatible:1.0}"
_DROPPED = ("tracked-changes", "forms", "event-listeners", "sequence-decls", "variable-decls")
_ASIDE = ("text-box", "custom-shape", "rect", "ellipse", "line", "connector", "polygon", "path")
"""What hangs on a paragraph and shows beside it: it follows the paragraph."""
_RUNNING = ("header-first", "header", "header-left", "footer-first", "footer", "footer-left")
_PROPERTIES = ("date", "creation-date", "initial-creator", "creator")
_MOST_REPEATED = 1_000
"""Cells or rows of the same content; spreadsheets fill up with empty ones."""


def parse_odt(path: Path, context: Context) -> ParsedDocument:
    """Read an OpenDocument text.

    Raises:
        ParseError: if it is protected by a password or damaged. OSError: if it cannot be read.
    """
    with open_zip(path) as archive:
        package = _Package(archive, context.max_unpacked)
        if package.is_encrypted():
            raise ParseError("it is protected by a password; remove it and save the document anew")
        content, styles, meta = (package.xml(name) for name in ("content.xml", "styles.xml", "meta.xml"))
        writer = _Writer(package, content, styles)
        body = "".join(map(writer.html, content.iter(f"{_OFFICE}text")))
        top, bottom = writer.running(styles)
    titles = ["".join(node.itertext()) for node in meta.iter("{*}title")]
    return about(from_html(f"<body>{top}{body}{bottom}</body>", path.stem, title=pick_title(*titles)), meta)


def about(parsed: ParsedDocument, meta: Any) -> ParsedDocument:
    """A document with the day and the author that its `meta.xml` gives."""
    said = [str(next((node.text for node in meta.iter(f"{{*}}{name}")), "") or "") for name in _PROPERTIES]
    changed, made, first, last = said
    return replace(parsed, date=day(changed, made), metadata=pairs(("author", first.strip() or last)))


class _Package:
    """The files of a document."""

    def __init__(self, archive: zipfile.ZipFile, most: int) -> None:
        self._archive, self._left = archive, most

    def xml(self, name: str) -> Any:
        """A file's root element; an empty one where there is no such file."""
        from lxml import etree

        try:
            data = read_member(self._archive, name, self._left)
        except KeyError:
            return etree.Element("empty")
        self._left -= len(data)
        return etree.fromstring(data, etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True))

    def is_encrypted(self) -> bool:
        """True for a document that needs a password."""
        return next(self.xml("META-INF/manifest.xml").iter("{*}encryption-data"), None) is not None


class _Writer:
    """Elements -> HTML; everything that it does not know, it shows by its text."""

    def __init__(self, package: _Package, *roots: Any) -> None:
        self._package = package
        self._parents = {
            _get(style, "name"): _get(style, "parent-style-name") for r in roots for style in r.iter("{*}style")
        }
        lists = (style for root in roots for style in root.iter("{*}list-style"))
        self._numbered = {_get(style, "name") for style in lists if _name(next(iter(style), style)).endswith("number")}
        self._beside: list[str] = []
        self._list_style = ""
        self._show: dict[str, Callable[[Any], str]] = {
            "annotation": self._comment,
            "covered-table-cell": lambda node: "",
            "h": lambda node: self._block(node, f"h{min(int(_get(node, 'outline-level') or 1), 6)}"),
            "line-break": lambda node: "<br>",
            "list": self._list,
            "list-item": lambda node: f"<li>{self._inside(node)}</li>",
            "note": self._note,
            "object": self._object,
            "p": lambda node: self._block(node, "h1" if self._is_title(_get(node, "style-name")) else "p"),
            "s": lambda node: "\u00a0" * int(_get(node, "c") or 1),
            "tab": lambda node: "\t",
            "table": self._table,
            **dict.fromkeys(_DROPPED, lambda node: ""),
            **dict.fromkeys(_ASIDE, self._aside),
        }

    def html(self, node: Any) -> str:
        """An element and what is in it, without what follows it."""
        if not isinstance(node.tag, str) or node.tag.startswith(_SVG):
            return ""
        return self._show.get(_name(node), self._inside)(node)

    def running(self, styles: Any) -> tuple[str, str]:
        """Headers and footers, each text once."""
        shown: dict[str, str] = {}
        for kind in _RUNNING:
            for node in styles.iter(f"{{*}}{kind}"):
                if re.search(r"[^\W\d]", "".join(node.itertext())):
                    shown.setdefault(self._inside(node), kind)
        halves = (
            "".join(html for html, kind in shown.items() if kind.startswith(half)) for half in ("header", "footer")
        )
        return next(halves), next(halves)

    def _inside(self, node: Any) -> str:
        return escape(node.text or "") + "".join(self.html(child) + escape(child.tail or "") for child in node)

    def _block(self, node: Any, tag: str) -> str:
        """A paragraph or heading, then what hangs on it."""
        outer, self._beside = self._beside, []
        text = self._inside(node)
        aside, self._beside = "".join(self._beside), outer
        return f"<{tag}>{text}</{tag}>{aside}"

    def _aside(self, node: Any) -> str:
        html = self._inside(node)
        if not any(_name(parent) in ("p", "h") for parent in node.iterancestors()):
            return html
        self._beside.append(html)
        return ""

    def _note(self, node: Any) -> str:
        mark = "".join(f"[{''.join(cited.itertext())}]" for cited in node.iter("{*}note-citation"))
        for body in node.iter("{*}note-body"):
            self._beside.append(_led_by(mark, self._inside(body)))
        return escape(mark)

    def _comment(self, node: Any) -> str:
        author = "".join(f"{''.join(creator.itertext())}:" for creator in node.iter("{*}creator"))
        self._beside.append(_led_by(author, "".join(self._block(paragraph, "p") for paragraph in node.iter("{*}p"))))
        return ""

    def _object(self, node: Any) -> str:
        """A formula or a chart: its characters."""
        name = posixpath.normpath(posixpath.join(_get(node, "href"), "content.xml"))
        parts = [node, self._package.xml(name)]
        texts = (text for part in parts for text in _texts(part))
        return escape(" ".join(text.strip() for text in texts if text.strip()))

    def _list(self, node: Any) -> str:
        outer, self._list_style = self._list_style, _get(node, "style-name") or self._list_style
        tag = "ol" if self._list_style in self._numbered else "ul"
        first = next((_get(item, "start-value") for item in node), "")
        html = "".join(map(self.html, node))
        self._list_style = outer
        return f'<{tag} start="{int(first or 1)}">{html}</{tag}>'

    def _table(self, node: Any) -> str:
        return f"<table>{''.join(self._rows(node, 'td'))}</table>"

    def _rows(self, node: Any, cell: str) -> Iterator[str]:
        for child in node:
            if _name(child) == "table-row":
                cells = "".join(
                    _repeated(one, f"<{cell}>{self._inside(one)}</{cell}>") for one in child if _is_cell(one)
                )
                yield _repeated(child, f"<tr>{cells}</tr>")
            elif _name(child) in ("table-header-rows", "table-rows", "table-row-group"):
                yield from self._rows(child, "th" if _name(child) == "table-header-rows" else cell)

    def _is_title(self, style: str) -> bool:
        return "Title" in (style, self._parents.get(style))


def _led_by(mark: str, html: str) -> str:
    """Paragraphs, the first of which begins with a mark."""
    return html.replace("<p>", f"<p>{escape(mark)} ", 1) if "<p>" in html else f"<p>{escape(mark)}</p>{html}"


def _is_cell(node: Any) -> bool:
    return _name(node) == "table-cell"


def _repeated(node: Any, html: str) -> str:
    """What repeats, that often; without text, once."""
    times = int(_get(node, "number-columns-repeated") or _get(node, "number-rows-repeated") or 1)
    return html * min(times, _MOST_REPEATED) if "".join(node.itertext()).strip() else html


def _texts(node: Any) -> Iterator[str]:
    """Texts of a formula or chart, without its source in another notation."""
    if _name(node) == "annotation":
        return
    yield node.text or ""
    for child in node:
        yield from _texts(child)
        yield child.tail or ""


def _name(node: Any) -> str:
    return node.tag.rpartition("}")[2] if isinstance(node.tag, str) else ""


def _get(node: Any, attribute: str) -> str:
    """An attribute's value, whatever its namespace; the elements here have no two of one name."""
    return next((str(value) for name, value in node.items() if name.rpartition("}")[2] == attribute), "")
