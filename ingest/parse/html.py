"""HTML pages: what a reader of the page sees, in a form from which `unstructured` loses none of it.

Knows nothing about pages, chunks or the network. Left out on purpose: scripts, styles, site navigation (`nav`),
what lies outside a `main` that holds most of the page, and the contents of form controls.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ingest.parse.document import ParsedDocument, assemble, clean, pick_title
from ingest.parse.text import decode
from ingest.parse.via_unstructured import html_elements, pieces
from rag.errors import ParseError

_DECLARED = re.compile(rb"""(?:charset|encoding)\s*=\s*["']?([\w.:-]+)""", re.IGNORECASE)
_RENAMED = {
    "dd": "div",
    "dialog": "div",
    "details": "div",
    "figure": "div",
    "form": "div",
    "figcaption": "p",
    "summary": "p",
    "legend": "p",
    "label": "span",
}
"""Elements that `unstructured` skips or glues to their neighbours, and what they are shown as."""
_DROPPED = ("script", "style", "noscript", "template", "nav", "del")
_BLOCKS = ("p", "div", "ul", "ol", "dl", "table", "pre", "blockquote", "h1", "h2", "h3", "h4", "h5", "h6", "hr")
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_TABLE_PARTS = ("caption", "thead", "tbody", "tfoot", "tr", "td", "th")
_SPACE = re.compile(r"\s+")


def parse_html(path: Path) -> ParsedDocument:
    """Read an HTML page.

    Raises:
        ParseError: if it is binary. OSError: if it cannot be read.
    """
    data = path.read_bytes()
    declared = _DECLARED.search(data[:2048])
    text, notes = decode(data, declared.group(1).decode("ascii", "ignore") if declared else "")
    return from_html(text, path.stem, notes)


def from_html(html: str, name: str, notes: tuple[str, ...] = (), title: str = "") -> ParsedDocument:
    """A document from HTML text; titled by `title`, else the first `h1`, else `<title>`, else `name`.

    Raises:
        ParseError: if its elements are nested too deeply to be read.
    """
    from lxml import etree

    parser = etree.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True, huge_tree=True)
    root = etree.fromstring(html.encode("utf-8", "ignore") or b"<html/>", parser)
    if any(entry.type_name == "ERR_RESOURCE_LIMIT" for entry in parser.error_log):
        raise ParseError("its elements are nested more than 2,000 deep; mend the page's unclosed tags")
    if root is None:
        return assemble(name, (), notes=notes)
    titles = [title, *(_text(node) for tag in ("h1", "title") for node in root.iter(tag))]
    _make_readable(root)
    rendered = etree.tostring(root, method="html", encoding="unicode")
    return assemble(pick_title(*titles) or name, pieces(html_elements(rendered)), notes=notes)


def _make_readable(root: Any) -> None:
    """Change the tree so that nothing a reader sees is lost on the way through `unstructured`."""
    from lxml import etree

    etree.strip_elements(root, *_DROPPED, with_tail=False)
    for tag, shown_as in _RENAMED.items():
        for node in list(root.iter(tag)):
            node.tag = shown_as
    for heading in list(root.iter(*_HEADINGS)):
        _flatten_heading(heading)
    # Innermost first, so that a table that only held a layout table is seen for what it is.
    for table in reversed(list(root.iter("table"))):
        if _is_layout(table):
            _unfold(table)
    for item in list(root.iter("li")):
        _mark(item)
    _widen_main(root)


def _widen_main(root: Any) -> None:
    """Let no `main` hide the rest of the page, unless it holds most of it; `unstructured` reads nothing else."""
    body = root.find(".//body")
    for main in list(root.iter("main")):
        if body is None or 2 * len(_text(main)) < len(_text(body)):
            main.tag = "div"


def _flatten_heading(heading: Any) -> None:
    """A heading is one line: blocks in it become inline, and the permalink sign after it goes."""
    for node in heading.iter(*_BLOCKS):
        if node is not heading:
            node.tag = "span"
            node.tail = f" {clean(node.tail or '')}"
    for link in heading.iter("a"):
        if (link.text or "").strip() in ("¶", "#") and not len(link):
            link.text = ""


def _is_layout(table: Any) -> bool:
    """True for a table that arranges a page: blocks in its cells, a single row, or never two filled cells in a row."""
    if table.get("role") == "presentation" or next(table.iterdescendants("table", *_HEADINGS, "pre"), None) is not None:
        return True
    filled = [sum(bool(_text(cell)) for cell in row.iterchildren("td", "th")) for row in table.iter("tr")]
    return max(filled, default=0) < 2 or sum(map(bool, filled)) < 2


def _unfold(table: Any) -> None:
    """Turn a layout table, but not the tables within it, into plain blocks; a row of short cells into one line."""
    parts, stack = [], [table]
    while stack:
        node = stack.pop()
        parts.append(node)
        stack.extend(child for child in node if child.tag in _TABLE_PARTS)
    for node in parts:
        if node.tag == "tr" and all(_is_line(cell) for cell in node):
            for inner in node.iterdescendants("td", "th", "p", "div"):
                inner.tag, inner.tail = "span", f" {clean(inner.tail or '')}"
    for node in parts:
        if node.tag != "span":
            node.tag = "div"


def _is_line(cell: Any) -> bool:
    """True where a cell holds no more than one paragraph."""
    leaves = [node for node in cell.iterdescendants(*_BLOCKS) if next(node.iterdescendants(*_BLOCKS), None) is None]
    return len(leaves) < 2 and all(node.tag in ("p", "div") for node in leaves)


def _mark(item: Any) -> None:
    """Put the bullet or the number that a browser shows into the list item's text."""
    node = item
    while not (node.text or "").strip() and len(node):
        first = node[0]
        if first.tag in _BLOCKS and first.tag not in ("p", "div"):
            return
        if first.tag not in ("p", "div"):
            break
        node = first
    if _text(node):
        node.text = _marker(item) + clean(node.text or "").lstrip()


def _marker(item: Any) -> str:
    parent = item.getparent()
    if parent is None or parent.tag != "ol":
        return "- "
    start = parent.get("start", "1")
    return f"{int(start if start.isdecimal() else 1) + sum(1 for _ in item.itersiblings('li', preceding=True))}. "


def _text(node: Any) -> str:
    return _SPACE.sub(" ", "".join(node.itertext())).strip()
