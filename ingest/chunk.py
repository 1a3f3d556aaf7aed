"""Parsed document -> passages that fit the embedder, each with its exact place. Pure; knows nothing about models.

A document falls into sections (one page, one heading path, text or a table); LlamaIndex's SentenceSplitter cuts
each section, and every piece it returns is found again in the document's text. Tables are cut between rows.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any
from uuid import UUID, uuid5

from ingest.parse.document import Block, ParsedDocument
from rag import sentences
from rag.types import Chunk

CHUNKER_VERSION = "1"
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


class Chunker:
    """Cuts documents into passages of at most `chunk_tokens` tokens; neighbours share up to `overlap` tokens.

    `tokenize` is the embedder's, without special tokens. Safe to use from several threads.
    """

    def __init__(self, tokenize: Callable[[str], list[str]], chunk_tokens: int, overlap: int) -> None:
        self._limit, self._overlap = chunk_tokens, overlap
        # A section is measured when it may be joined, when it may be cut, and again by the splitter.
        self._count = lru_cache(maxsize=256)(lambda text: len(tokenize(text)))

    def chunks(self, parsed: ParsedDocument, doc_id: str, doc: str) -> list[Chunk]:
        """Passages in document order, ends strictly ascending; every character but white space is in one.

        `parsed.text[chunk.start:chunk.end] == chunk.text`. No passage crosses a page or a table's border.
        """
        return [
            _chunk(parsed, section, span, doc_id, doc)
            for section in self._sections(parsed)
            for span in self._spans(parsed.text, section)
        ]

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
            size = self._count(text[section.start : section.end])
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

    def _spans(self, text: str, section: _Section) -> Iterator[Span]:
        for start, end in _windows(text, section.start, section.end):
            if self._fits(text[start:end]):
                yield start, end
            elif section.is_table:
                yield from self._rows(text, start, end)
            else:
                yield from self._sentences(text, start, end)

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

    def _rows(self, text: str, start: int, end: int) -> Iterator[Span]:
        """As many whole rows as fit; a row that does not fit alone is cut by force."""
        first = last = None
        for line in re.finditer(r"\S(?:[^\n]*\S)?", text[start:end]):
            low, high = start + line.start(), start + line.end()
            if first is not None and last is not None and not self._fits(text[first:high]):
                yield first, last
                first = None
            if first is None and not self._fits(text[low:high]):
                yield from self._by_force(text, low, high)
                continue
            first, last = low if first is None else first, high
        if first is not None and last is not None:
            yield first, last

    def _by_force(self, text: str, start: int, end: int) -> Iterator[Span]:
        """Longest pieces that fit, cut at white space where there is some in their second half."""
        while (ink := _INK.search(text, start, end)) is not None:
            low = ink.start()
            high = self._reach(text, low, end)
            space = max(text.rfind(" ", low, high), text.rfind("\n", low, high))
            if high < end and space > (low + high) // 2:
                high = space
            yield low, low + len(text[low:high].rstrip())
            start = high

    def _reach(self, text: str, low: int, end: int) -> int:
        """End of the longest piece from `low` that fits, at least one character."""
        high = min(end, low + self._limit * _CHARS_PER_TOKEN)
        if self._fits(text[low:high]):
            return high
        good = low + 1
        while high - good > 1:
            middle = (good + high) // 2
            good, high = (middle, high) if self._fits(text[low:middle]) else (good, middle)
        return good

    def _fits(self, text: str) -> bool:
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
        section = _Section(
            block.start, block.end, block.page, block.headings, block.kind == "table", block.kind != "heading"
        )
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


def _chunk(parsed: ParsedDocument, section: _Section, span: Span, doc_id: str, doc: str) -> Chunk:
    start, end = span
    text = parsed.text[start:end]
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return Chunk(
        id=str(uuid5(_NAMESPACE, f"{doc_id}:{start}:{end}:{digest}")),
        doc_id=doc_id,
        doc=doc,
        title=parsed.title,
        page=section.page,
        headings=section.headings,
        start=start,
        end=end,
        text=text,
        kind="table" if section.is_table else "text",
    )
