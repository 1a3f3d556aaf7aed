"""EPUB books: the chapters in reading order, each read as the web page that it is.

Knows nothing about how HTML becomes text. A chapter without headings goes below its name in the table of contents.
"""

from __future__ import annotations

import posixpath
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ingest.parse.archive import open_zip, read_member
from ingest.parse.document import Context, ParsedDocument, Piece, assemble, pick_title
from ingest.parse.html import from_html
from ingest.parse.members import left_out, pieces_of
from ingest.parse.text import decode
from rag.errors import ParseError

_PAGES = ("application/xhtml+xml", "text/html", "application/xml", "image/svg+xml", "application/x-dtbook+xml")
_FONTS_ONLY = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
"""Methods that scramble embedded fonts: https://www.w3.org/TR/epub-33/#sec-font-obfuscation. All others are locks."""
_LOCKED = "the book is locked by its seller (DRM); export it without the lock, or leave it out"


def parse_epub(path: Path, context: Context) -> ParsedDocument:
    """Read an EPUB book.

    Raises:
        ParseError: if it is locked or damaged, or has no list of chapters. OSError: if it cannot be read.
    """
    with open_zip(path) as archive:
        book = _Book(archive, context.max_unpacked)
        if any(method not in _FONTS_ONLY for method in book.locks()):
            raise ParseError(_LOCKED)
        package = book.package()
        chapters = list(book.chapters(package))
    details = [_words(node) for tag in ("title", "creator") for node in package.iter(f"{{*}}{tag}")]
    pieces = [Piece("\n".join(filter(None, details))), *(piece for found in chapters for piece in pieces_of(found))]
    notes = (*(note for found in chapters for note in found.notes), *left_out(book.lost))
    return assemble(pick_title(*details[:1]) or path.stem, pieces, notes=tuple(dict.fromkeys(notes)))


class _Book:
    """The files of a book; what is missing or damaged is remembered."""

    def __init__(self, archive: zipfile.ZipFile, most: int) -> None:
        self._archive, self._left = archive, most
        self._names = set(archive.namelist())
        self._folder = ""
        self.lost: list[tuple[str, str]] = []

    def locks(self) -> list[str]:
        """The methods by which files are encrypted."""
        if "META-INF/encryption.xml" not in self._names:
            return []
        methods = _xml(self._read("META-INF/encryption.xml")).iter("{*}EncryptionMethod")
        return [method.get("Algorithm", "") for method in methods if method.getparent().tag.endswith("EncryptedData")]

    def package(self) -> Any:
        """The file that lists all others."""
        roots = _xml(self._read("META-INF/container.xml")).iter("{*}rootfile")
        name = next((root.get("full-path", "") for root in roots), "")
        if name not in self._names:
            raise ParseError("the book has no list of its chapters; get it anew")
        self._folder = posixpath.dirname(name)
        return _xml(self._read(name))

    def chapters(self, package: Any) -> Iterator[ParsedDocument]:
        """Chapters in reading order."""
        items = {item.get("id"): item for item in package.iter("{*}item")}
        spine = next(package.iter("{*}spine"))
        labels = self._labels(items.values(), items.get(spine.get("toc")))
        for reference in spine.iter("{*}itemref"):
            item = items.get(reference.get("idref"))
            if item is None or item.get("media-type") not in _PAGES:
                self.lost.append(
                    (reference.get("idref", ""), "no page of text" if item is not None else "not in the book")
                )
                continue
            name = _beside(self._folder, item.get("href", ""))
            if name not in self._names:
                self.lost.append((name, "not in the book"))
                continue
            yield _below(self._page(name), labels.get(name, ""))

    def _page(self, name: str) -> ParsedDocument:
        text, notes = decode(self._read(name))
        return from_html(text, name, notes)

    def _labels(self, items: Any, old_contents: Any) -> dict[str, str]:
        """File -> its name in the table of contents, where one entry leads there."""
        new = next((item for item in items if "nav" in item.get("properties", "").split()), None)
        source = new if new is not None else old_contents
        name = _beside(self._folder, source.get("href", "")) if source is not None else ""
        if name not in self._names:
            return {}
        labels: dict[str, list[str]] = {}
        for target, label in _entries(_xml(self._read(name))):
            labels.setdefault(_beside(posixpath.dirname(name), target), []).append(label)
        return {file: found[0] for file, found in labels.items() if len(found) == 1}

    def _read(self, name: str) -> bytes:
        data = read_member(self._archive, name, self._left)
        self._left -= len(data)
        return data


def _xml(data: bytes) -> Any:
    from lxml import etree

    root = etree.fromstring(data, etree.XMLParser(recover=True, resolve_entities=False, no_network=True))
    return etree.Element("empty") if root is None else root


def _entries(root: Any) -> Iterator[tuple[str, str]]:
    """Targets and labels of a table of contents, of EPUB 3 (links in `nav`) or 2 (`navPoint`)."""
    for nav in root.iter("{*}nav"):
        if "toc" in next((value for key, value in nav.items() if key.endswith("type")), "toc"):
            yield from ((link.get("href", ""), _words(link)) for link in nav.iter("{*}a"))
    for point in root.iter("{*}navPoint"):
        content, label = point.find("{*}content"), point.find("{*}navLabel")
        if content is not None and label is not None:
            yield content.get("src", ""), _words(label)


def _beside(folder: str, target: str) -> str:
    return posixpath.normpath(posixpath.join(folder, unquote(urlsplit(target).path)))


def _below(chapter: ParsedDocument, label: str) -> ParsedDocument:
    """A chapter below its label, unless it has headings of its own."""
    if not label or any(block.headings for block in chapter.blocks):
        return chapter
    return replace(chapter, blocks=tuple(replace(block, headings=(label,)) for block in chapter.blocks))


def _words(node: Any) -> str:
    return " ".join(" ".join(node.itertext()).split())
