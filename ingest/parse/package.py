"""An Office file as what it is: a ZIP archive of XML parts that name each other. Knows nothing about slides or sheets.

Parts are read one at a time, so that the pictures and films in a file cost no memory. Tags are matched by their
local names: strict and transitional files differ in their namespaces only.
"""

from __future__ import annotations

import posixpath
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from ingest.parse.document import ParsedDocument, day, pairs

_UNREADABLE = (KeyError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError)

_HARMLESS: Any = {
    "resolve_entities": False,
    "no_network": True,
    "huge_tree": True,
    "remove_comments": True,
    "remove_pis": True,
}


class Relation(NamedTuple):
    """How one part names another: `kind` is the last word of the relation's type, such as `slide`."""

    kind: str
    part: str


class Package:
    """An open Office file; `damaged` lists the parts that could not be read, or not to their end."""

    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path)
        self._names = {_key(name): name for name in self._zip.namelist()}
        self._relations: dict[str, dict[str, Relation]] = {}
        self.damaged: list[str] = []

    def __enter__(self) -> Package:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def main(self) -> str:
        """The part that the document begins with; empty where none is named."""
        return next((rel.part for rel in self.relations("").values() if rel.kind == "officeDocument"), "")

    def relations(self, part: str) -> dict[str, Relation]:
        """What a part names, by the id that its text uses; links to the world outside are left out."""
        if part not in self._relations:
            folder, name = posixpath.split(part)
            root = self.xml(posixpath.join(folder, "_rels", f"{name}.rels"), needed=False)
            nodes = () if root is None else root.iter("{*}Relationship")
            self._relations[part] = {
                node.get("Id", ""): Relation(
                    node.get("Type", "").rpartition("/")[2], _joined(folder, node.get("Target", ""))
                )
                for node in nodes
                if node.get("TargetMode") != "External"
            }
        return self._relations[part]

    def related(self, part: str, kind: str) -> Iterator[str]:
        """Parts of one kind that a part names."""
        return (rel.part for rel in self.relations(part).values() if rel.kind == kind)

    def xml(self, part: str, needed: bool = True) -> Any:
        """A part's root element, mended where it is no sound XML; None where it cannot be read."""
        from lxml import etree

        try:
            data = self._zip.read(self._names[_key(part)])
        except _UNREADABLE:
            if needed or _key(part) in self._names:
                self.damaged.append(part)
            return None
        try:
            return etree.fromstring(data, _parser())
        except etree.XMLSyntaxError:
            self.damaged.append(part)
            return etree.fromstring(data, _parser(recover=True))

    def elements(self, part: str, *tags: str) -> Iterator[Any]:
        """A large part's elements of these local names, one at a time; none may lie within another."""
        from lxml import etree

        try:
            with self._zip.open(self._names[_key(part)]) as file:
                found = etree.iterparse(file, tag=[f"{{*}}{tag}" for tag in tags], recover=True, **_HARMLESS)
                for _, element in found:
                    yield element
                    element.clear()
                    while element.getprevious() is not None:
                        del element.getparent()[0]
                if len(found.error_log):
                    self.damaged.append(part)
        except (*_UNREADABLE, etree.XMLSyntaxError):
            self.damaged.append(part)

    def title(self) -> str:
        """The title that the file's properties give, where they do."""
        return self._property("title")

    def about(self, parsed: ParsedDocument) -> ParsedDocument:
        """A document with the day and the author that the file's properties give."""
        dated = day(self._property("modified"), self._property("created"))
        return replace(parsed, date=dated, metadata=pairs(("author", self._property("creator"))))

    def _property(self, name: str) -> str:
        for part in self.related("", "core-properties"):
            root = self.xml(part, needed=False)
            return "" if root is None else str(root.findtext(f"{{*}}{name}") or "")
        return ""


def reference(node: Any, name: str) -> str:
    """An attribute of a namespace, by its local name: the id of a relation, as in `r:id`."""
    return next((str(value) for key, value in node.attrib.items() if key.endswith(f"}}{name}")), "")


def local(node: Any) -> str:
    """An element's local name."""
    return str(node.tag).rpartition("}")[2]


def _parser(recover: bool = False) -> Any:
    from lxml import etree

    return etree.XMLParser(recover=recover, **_HARMLESS)


def _joined(folder: str, target: str) -> str:
    return posixpath.normpath(posixpath.join("/", folder, unquote(target.replace("\\", "/")))).lstrip("/")


def _key(name: str) -> str:
    return name.replace("\\", "/").lstrip("/").lower()
