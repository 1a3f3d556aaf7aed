"""Data: JSON, JSON lines and XML, as readable lines that lose nothing.

Knows nothing about how records become lines. XML's own entities and other files are never resolved.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from ingest.parse.document import ParsedDocument, Piece, assemble, pick_title
from ingest.parse.html import from_html
from ingest.parse.records import Fields, Value, field_pieces, record_pieces
from ingest.parse.text import decode, parse_text
from rag.errors import ParseError

_INK = re.compile(r"\S")
_DECLARED = re.compile(rb"""^\s*<\?xml[^>]*?encoding\s*=\s*["']([\w.:-]+)""")
_DECLARATION = re.compile(r"\A\s*<\?xml[^>]*\?>")
_DOCTYPE = re.compile(r"<!DOCTYPE(?:[^\[>]|\[.*?\]\s*(?=>))*>", re.DOTALL)
_ENTITY_OF_ENTITIES = re.compile(
    r"""<!ENTITY\s[^>"']*(["'])(?:(?!\1).)*?(?:[&%][A-Za-z_]|&#0*38;|&#[xX]0*26;)""", re.DOTALL
)
_MARKUP = re.compile(
    r"<!--.*?-->|<!DOCTYPE(?:[^\[>]|\[.*?\]\s*(?=>))*>|<\?.*?\?>|</?[^<>]*>|<!\[CDATA\[|\]\]>", re.DOTALL
)
_DECODER = json.JSONDecoder(object_pairs_hook=Fields, parse_float=str, parse_int=str, parse_constant=str, strict=False)
_NAMES = {True: "true", False: "false", None: "null"}


def parse_json(path: Path) -> ParsedDocument:
    """Read a JSON file; one that holds several values, such as JSON lines, is read as a list of them.

    What is no JSON is read as plain text, with a note. Raises ParseError if it is binary.
    """
    text, notes = decode(path.read_bytes())
    try:
        values = list(_values(text))
    except ValueError as error:
        return _as_text(path, f"it is not valid JSON ({error})")
    pieces = record_pieces(values[0] if len(values) == 1 else values) if values else ()
    return assemble(path.stem, pieces, notes=notes)


def parse_json_lines(path: Path) -> ParsedDocument:
    """Read a file with a JSON value a line; a line that is none is kept as text, with a note.

    Raises:
        ParseError: if it is binary.
    """
    with path.open("rb") as file:
        head = b"".join(islice(file, 2))
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00" in head or not _is_json(head.splitlines()[0]):
        return parse_json(path)
    broken: list[int] = []
    with path.open("rb") as file:
        parsed = assemble(path.stem, _pieces_of_lines(file, broken))
    if not broken:
        return parsed
    note = f"{len(broken):,} lines are not valid JSON and were read as text; the first is line {broken[0]}"
    return replace(parsed, notes=(note,))


def _pieces_of_lines(lines: Iterable[bytes], broken: list[int]) -> Iterator[Piece]:
    for number, line in enumerate(lines, start=1):
        text = decode(line)[0].strip() if line.strip() else ""
        if not text:
            continue
        try:
            values = list(_values(text))
        except ValueError:
            broken.append(number)
            yield Piece(text)
        else:
            for value in values:
                yield from record_pieces(value)


def _is_json(line: bytes) -> bool:
    try:
        return bool(list(_values(decode(line)[0])))
    except ValueError:
        return False


def _values(text: str) -> Iterator[Value]:
    """JSON values, one after the other, with numbers as they are written and no name lost that comes twice."""
    text = text.removeprefix("\ufeff")
    position = 0
    while ink := _INK.search(text, position):
        value, position = _DECODER.raw_decode(text, ink.start())
        yield _named(value)


def _named(value: Any) -> Value:
    """Everything that is no text, list or object by its JSON name."""
    if isinstance(value, Fields):
        return Fields((name, _named(inner)) for name, inner in value)
    if isinstance(value, list):
        return [_named(inner) for inner in value]
    return value if isinstance(value, str) else _NAMES[value]


