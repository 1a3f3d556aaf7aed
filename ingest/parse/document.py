"""What every parser returns. Knows nothing about formats, chunks or the index."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

_NEWLINES = re.compile(r"\r\n?|[\f\v\x85\u2028\u2029]")
_INVISIBLE = re.compile("[\x00-\x08\x0e-\x1f\x7f\u00ad\u200b\u2060\ufeff\ufffe\uffff\ud800-\udfff]")
_LINE_ENDS = re.compile(r"[ \t\u00a0]+$", re.MULTILINE)
_NO_TITLE = re.compile(
    r"untitled|microsoft \w+ -|(word )?document\d*$|.*\.(docx?|xlsx?|pptx?|html?|pdf|indd|tex|dvi|qxp|fm|txt|md)$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph, heading, list item or table: a span of the document's text that stands by itself."""

    start: int
    end: int
    kind: str = "text"
    """`text`, `heading` or `table`; a table is one line a row, cells joined by ` | `."""
    page: int | None = None
    """Counted from 1; None where the format has no pages."""
    headings: tuple[str, ...] = ()
    """The headings above the block, outermost first; a heading's own text is the last of its path."""


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """A document's text, and the blocks that cover all of it but white space, in order, without overlap."""

    title: str
    text: str
    blocks: tuple[Block, ...]
    pages: int
    """Number of pages; 1 where the format has none."""
    notes: tuple[str, ...] = ()
    """What could not be read, for a person to act on, such as `pages 3-7 have no text layer`."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of text on its way to becoming a block."""

    text: str
    kind: str = "text"
    page: int | None = None
    headings: tuple[str, ...] = ()


def clean(text: str) -> str:
    r"""Text without what nobody can see: control characters, soft hyphens, zero-width spaces, lone surrogates.

    Line ends of every kind become `\n`, white space before them goes.
    """
    return _LINE_ENDS.sub("", _INVISIBLE.sub("", _NEWLINES.sub("\n", text)))


def pick_title(*candidates: str) -> str:
    """The first candidate that is a title, on one line: no program's placeholder, no file's name. Else empty."""
    lines = (" ".join(clean(candidate).split()) for candidate in candidates)
    return next((line for line in lines if re.search(r"\w", line) and not _NO_TITLE.match(line)), "")


def assemble(title: str, pieces: Iterable[Piece], pages: int = 1, notes: tuple[str, ...] = ()) -> ParsedDocument:
    """Clean the pieces, join them with blank lines and record where each one went; empty pieces are dropped."""
    parts: list[str] = []
    blocks: list[Block] = []
    position = 0
    for piece in pieces:
        text = clean(piece.text).strip()
        if not text:
            continue
        blocks.append(Block(position, position + len(text), piece.kind, piece.page, piece.headings))
        parts.append(text)
        position += len(text) + 2
    assert all(a.end <= b.start for a, b in pairwise(blocks))
    return ParsedDocument(" ".join(clean(title).split()), "\n\n".join(parts), tuple(blocks), pages, notes)
