"""A PDF's outline (its bookmarks) -> headings over the pages' text. Knows nothing about PDFium or other formats.

Exact or nothing: text goes below a heading only if the heading's line is found on its page, or if the page lies
behind it and before the next one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise, takewhile
from typing import NamedTuple

from ingest.parse.document import Piece

_MEANINGLESS = re.compile(r"(page|slide|sheet|seite|p\.?)?\s*[\d.-]*|.*\.(pdf|docx?|pptx?|tiff?|jpe?g)", re.IGNORECASE)
"""What programs put where no person wrote a heading: page numbers and file names."""
_LETTERS = re.compile(r"[^\W_]+")
_LINES = 3
"""A heading may run over so many."""

Path = tuple[str, ...]


class Entry(NamedTuple):
    """A line of the outline."""

    level: int
    title: str
    page: int
    """Counted from 1."""


def headed(texts: Sequence[str], entries: Sequence[Entry]) -> Iterator[Piece]:
    """The pages' texts as pieces below the outline's headings; a piece a page where there is no use in it."""
    above: Path = ()
    by_page = _paths(entries)
    for page, text in enumerate(texts, start=1):
        paths = by_page.get(page, [])
        starts = _found(text, paths)
        if starts is None:
            yield Piece(text, page=page, headings=_common([above, *paths]))
        else:
            yield from _cut(text, page, above, list(zip(paths, starts, strict=True)))
        above = paths[-1] if paths else above


def _paths(entries: Sequence[Entry]) -> dict[int, list[Path]]:
    """Page -> the headings that begin on it; none at all where the outline does not follow the pages."""
    told = [entry for entry in entries if not _MEANINGLESS.fullmatch(entry.title.strip())]
    if any(first.page > second.page for first, second in pairwise(told)):
        return {}
    stack: list[tuple[int, str]] = []
    found: list[tuple[int, Path]] = []
    for entry in told:
        stack = [(level, title) for level, title in stack if level < entry.level]
        stack.append((entry.level, " ".join(entry.title.split())))
        found.append((entry.page, tuple(title for _, title in stack)))
    return {page: [path for _, path in each] for page, each in groupby(found, key=lambda item: item[0])}


def _found(text: str, paths: list[Path]) -> list[tuple[int, int]] | None:
    """Where the headings' lines begin and end, in order; None where one of them is missing."""
    lines = [(match.start(), match.end(), _bare(match[0])) for match in re.finditer(r"[^\n]+", text)]
    spans: list[tuple[int, int]] = []
    at = 0
    for path in paths:
        wanted = _bare(path[-1])
        places = ((first, last) for first in range(at, len(lines)) for last in range(first, first + _LINES))
        hit = next((place for place in places if _joined(lines, *place) == wanted), None)
        if hit is None or not wanted:
            return None
        spans.append((lines[hit[0]][0], lines[hit[1]][1]))
        at = hit[1] + 1
    return spans


def _joined(lines: list[tuple[int, int, str]], first: int, last: int) -> str:
    inside = last < len(lines) and lines[first][2] and lines[last][2]
    return "".join(line[2] for line in lines[first : last + 1]) if inside else ""


def _bare(text: str) -> str:
    return "".join(_LETTERS.findall(text)).casefold()


def _cut(text: str, page: int, above: Path, found: list[tuple[Path, tuple[int, int]]]) -> Iterator[Piece]:
    """The text before the first heading, then each heading and the text below it."""
    end = found[0][1][0] if found else len(text)
    yield Piece(text[:end], page=page, headings=above)
    for number, (path, (start, stop)) in enumerate(found):
        end = found[number + 1][1][0] if number + 1 < len(found) else len(text)
        yield Piece(" ".join(text[start:stop].split()), "heading", page, path)
        yield Piece(text[stop:end], page=page, headings=path)


def _common(paths: Sequence[Path]) -> Path:
    """The headings that all of them lie below."""
    same = takewhile(lambda names: len(set(names)) == 1, zip(*paths, strict=False))
    return tuple(names[0] for names in same)
