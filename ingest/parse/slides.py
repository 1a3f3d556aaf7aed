"""Presentations (.pptx): titles, text boxes, tables, charts, diagrams, speaker notes and comments; a slide is a page.

Knows nothing about the shapes' XML. Read neither by python-pptx nor by `unstructured`: both leave out charts,
diagrams, equations, comments and what a layout says, and one broken shape costs them the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ingest.parse.document import ParsedDocument, Piece, assemble, pick_title
from ingest.parse.drawing import Drawn, lines, shapes
from ingest.parse.package import Package, local, reference
from ingest.parse.rows import table
from rag.errors import ParseError

_NO_TITLE = re.compile(r"((microsoft )?power ?point[- ])?pr\w+ent\w+|slide \d+", re.IGNORECASE)
"""What programs put where a title belongs."""
_NOTES = "Speaker notes"
_COMMENTS = "Comments"
_SHOWN = 10


def parse_pptx(path: Path) -> ParsedDocument:
    """Read a presentation.

    Raises:
        ParseError: if it has no slides, or nothing but pictures. BadZipFile: if it is no Office file.
    """
    with Package(path) as package:
        return _Deck(package).read(path.stem)


class _Deck:
    def __init__(self, package: Package) -> None:
        self._package = package
        self._said: set[str] = set()
        """What stands on every slide is said once."""
        self._pictures: list[int] = []
        """Slides that hold pictures and no text."""
        self._behind: dict[str, list[str]] = {}
        """What a layout or a master shows."""

    def read(self, name: str) -> ParsedDocument:
        slides = self._slides()
        if not slides:
            raise ParseError("it has no slides; open it in the program that it comes from and save it anew")
        pieces: list[Piece] = []
        damaged: list[int] = []
        for number, part in enumerate(slides, start=1):
            before = len(self._package.damaged)
            pieces += self._slide(part, number)
            if len(self._package.damaged) > before:
                damaged.append(number)
        if self._pictures and not any(piece.text.strip() for piece in pieces):
            raise ParseError("its slides hold pictures only, no text; save it as PDF, whose pages are recognised")
        notes = (
            _note(damaged, "damaged, and not all of it could be read"),
            _note(self._pictures, "a picture and no text; the picture was not read"),
        )
        headings = (piece.text for piece in pieces if piece.kind == "heading")
        title = (
            pick_title(*(text for text in (self._package.title(), *headings) if not _NO_TITLE.fullmatch(text))) or name
        )
        return self._package.about(assemble(title, pieces, len(slides), tuple(filter(None, notes))))

    def _slides(self) -> list[str]:
        """The parts of the slides in the order in which they are shown."""
        main = self._package.main()
        root = self._package.xml(main) if main else None
        relations = self._package.relations(main)
        ids = [] if root is None else [reference(node, "id") for node in root.iter("{*}sldId")]
        return [relations[name].part for name in ids if name in relations]

    def _slide(self, part: str, page: int) -> Iterator[Piece]:
        drawn = self._drawn(part)
        title = " ".join(" ".join(shape.text for shape in drawn if shape.kind == "title").split())
        headings = (title,) if title else ()
        yield Piece(title, "heading", page, headings)
        for shape in drawn:
            if shape.kind == "table":
                yield table(shape.rows, page, headings, shape.has_header)
            elif shape.kind == "text":
                yield Piece(shape.text, "text", page, headings)
        for text in self._furniture(part, drawn):
            yield Piece(text, "text", page, headings)
        for text in self._notes(part):
            yield Piece(text, "text", page, (*headings, _NOTES))
        for text in self._comments(part):
            yield Piece(text, "text", page, (*headings, _COMMENTS))
        if not any(shape.text or shape.rows for shape in drawn) and any(shape.kind == "picture" for shape in drawn):
            self._pictures.append(page)

    def _drawn(self, part: str) -> list[Drawn]:
        root = self._package.xml(part)
        tree = None if root is None else root.find("{*}cSld/{*}spTree")
        return [] if tree is None else list(shapes(tree, self._package, part))

    def _furniture(self, part: str, drawn: list[Drawn]) -> Iterator[str]:
        """Footers, and what the slide's layout and master show themselves, when it is seen for the first time."""
        texts = [shape.text for shape in drawn if shape.kind == "furniture"]
        for layout in self._package.related(part, "slideLayout"):
            for master in (layout, *self._package.related(layout, "slideMaster")):
                if master not in self._behind:
                    self._behind[master] = [one.text for one in self._drawn(master) if one.own and one.kind == "text"]
                texts += self._behind[master]
        for text in texts:
            if text not in self._said:
                self._said.add(text)
                yield text

    def _notes(self, part: str) -> Iterator[str]:
        for notes in self._package.related(part, "notesSlide"):
            yield from (shape.text for shape in self._drawn(notes) if shape.kind == "text")

    def _comments(self, part: str) -> Iterator[str]:
        """Comments of either kind: with plain text until 2018, with paragraphs since."""
        for kind in ("comments", "comment"):
            for comments in self._package.related(part, kind):
                root = self._package.xml(comments, needed=False)
                for body in () if root is None else root.iter("{*}text", "{*}txBody"):
                    yield body.text or "" if local(body) == "text" else "\n".join(lines(body))


def _note(slides: list[int], what: str) -> str:
    """`slide 3 is ...`; the first few where there are many."""
    shown = ", ".join(map(str, slides[:_SHOWN])) + (", …" if len(slides) > _SHOWN else "")
    return f"slide {shown}: {what}" if slides else ""
