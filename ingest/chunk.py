"""Parsed document -> passages that fit the embedder, each with its exact place. Pure; knows nothing about models.

A document falls into sections (one page, one heading path, text or a table); LlamaIndex's SentenceSplitter cuts
each section, and every piece it returns is found again in the document's text. Tables are cut between rows, and
their later passages carry the column names along.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any
from uuid import UUID, uuid5

from ingest.context import context_of
from ingest.parse.document import Block, ParsedDocument
from rag import sentences
from rag.types import Chunk

CHUNKER_VERSION = "3"
"""Changes whenever some document would be cut differently; the index is then brought up to date."""

_NAMESPACE = UUID("6f0a7c1e-3b55-5c39-9a5e-2f1d8f6b7a44")
_CHARS_PER_TOKEN = 16
"""Longest passage, in characters for each token: embedders count an unknown word of any length as one token."""
_WINDOW = 100_000
"""Characters given to the splitter at once; bounds its memory on a book without a single full stop."""
_SHORT = 4
"""A section below 1/4 of the limit is short: too little to be found by."""

_PHRASE = r"(?s).+?(?:\n|[,;:.](?=\s)|[、，；]|\Z)"
"""Where a sentence is cut that is too long: never within a number such as 1,234.5."""
_INK = re.compile(r"\S")
_ROW = re.compile(r"\S(?:[^\n]*\S)?")
_HEADER_SHARE = 2
"""Column names that take more than 1/2 of the limit are not repeated: they would crowd out the rows."""

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Section:
    start: int
    end: int
    page: int | None
    headings: tuple[str, ...]
    is_table: bool
    has_body: bool
    """False where it is made of headings alone."""
    header: str = ""
    """A table's column names, where it has some."""