def parse_xml(path: Path) -> ParsedDocument:
    """Read an XML file; XHTML as the page that it is.

    What is no XML is read as far as nothing is lost, else as plain text, with a note.

    Raises:
        ParseError: if it is binary, or defines entities in terms of others.
    """
    data = path.read_bytes()
    declared = _DECLARED.search(data[:200])
    text, notes = decode(data, declared.group(1).decode("ascii") if declared else "")
    doctype = _DOCTYPE.search(text)
    if doctype and _ENTITY_OF_ENTITIES.search(doctype.group()):
        raise ParseError("its DTD defines entities in terms of others, as attacks do; replace them by their text")
    root, error = _tree(text)
    if root is not None and _name(root).lower() == "html":
        return from_html(text, path.stem, notes)
    pieces = list(_xml_pieces(root)) if root is not None else []
    if error and (_words(_MARKUP.sub(" ", text)) - _words(" ".join(piece.text for piece in pieces))):
        return _as_text(path, f"it is not valid XML ({error})")
    notes += (f"it is not valid XML ({error}); compare what was read with the file",) if error else ()
    titles = [node.text or "" for node in (root, *root) if _name(node).lower() == "title"] if root is not None else []
    return assemble(pick_title(*titles) or path.stem, pieces, notes=notes)


def _tree(text: str) -> tuple[Any, str]:
    """The root element, None where there is none; and what is wrong with the file."""
    from lxml import etree

    parser = etree.XMLParser(
        encoding="utf-8",
        recover=True,
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        huge_tree=True,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(_DECLARATION.sub("", text).lstrip().encode("utf-8", "replace"), parser)
    except etree.XMLSyntaxError as error:  # nothing at all that could be recovered
        return None, " ".join(error.msg.split())
    errors = [entry for entry in parser.error_log if entry.level >= etree.ErrorLevels.ERROR and not _is_entity(entry)]
    return root, f"line {errors[0].line}: {' '.join(errors[0].message.split())}" if errors else ""


def _is_entity(entry: Any) -> bool:
    """An entity that is not resolved shows as it is written."""
    return entry.type_name in ("ERR_UNDECLARED_ENTITY", "WAR_UNDECLARED_ENTITY")


def _xml_pieces(root: Any) -> Iterator[Piece]:
    name, value = _name(root), _value(root)
    if not isinstance(value, Fields):
        yield from record_pieces(Fields([(name, value)]))
        return
    yield Piece(name, "heading", headings=(name,))
    yield from field_pieces(value, (name,))


def _value(node: Any) -> Value:
    """Attributes, then what is inside: text, or elements by their names."""
    from lxml import etree

    fields: list[tuple[str, Value]] = [(etree.QName(name).localname, value) for name, value in node.items()]
    elements = [child for child in node if isinstance(child.tag, str)]
    texts = [node.text, *(child.tail for child in node)]
    mixed = any(text and not text.isspace() for text in texts)
    if not elements or (mixed and not any(_is_structured(child) for child in elements)):
        text = _inline(node)
        if not fields:
            return text
        return Fields([*fields, ("", text)] if text else fields)
    fields += _between(node.text)
    for child in node:
        fields += [(_name(child), _value(child))] if isinstance(child.tag, str) else _between(child.text)
        fields += _between(child.tail)
    return Fields(fields)


def _between(text: str | None) -> list[tuple[str, Value]]:
    """Text between elements."""
    return [("", " ".join(text.split()))] if text and not text.isspace() else []


def _is_structured(node: Any) -> bool:
    """True for an element that holds elements and no text of its own."""
    return len(node) > 0 and not (node.text or "").strip() and not any((child.tail or "").strip() for child in node)


def _inline(node: Any) -> str:
    text = "".join(_texts(node))
    return "\n".join(" ".join(line.split()) for line in text.strip().split("\n"))


def _texts(node: Any) -> Iterator[str]:
    """Texts in document order; an entity shows as it is written."""
    yield node.text or ""
    for child in node:
        yield from _texts(child) if isinstance(child.tag, str) else (child.text or "",)
        yield child.tail or ""


def _name(node: Any) -> str:
    from lxml import etree

    return str(etree.QName(node).localname) if isinstance(node.tag, str) else ""


def _words(text: str) -> Counter[str]:
    return Counter(re.findall(r"\w+", text))


def _as_text(path: Path, why: str) -> ParsedDocument:
    parsed = parse_text(path)
    return replace(parsed, notes=(f"{why}; it was read as plain text", *parsed.notes))
