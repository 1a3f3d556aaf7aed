"""What every parser returns. Knows nothing about formats, chunks or the index."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from rag.filter import Pairs

_NEWLINES = re.compile(r"\r\n?|[\f\v\x85\u2028\u2029]")
_INVISIBLE = re.compile("[\x00-\x08\x0e-\x1f\x7f\u00ad\u200b\u2060\ufeff\ufffe\uffff\ud800-\udfff]")
_LINE_ENDS = re.compile(r"[ \t\u00a0]+$", re.MULTILINE)
_NO_TITLE = re.compile(
    r"untitled|microsoft \w+ -|(word )?document\d*$|.*\.(docx?|xlsx?|pptx?|html?|pdf|indd|tex|dvi|qxp|fm|txt|md)$",
    re.IGNORECASE,
)


_DAY = re.compile(r"\s*(?:D:)?(\d{4})(?:-?(\d\d))?(?:-?(\d\d))?")
_FIRST_YEAR = 1970
"""What programs and cameras call an earlier day is a clock that was never set."""
_LONGEST_VALUE = 500
"""Characters of a value of the metadata."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a parser may use besides the file itself."""

    spool: Path
    """An empty folder for this one file: members go there, and whatever a helper program needs. Removed afterwards."""
    languages: str = "eng"
    """Languages of scanned text, as tesseract names them: `eng+deu`."""
    max_unpacked: int = 1 << 30
    """Bytes that an archive's or a message's members may have together, unpacked."""
    progress: Callable[[int, int], None] = lambda _done, _of: None
    """Called after every page that takes long, with its number and how many there are; the file's time starts anew."""


class Member(NamedTuple):
    """A document inside another one, such as an attachment: written to the spool, parsed as a file of its own."""

    name: str
    """Its path inside the container, with `/` between folders; never absolute, never with `..`."""
    path: Path


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
    header: str = ""
    """A table's column names, as its first row has them; empty where it has none."""


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
    members: tuple[Member, ...] = ()
    """Documents inside this one; their text is not part of this one's."""
    date: str = ""
    """The document's own ISO day, such as a mail's; empty where the format has none, or none that can be."""
    metadata: Pairs = ()
    """What the format says about the document; see `pairs`."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of text on its way to becoming a block."""

    text: str
    kind: str = "text"
    page: int | None = None
    headings: tuple[str, ...] = ()
    header: str = ""
    """See `Block.header`."""


def clean(text: str) -> str:
    r"""Text without what nobody can see: control characters, soft hyphens, zero-width spaces, lone surrogates.

    Line ends of every kind become `\n`, white space before them goes.
    """
    return _LINE_ENDS.sub("", _INVISIBLE.sub("", _NEWLINES.sub("\n", text)))


def pick_title(*candidates: str) -> str:
    """The first candidate that is a title, on one line: no program's placeholder, no file's name. Else empty."""
    lines = (" ".join(clean(candidate).split()) for candidate in candidates)
    return next((line for line in lines if re.search(r"\w", line) and not _NO_TITLE.match(line)), "")


def pairs(*found: tuple[str, str]) -> Pairs:
    """Keys and values, cleaned, on one line each; without empty values, and each once."""
    cleaned = ((key, " ".join(clean(value).split())[:_LONGEST_VALUE]) for key, value in found)
    return tuple(dict.fromkeys((key, value) for key, value in cleaned if value))


def day(*candidates: str) -> str:
    """The ISO day of the first candidate that begins with a date; empty without one.

    Dates come as in PDF (`D:20240517093000`) and in XML (`2024-05-17T09:30:00Z`); those before 1970 are mistakes.
    """
    for candidate in candidates:
        found = _DAY.match(candidate)
        try:
            made = date(*(int(part or 1) for part in found.groups())) if found else date.min
        except ValueError:
            continue
        if made.year >= _FIRST_YEAR:
            return made.isoformat()
    return ""


def assemble(title: str, pieces: Iterable[Piece], pages: int = 1, notes: tuple[str, ...] = ()) -> ParsedDocument:
    """Clean the pieces, join them with blank lines and record where each one went; empty pieces are dropped."""
    parts: list[str] = []
    blocks: list[Block] = []
    position = 0
    for piece in pieces:
        text = clean(piece.text).strip()
        if not text:
            continue
        header = clean(piece.header).strip()
        blocks.append(Block(position, position + len(text), piece.kind, piece.page, piece.headings, header))
        parts.append(text)
        position += len(text) + 2
    assert all(a.end <= b.start for a, b in pairwise(blocks))
    return ParsedDocument(" ".join(clean(title).split()), "\n\n".join(parts), tuple(blocks), pages, notes)