class Chunker:
    """Cuts documents into passages of at most `chunk_tokens` tokens; neighbours share up to `overlap` tokens.

    `count_tokens` is the embedder's, without special tokens. Safe to use from several threads.
    """

    def __init__(
        self, count_tokens: Callable[[str], int], chunk_tokens: int, overlap: int, context_tokens: int = 0
    ) -> None:
        self._limit, self._overlap, self._context = chunk_tokens, overlap, context_tokens
        # A section is measured when it may be joined, when it may be cut, and again by the splitter.
        self._count = lru_cache(maxsize=256)(count_tokens)

    def chunks(
        self, parsed: ParsedDocument, doc_id: str, doc: str, revision: str = "", about: str | None = None
    ) -> Iterator[Chunk]:
        """Passages in document order, ends strictly ascending; every character but white space is in one.

        `parsed.text[chunk.start:chunk.end] == chunk.text`. No passage crosses a page or a table's border. `about` goes
        into their contexts in the place of the title.
        """
        about = parsed.title if about is None else about
        for section in self._sections(parsed):
            for span, header in self._spans(parsed.text, section):
                chunk = _chunk(parsed, section, span, header, doc_id, doc, revision)
                context = context_of(about, chunk.headings, chunk.text, self._count, self._context)
                yield replace(chunk, context=context) if context else chunk

    def _sections(self, parsed: ParsedDocument) -> Iterator[_Section]:
        return self._with_short_joined(parsed.text, _with_titles_joined(_grouped(parsed.blocks)))

    def _with_short_joined(self, text: str, sections: Iterable[_Section]) -> Iterator[_Section]:
        """Neighbours of one page become one section where either is short, both fit together and they are related.

        Related are siblings under one heading, and a heading's own text with what is below it. The joint section
        goes by the headings that both have.
        """
        last: _Section | None = None
        last_size = 0
        for section in sections:
            size = 0 if section.is_table else self._count(text[section.start : section.end])  # a table joins nothing
            if last is None:
                last, last_size = section, size
            elif (
                _related(last, section)
                and last_size + size <= self._limit
                and min(last_size, size) < self._limit // _SHORT
            ):
                last = _join(last, section, _common(last.headings, section.headings))
                last_size += size
            else:
                yield last
                last, last_size = section, size
        if last is not None:
            yield last

    def _spans(self, text: str, section: _Section) -> Iterator[tuple[Span, str]]:
        """Spans of the section's passages, each with the column names to go above it."""
        if section.is_table:
            yield from self._rows(text, section)
            return
        for start, end in _windows(text, section.start, section.end):
            if self._fits(text[start:end]):
                yield (start, end), ""
            else:
                for span in self._sentences(text, start, end):
                    yield span, ""

    def _sentences(self, text: str, start: int, end: int) -> Iterator[Span]:
        """Cut by sentences; by force where the splitter lets through what does not fit."""
        part = text[start:end]
        try:
            pieces = self._splitter.split_text(part)
        except ValueError:  # it met a character that alone has more tokens than the limit
            pieces = []
        for low, high in _located(part, pieces) or [(0, len(part))]:
            if self._fits(part[low:high]):
                yield start + low, start + high
            else:
                yield from self._by_force(text, start + low, start + high)

    def _rows(self, text: str, section: _Section) -> Iterator[tuple[Span, str]]:
        """As many whole rows as fit below the column names; the passage that begins with these goes without."""
        size = self._count(section.header)
        header = section.header if size <= self._limit // _HEADER_SHARE else ""
        own = section.start if text.startswith(section.header, section.start) else -1
        for rows in self._row_groups(text, section, size if header else 0):
            yield from self._fitted(text, rows, header, own)

    def _row_groups(self, text: str, section: _Section, header_size: int) -> Iterator[list[Span]]:
        """Runs of rows that fit by the sum of their tokens, so that each row is counted once and not once a guess."""
        rows: list[Span] = []
        room = self._limit
        for row in _ROW.finditer(text, section.start, section.end):
            line = row.group() + "\n"
            cost = self._count(line) if len(line) <= self._limit * _CHARS_PER_TOKEN else self._limit
            if rows and cost > room:
                yield rows
                rows, room = [], self._limit - header_size
            rows.append(row.span())
            room -= cost
        if rows:
            yield rows

    def _fitted(self, text: str, rows: list[Span], header: str, own: int) -> Iterator[tuple[Span, str]]:
        """Rows, in halves until they fit; a row that does not fit alone is cut by force.

        `own` is where the table's own column names are: what begins there needs no others.
        """
        start, end = rows[0][0], rows[-1][1]
        above = "" if start == own else header
        if self._fits(text[start:end], above):
            yield (start, end), above
        elif len(rows) > 1:
            for half in (rows[: len(rows) // 2], rows[len(rows) // 2 :]):
                yield from self._fitted(text, half, header, own)
        elif self._fits(text[start:end]):
            yield (start, end), ""
        else:
            for low, high in self._by_force(text, start, end, above):
                yield (low, high), above if self._fits(text[low:high], above) else ""

    def _by_force(self, text: str, start: int, end: int, header: str = "") -> Iterator[Span]:
        """Longest pieces that fit below the header, cut at white space where there is some in their second half."""
        while (ink := _INK.search(text, start, end)) is not None:
            low = ink.start()
            high = self._reach(text, low, end, header)
            space = max(text.rfind(" ", low, high), text.rfind("\n", low, high))
            if high < end and space > (low + high) // 2:
                high = space
            yield low, low + len(text[low:high].rstrip())
            start = high

    def _reach(self, text: str, low: int, end: int, header: str) -> int:
        """End of the longest piece from `low` that fits, at least one character."""
        high = min(end, low + self._limit * _CHARS_PER_TOKEN)
        if self._fits(text[low:high], header):
            return high
        good = low + 1
        while high - good > 1:
            middle = (good + high) // 2
            good, high = (middle, high) if self._fits(text[low:middle], header) else (good, middle)
        return good

    def _fits(self, text: str, header: str = "") -> bool:
        text = f"{header}\n{text}" if header else text
        return len(text) <= self._limit * _CHARS_PER_TOKEN and self._count(text) <= self._limit

    @cached_property
    def _splitter(self) -> Any:
        from llama_index.core.node_parser import SentenceSplitter

        # Its own sentence splitter would look for NLTK data, and download them where they are missing.
        return SentenceSplitter(
            chunk_size=self._limit,
            chunk_overlap=self._overlap,
            tokenizer=lambda text: range(self._count(text)),
            paragraph_separator="\n\n",
            chunking_tokenizer_fn=sentences.pieces,
            secondary_chunking_regex=_PHRASE,
        )


def _grouped(blocks: Sequence[Block]) -> Iterator[_Section]:
    """Runs of blocks with one page and one heading path; every table by itself."""
    last: _Section | None = None
    for block in blocks:
        is_table, has_body = block.kind == "table", block.kind != "heading"
        header = block.header if is_table else ""
        section = _Section(block.start, block.end, block.page, block.headings, is_table, has_body, header)
        if last and _same_place(last, section) and last.headings == section.headings:
            last = _join(last, section, last.headings)
            continue
        if last:
            yield last
        last = section
    if last:
        yield last


def _with_titles_joined(sections: Iterable[_Section]) -> Iterator[_Section]:
    """Headings without a body go with the section that follows them on their page, under its headings."""
    last: _Section | None = None
    for section in sections:
        if last and not last.has_body and _same_place(last, section):
            last = _join(last, section, section.headings)
            continue
        if last:
            yield last
        last = section
    if last:
        yield last


def _same_place(first: _Section, second: _Section) -> bool:
    return first.page == second.page and not first.is_table and not second.is_table


def _related(first: _Section, second: _Section) -> bool:
    siblings = first.headings[:-1] == second.headings[:-1]
    below = second.headings[: len(first.headings)] == first.headings
    return _same_place(first, second) and (siblings or below)


def _join(first: _Section, second: _Section, headings: tuple[str, ...]) -> _Section:
    return replace(first, end=second.end, headings=headings, has_body=first.has_body or second.has_body)


def _common(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    same = [a == b for a, b in zip(first, second, strict=False)]
    return first[: same.index(False) if False in same else len(same)]


def _windows(text: str, start: int, end: int) -> Iterator[Span]:
    """A long section in parts that end at the last empty line, line end or space of their second half."""
    while end - start > _WINDOW:
        half, full = start + _WINDOW // 2, start + _WINDOW
        cut = next((at for mark in ("\n\n", "\n", " ") if (at := text.rfind(mark, half, full)) >= 0), full)
        yield start, start + len(text[start:cut].rstrip())
        start = _ink(text, cut, end)
    yield start, end


def _located(text: str, pieces: Sequence[str]) -> list[Span] | None:
    """Where the splitter's pieces lie in `text`; None if that leaves a character out.

    A piece begins no later than the first character that the pieces before it have not reached. The last such
    occurrence is taken: it lies at the true place or behind it, so nothing is skipped, even in periodic text.
    """
    spans: list[Span] = []
    reached = 0
    for piece in pieces:
        start = text.rfind(piece, 0, _ink(text, reached, len(text)) + len(piece))
        if start < 0:
            return None
        if start + len(piece) > reached:
            reached = start + len(piece)
            spans.append((start, reached))
    return spans if _ink(text, reached, len(text)) == len(text) else None


def _ink(text: str, start: int, end: int) -> int:
    """The first character from `start` that is not white space, or `end`."""
    found = _INK.search(text, start, end)
    return found.start() if found else end


def id_of(doc_id: str, revision: str, start: int, end: int) -> str:
    """A passage's id: the same for the same span of the same document, cut from the same content in the same way."""
    return str(uuid5(_NAMESPACE, f"{doc_id}:{revision}:{start}:{end}"))


def _chunk(
    parsed: ParsedDocument, section: _Section, span: Span, header: str, doc_id: str, doc: str, revision: str
) -> Chunk:
    start, end = span
    text = parsed.text[start:end]
    return Chunk(
        id=id_of(doc_id, revision, start, end),
        doc_id=doc_id,
        doc=doc,
        title=parsed.title,
        page=section.page,
        headings=section.headings,
        start=start,
        end=end,
        text=text,
        kind="table" if section.is_table else "text",
        header=header,
        revision=revision,
        date=parsed.date,
        metadata=parsed.metadata,
    )
